// SPDX-License-Identifier: MIT
#include "own_terminal.h"

#include <unistd.h>

#include <cstdint>

#include <coalesce/io/terminal.h>

namespace coalesce {

std::optional<TerminalSize> terminal_of(const TypedTerminal& typed) {
    if (!typed.wanted || typed.size) return typed.wanted ? typed.size : std::nullopt;
    TerminalSize size;
    auto columns = terminal_columns(STDOUT_FILENO);
    if (!columns) columns = terminal_columns(STDERR_FILENO);
    if (columns) size.columns = static_cast<std::uint16_t>(*columns);
    return size;
}

}  // namespace coalesce
