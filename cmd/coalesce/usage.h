// SPDX-License-Identifier: MIT
// Help texts and suggestions, from the words of the definitions.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "command_line.h"

namespace coalesce {

/// The whole --help of a subcommand.
[[nodiscard]] std::string help_of(const CommandText& command);

/// The help of `coalesce` itself.
[[nodiscard]] std::string general_help(std::span<const CommandText> commands);

/// The candidate that `word` was probably meant to be: one that it begins, or nearly is;
/// empty: there is none.
[[nodiscard]] std::string nearest(std::string_view word, std::span<const std::string> candidates);

}  // namespace coalesce
