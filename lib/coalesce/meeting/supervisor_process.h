// SPDX-License-Identifier: MIT
// The supervisor's process: what a child that was forked for a flight does before it supervises it.
//
// It has nothing of whoever forked it but what the command is to inherit: a session of its own, no
// handlers, /dev/null for the standard streams, and no descriptor that would keep the caller's pipes
// and locks for as long as the flight lasts. OwnSupervisor is such a child, as its forker knows it.
#pragma once

#include <coalesce/command/result.h>

#include <sys/types.h>

#include <chrono>
#include <vector>

#include <coalesce/io/descriptor.h>
#include <coalesce/meeting/supervisor.h>

namespace coalesce {

/// Leaves the forker's session, signals and descriptors, but for `kept`. False, with errno: the kernel does not
/// tell which descriptors there are.
[[nodiscard]] bool leave_forker(std::vector<int> kept);

class OwnSupervisor {
  public:
    /// Forks one that supervises the flight whose listener that is; the connection of its first requester, which is
    /// us. In the child nothing is left of them; here the listener stays open.
    [[nodiscard]] Result<Descriptor> start(FlightOrders& orders, MeetingPlaces& places, Descriptor& listener);
    /// Waits for its end, if there is one, but not longer than that, nor when called (attention.h). Where nobody else
    /// reaps orphans, as under many a container's first process, it would stay a zombie for ever.
    void reap(std::chrono::milliseconds patience);

  private:
    pid_t pid_ = -1;  // until it is reaped
};

/// Supervises the flight whose listener that is, and ends. `leader` is the connection of the requester
/// that forked us, with its pid.
[[noreturn]] void become_supervisor(FlightOrders orders, MeetingPlaces places, Descriptor listener, Descriptor leader,
                                    pid_t leader_pid);

}  // namespace coalesce
