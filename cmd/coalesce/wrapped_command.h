// SPDX-License-Identifier: MIT
// What `run` and `key` make of a command line: a command with its surroundings and its key.
#pragma once

#include <coalesce/kept/store_place.h>
#include <coalesce/meeting/meeting_places.h>
#include <coalesce/meeting/requester.h>

#include <variant>

#include "options.h"

namespace coalesce {

/// What was asked, with its key computed unless that is for a server to do; or the exit
/// status when that is the end of it: a mistake that has been explained.
[[nodiscard]] std::variant<RunOptions, int> wrapped_command(std::string_view subcommand, TypedCommand typed);

/// All of it, also of a pipe that others have made non-blocking.
[[nodiscard]] Result<std::string> read_to_end(int fd);

/// How a batch or a server has stale results refreshed, which goes by these options of its own: in the meeting place
/// that the user named, and those with a cluster scope at that engine. Both empty: none was named.
[[nodiscard]] MakeRefreshProgram own_refresh_program(std::string place, std::string engine,
                                                     const ExecutorOptions& options, bool remembers);

/// Where this user's wrappers meet; `named` is the directory that --place or the variable names, empty: none.
[[nodiscard]] Result<MeetingPlaces> own_meeting_places(const std::string& named);

/// And where its classes have their turns.
[[nodiscard]] Result<MeetingPlace> own_place_of_classes(const std::string& named);

/// The store that this process's requests look at; `named` is its directory, empty: the user's own.
[[nodiscard]] Result<StorePlace> own_store_place(const std::string& named, const Rules& rules);

}  // namespace coalesce
