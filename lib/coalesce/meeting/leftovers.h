// SPDX-License-Identifier: MIT
// Leftovers: what a dead supervisor's flight still has running, and its end (SPEC F13, R6).
//
// Nobody is signalled but the flight's own: the recorded process, and the members of its
// session; where the recorded process has gone, so that nothing but a number is left,
// only those whose environment names the flight, or the turn. Each is looked at again through its
// pidfd, so that between the look and the signal its number cannot have passed on. Nothing here
// waits: whoever wants them gone asks again.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include <coalesce/meeting/flight_record.h>

namespace coalesce {

enum class Leftovers {
    none,   ///< nothing is left that we could end
    dying,  ///< told to end just now, and not seen to be gone
};

/// Kills what is left of the run that `record` tells of. `names_run`: whether a process with that environment is the
/// run's.
Leftovers end_leftovers(const FlightRecord& record,
                        const std::function<bool(const std::vector<std::string>& environment)>& names_run);

}  // namespace coalesce
