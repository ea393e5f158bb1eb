// SPDX-License-Identifier: MIT
// PseudoTerminal: what a command gets as its outputs when it is to think that somebody looks (SPEC P).
//
// It passes bytes on as they were written: no carriage return is put before a newline and
// nothing is echoed, unless the command turns that on itself. Our descriptor of the command's side
// can only be written to: who reads an answer from it fails at once, as with /dev/tty. That the
// terminal controls nobody is for who starts the command to see to (Program::apart).
#pragma once

#include <coalesce/command/result.h>
#include <coalesce/command/terminal_size.h>

#include <coalesce/io/descriptor.h>

namespace coalesce {

struct PseudoTerminal {
    Descriptor ours;    ///< read from, non-blocking; EIO is its end
    Descriptor theirs;  ///< the command's

    /// Both are close-on-exec.
    static Result<PseudoTerminal> open(TerminalSize size);
};

/// As much as may be on its way from one side to the other.
inline constexpr std::size_t pseudo_terminal_bytes_max = 128 * 1024;

}  // namespace coalesce
