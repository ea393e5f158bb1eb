// SPDX-License-Identifier: MIT
// The terminal that a command is to have as its outputs, as it was asked for: --pty, --pty-size (SPEC P3).
#pragma once

#include <coalesce/command/terminal_size.h>

#include <optional>

namespace coalesce {

struct TypedTerminal {
    bool wanted = false;
    std::optional<TerminalSize> size;
};

/// Nothing where none is wanted, whatever the size: a rule may name that for all commands. Without a size it is as wide
/// as the terminal that we are on, by our standard output, else by our standard error.
[[nodiscard]] std::optional<TerminalSize> terminal_of(const TypedTerminal& typed);

}  // namespace coalesce
