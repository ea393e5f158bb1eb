// SPDX-License-Identifier: MIT
// The command line that `run` and `key` share: options, then a command.
#pragma once

#include <coalesce/command/key.h>
#include <coalesce/command/result.h>
#include <coalesce/meeting/requester.h>

#include <optional>
#include <variant>

#include "options.h"

namespace coalesce {

/// What was asked, with its key computed unless that is for a server to do; or the exit
/// status when that is the end of it (--help, or a mistake that has been explained).
struct WrappedCommand {
    RunOptions run;
};
std::variant<WrappedCommand, int> read_wrapped_command(const CommandText& text, int argc, char** argv);

}  // namespace coalesce
