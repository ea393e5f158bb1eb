// SPDX-License-Identifier: MIT
// The supervisor's process: what a child that was forked for a flight does before it supervises it.
//
// It has nothing of whoever forked it but what the command is to inherit: a session of its own, no
// handlers, /dev/null for the standard streams, and no descriptor that would keep the caller's pipes
// and locks for as long as the flight lasts.
#pragma once

#include <sys/types.h>

#include <vector>

#include <coalesce/io/descriptor.h>
#include <coalesce/meeting/supervisor.h>

namespace coalesce {

/// Leaves the forker's session, signals and descriptors, but for `kept`. False, with errno: the kernel does not
/// tell which descriptors there are.
[[nodiscard]] bool leave_forker(std::vector<int> kept);

/// Supervises the flight whose listener that is, and ends. `leader` is the connection of the requester
/// that forked us, with its pid.
[[noreturn]] void become_supervisor(FlightOrders orders, MeetingPlaces places, Descriptor listener, Descriptor leader,
                                    pid_t leader_pid);

}  // namespace coalesce
