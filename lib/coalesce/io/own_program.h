// SPDX-License-Identifier: MIT
// Which program a word means behind this one: a link of its name to us may come first on PATH (SPEC A2).
#pragma once

#include <coalesce/command/result.h>

#include <optional>
#include <string>
#include <string_view>

namespace coalesce {

/// The file that execvp(3) would find for a word without a slash, but for what leads to the program that this process
/// executes. Where there is none, the reason that execvp(3) would give: ENOENT, or EACCES of one that may not be
/// executed.
[[nodiscard]] Result<std::string> find_other_program(std::string_view word);
/// The same by this value of PATH, or without one; but where there is no other: what leads to us. What PATH names by a
/// relative path is looked for from `directory`; empty: from this process's own.
[[nodiscard]] std::optional<std::string> find_program_behind_us(std::string_view word,
                                                                std::optional<std::string_view> path_variable,
                                                                std::string_view directory);

/// Whether that file, by whatever name, is the program that this process executes.
[[nodiscard]] bool is_own_program(const std::string& file);

}  // namespace coalesce
