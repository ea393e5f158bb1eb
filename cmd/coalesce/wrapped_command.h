// SPDX-License-Identifier: MIT
// What `run` and `key` make of a command line: a command with its surroundings and its key.
#pragma once

#include <coalesce/kept/store_place.h>
#include <coalesce/meeting/requester.h>

#include <variant>

#include "options.h"

namespace coalesce {

/// What was asked, with its key computed unless that is for a server to do; or the exit
/// status when that is the end of it: a mistake that has been explained.
[[nodiscard]] std::variant<RunOptions, int> wrapped_command(std::string_view subcommand, TypedCommand typed);

/// All of it, also of a pipe that others have made non-blocking.
[[nodiscard]] Result<std::string> read_to_end(int fd);

/// How a batch or a server has stale results refreshed, in the meeting place that the user named.
[[nodiscard]] MakeRefreshProgram own_refresh_program(std::string place);

/// The store that this process's requests look at; `named` is its directory, empty: the user's own.
[[nodiscard]] Result<StorePlace> own_store_place(const std::string& named, const Rules& rules);

}  // namespace coalesce
