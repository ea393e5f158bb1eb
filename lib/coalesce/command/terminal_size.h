// SPDX-License-Identifier: MIT
// TerminalSize: the terminal that a command is given in place of pipes, as it can be named (SPEC P3).
//
// Its size never changes during a run, since all who share the run see what was laid out for
// it; so it is a part of the key, and what programs are told of it by variables is not, beside it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <coalesce/command/result.h>

namespace coalesce {

struct TerminalSize {
    std::uint16_t columns = 80;
    std::uint16_t lines = 24;

    bool operator==(const TerminalSize&) const = default;
};

/// "120x24", and back.
[[nodiscard]] Result<TerminalSize> parse_terminal_size(std::string_view text);
[[nodiscard]] std::string text_of(TerminalSize size);

/// Sets what programs on a terminal of that size are told: COLUMNS and LINES. And that nothing pages,
/// since a pager waits for keys, which nobody can press: PAGER and its like.
void set_terminal_variables(std::vector<std::string>& env, TerminalSize size);

/// Whether the line above sets that variable.
[[nodiscard]] bool is_terminal_variable(std::string_view name);

}  // namespace coalesce
