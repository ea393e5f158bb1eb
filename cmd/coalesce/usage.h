// SPDX-License-Identifier: MIT
// Help texts and suggestions, from the option tables.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "options.h"

namespace coalesce {

/// The whole --help of a subcommand.
[[nodiscard]] std::string help_of(const CommandText& command);

/// The help of `coalesce` itself.
[[nodiscard]] std::string general_help();

/// The names of an option: {"-j", "--jobs"}.
[[nodiscard]] std::vector<std::string_view> names_of(const OptionText& option);

/// The candidate that `word` was probably meant to be; empty: none is near.
[[nodiscard]] std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates);

}  // namespace coalesce
