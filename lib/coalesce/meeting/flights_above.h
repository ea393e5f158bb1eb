// SPDX-License-Identifier: MIT
// Flights above: under which flights of a meeting place a process runs, as its parents tell (SPEC F11).
//
// The environment says it, too, and at no cost; this is for who comes without. A flight is
// known by its command, which leads a session, and whose parent is a supervisor: where
// no parent has the name of one, nothing is looked for in the meeting place.
#pragma once

#include <sys/types.h>

#include <string>

#include <coalesce/meeting/meeting_places.h>

namespace coalesce {

/// In the form of the variable (command/ancestry.h); empty: none that can be found.
[[nodiscard]] std::string ancestry_of_process(const MeetingPlaces& places, pid_t process);

}  // namespace coalesce
