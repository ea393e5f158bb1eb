// SPDX-License-Identifier: MIT
#include <coalesce/meeting/supervisor_process.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include <coalesce/io/unix_socket.h>
#include <coalesce/meeting/attention.h>
#include <coalesce/meeting/connection.h>
#include <coalesce/protocol/message.h>

namespace coalesce {
namespace {

// Itself and one that asks. Without, it would start the command only to die.
bool supervisor_has_descriptors() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_max > supervisors_descriptors) return true;
    errno = EMFILE;
    return false;
}

}  // namespace

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
    if (orders.circle) {  // before there is a loop
        auto started = Guard::start();
        if (!started) end_with(started.error());
        guard = std::move(*started);
    }
    [[maybe_unused]] const auto held = supervise(std::move(orders), std::move(places), std::move(listener),
                                                 std::move(leader), leader_pid, std::move(guard));
    ::_exit(0);  // with all that is held: who leads waits for it
}

Result<Descriptor> OwnSupervisor::start(FlightOrders& orders, MeetingPlaces& places, Descriptor& listener) {
    const pid_t leader = ::getpid();
    orders.numbering = Numbering::of_children();
    auto ends = connected_pair();
    pid_ = ends && supervisor_has_descriptors() ? ::fork() : -1;
    if (pid_ < 0) return system_error_now("start a supervisor");
    if (pid_ > 0) return std::move(ends->one);
    become_supervisor(std::move(orders), std::move(places), std::move(listener), std::move(ends->other), leader);
}

void OwnSupervisor::reap(std::chrono::milliseconds patience) {
    if (pid_ < 0) return;
    const Attention::Restless bounded(patience);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR)
        if (Attention::called()) return;
    pid_ = -1;
}

}  // namespace coalesce
