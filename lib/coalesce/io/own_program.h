// SPDX-License-Identifier: MIT
// Which program a word means behind this one: a link of its name to us may come first on PATH (SPEC A2).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace coalesce {

/// The file that execvp(3) would find for a word without a slash on `path`, but for what leads to the
/// program that this process executes. Nothing: there is none.
[[nodiscard]] std::optional<std::string> find_other_program(std::string_view word, std::string_view path);

}  // namespace coalesce
