// SPDX-License-Identifier: MIT
// Which program a word means behind this one: a link of its name to us may come first on PATH (SPEC A2).
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace coalesce {

/// The file that execvp(3) would find for a word without a slash by this value of PATH, or without one, but for
/// what leads to the program that this process executes. Nothing: there is none. What PATH names by a relative path
/// is looked for from `directory`; empty: from this process's own.
[[nodiscard]] std::optional<std::string> find_other_program(std::string_view word,
                                                            std::optional<std::string_view> path_variable,
                                                            std::string_view directory = {});
/// The same, but where there is no other: what leads to us.
[[nodiscard]] std::optional<std::string> find_program_behind_us(std::string_view word,
                                                                std::optional<std::string_view> path_variable,
                                                                std::string_view directory);
/// By this process's own PATH.
[[nodiscard]] std::optional<std::string> find_other_program(std::string_view word);

/// Whether that file, by whatever name, is the program that this process executes.
[[nodiscard]] bool is_own_program(const std::string& file);

}  // namespace coalesce
