// SPDX-License-Identifier: MIT
// Process chain: the session leaders above a process, as far as they can be read.
//
// Every command leads a session of its own, so whatever it starts can be told by that,
// whatever environment it has. One step a session rather than one a process: most of the
// processes between a terminal and a command are in one session, and each step reads a
// file in /proc. A chain ends where a parent is gone, is not ours to see, or is another
// pid namespace's; nobody is found in it who is not there.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace coalesce {

struct SessionAbove {
    pid_t leader = 0;
    pid_t parent = 0;  ///< of the leader
    std::string name;  ///< the leader's, as in /proc/PID/comm
};

/// The sessions that `process` runs in, its own first.
[[nodiscard]] std::vector<SessionAbove> sessions_above(pid_t process);

}  // namespace coalesce
