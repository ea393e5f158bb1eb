// SPDX-License-Identifier: MIT
#include <coalesce/meeting/supervisor_process.h>

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <utility>

#include <coalesce/meeting/attention.h>
#include <coalesce/meeting/connection.h>
#include <coalesce/protocol/message.h>

namespace coalesce {

bool leave_forker(std::vector<int> kept) {
    ::setsid();
    Attention::forget();
    ::signal(SIGHUP, SIG_IGN);
    ::signal(SIGCHLD, SIG_DFL);  // which PID 1 ignores
    std::sort(kept.begin(), kept.end());
    if (!close_all_but(kept)) return false;
    ::open("/dev/null", O_RDWR);  // becomes 0, the lowest free
    ::dup2(0, 1);
    ::dup2(0, 2);
    return true;
}

void become_supervisor(FlightOrders orders, MeetingPlaces places, Descriptor listener, Descriptor leader,
                       pid_t leader_pid) {
    std::vector<int> kept{listener.get(), leader.get()};
    for (const MeetingPlace* place : places.all()) kept.push_back(place->directory());
    const auto end_with = [&](const Error& refused) {
        places.own().leave(orders.key);
        Connection(std::move(leader)).send(Message().error("lost", refused.message()).line());
        ::_exit(125);
    };
    if (!leave_forker(std::move(kept))) end_with(system_error_now("cannot close what the supervisor is not to hold"));
    std::unique_ptr<Guard> guard;
    if (orders.cluster) {  // before there is a loop
        auto started = Guard::start();
        if (!started) end_with(started.error());
        guard = std::move(*started);
    }
    supervise(std::move(orders), std::move(places), std::move(listener), std::move(leader), leader_pid,
              std::move(guard));
    ::_exit(0);
}

}  // namespace coalesce
