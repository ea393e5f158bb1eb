// SPDX-License-Identifier: MIT
// Supervisor: the process that owns one wrapper flight (SPEC R).
//
// Forked by the first requester before it has a loop or threads, it inherits that
// requester's environment, directory, umask, limits, niceness and cgroup, which is
// why there is no daemon whose context could be wrong. It runs the command, records
// its output, answers whoever joins, and goes when the last of them has been
// served. It speaks the socket protocol's fd mode: output stays in the spool's
// file, whose descriptor is passed once, and messages carry lengths. A requester
// answers each output message with an empty line when it has dealt with it, so that
// past the replay limit its place is known. The supervisor may be gone while a slow requester still copies.
//
// A flight that follows in the same supervisor (a fresh request, a request during
// a cancellation) runs the same command in the same context, within the limits of the requester that leads it.
#pragma once

#include <coalesce/command/command.h>
#include <coalesce/command/key.h>
#include <coalesce/command/run_class.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include <coalesce/cluster/cluster.h>
#include <coalesce/io/descriptor.h>
#include <coalesce/meeting/keeping.h>
#include <coalesce/meeting/meeting_places.h>
#include <coalesce/meeting/run_limits.h>

namespace coalesce {

struct FlightOrders {
    Command command;
    std::optional<std::string> line;  ///< when the command is a shell line
    std::string title;
    std::string key;  ///< its hash
    std::string canonical_surroundings;
    std::string canonical_words;
    RunLimits limits;
    std::chrono::milliseconds stall{60'000};  ///< for a requester that reads nothing while others wait
    std::uint64_t replay_bytes = std::uint64_t{1} << 30;
    std::string spool_directory;
    ClassJobs class_jobs;                    ///< the classes that are set up
    bool keep_running = false;               ///< the leader's: let the run finish when it leaves
    std::string ancestry;                    ///< the flights under which the leader asks, if any
    bool verbose = false;                    ///< the leader's: it wants to hear of the start
    std::string directory;                   ///< the working directory's name, for a reader
    std::vector<Dependency> dependencies;    ///< files, whose states are in the key
    TreeState state;                         ///< what those were
    std::optional<ProgramIdentity> program;  ///< what is executed, where the leader has looked
    std::optional<KeptOrders> kept;          ///< nothing is kept nor served, unless a joiner wishes so
    bool remembers = true;                   ///< how long runs took, and tells it (SPEC H)
    bool fresh = false;                      ///< the leader's: a run elsewhere that has begun will not do
    std::shared_ptr<const Circle> circle;    ///< of machines that share its runs; null: with nobody
    std::chrono::milliseconds asked{0};      ///< by the leader, since boot; where they do
    std::optional<Numbering> numbering;      ///< of the supervisor, where who forks it has looked
    bool heir = false;                       ///< takes over after a dead supervisor: others are on their way
};

/// Descriptors that a supervisor keeps for itself and the run's pipes and files. Where the
/// hard limit leaves no more than these there is no flight, and a requester that would
/// take one of them waits to be accepted: it would make the run fail for everyone.
inline constexpr std::size_t supervisors_descriptors = 24;

/// Runs the flight and returns when its last requester has been served.
/// `leader` is the connection of the requester that forked us. With orders.circle there is a `guard`.
/// Returned is what it was made of, which need not be taken apart in a process that ends.
[[nodiscard]] std::shared_ptr<void> supervise(FlightOrders orders, MeetingPlaces places, Descriptor listener,
                                              Descriptor leader, pid_t leader_pid, std::unique_ptr<Guard> guard);

}  // namespace coalesce
