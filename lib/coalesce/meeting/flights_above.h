// SPDX-License-Identifier: MIT
// Flights above: under which flights of a meeting place a process runs, as its parents tell (SPEC F11).
//
// The environment says it, too, and at no cost; this is for who comes without. A flight is
// known by its command, which leads a session, and whose parent is a supervisor: where
// no parent has the name of one, nothing is looked for in the meeting place. Whether a flight that
// was joined waits for one of them, its requesters tell.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>

#include <coalesce/meeting/meeting_places.h>

namespace coalesce {

/// In the form of the variable (command/ancestry.h); empty: none that can be found.
[[nodiscard]] std::string ancestry_of_process(const MeetingPlaces& places, pid_t process);

/// Does the flight of `key`, which we have just joined on behalf of a command that runs under coalesce itself, wait,
/// through whatever others, for that command's? Asked after joining, so that of two requests that close a ring at
/// once, at least one sees the other. Not looked for any further once we are told to end.
[[nodiscard]] bool waits_for(const MeetingPlaces& places, const std::string& key, std::string_view flight);

}  // namespace coalesce
