// SPDX-License-Identifier: MIT
// Run and RunResult: what the requesters of a command flight share.
//
// Run is the flight's state while it is in the air: a late joiner finds the
// recorded output here and replays it from byte 0. RunResult is what the landing
// delivers. Both hold the same spool, which lives as long as anyone reads it.
#pragma once

#include <coalesce/command/outcome.h>
#include <coalesce/flight/completer.h>
#include <coalesce/flight/ticket.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

#include <coalesce/engine/retention.h>
#include <coalesce/io/spool.h>

namespace coalesce {

struct Run {
    enum class Phase { queued, asking, running, ending };  ///< asking: whether it runs here or elsewhere
    Phase phase = Phase::queued;
    pid_t pid = -1;                                   ///< while a process is there
    std::string title;                                ///< the command as a person reads it
    std::chrono::system_clock::time_point requested;  ///< by the leader
    std::chrono::system_clock::time_point started;    ///< the last attempt
    std::shared_ptr<Spool> spool;                     ///< null before the run has started
    bool refresh = false;                             ///< it was started for a store
    std::string run_class;                            ///< empty: it has none
    std::size_t others = 0;                           ///< of its class, for which it had to wait when it came
    std::vector<pid_t> askers;                        ///< the processes that asked for it, each once, for its turn
    // Only where runs are shared further (sharing.h):
    std::chrono::milliseconds newest_request{0};  ///< since boot
    bool fresh = false;                           ///< one of its requesters wants a run that begins after that
    bool read_live = false;                       ///< some of its output may have been given away before its end
    std::string host;                             ///< where it runs; empty: not known, or not shared
    /// Set with the end of one that was elsewhere: how long it took there, and since when it is over.
    struct EndElsewhere {
        std::chrono::milliseconds took{0};
        std::chrono::milliseconds over_for{0};
        std::array<std::uint64_t, 2> sizes{};  ///< of its output, also where that was not wanted
    };
    std::optional<EndElsewhere> end_elsewhere;
    std::size_t elsewhere = 0;             ///< machines that wait for it, beside this one
    std::shared_ptr<Retention> retention;  ///< null: nothing is kept of it and nothing kept is asked for
};

/// What a result is that was not made for its requesters, but had been kept (SPEC T).
struct KeptMark {
    std::chrono::nanoseconds age{0};   ///< since its run ended
    std::chrono::nanoseconds left{0};  ///< until it may be cleaned away
    bool refreshing = false;           ///< it is stale, and a run of its key is on its way
    std::string directory = {};        ///< where it was made
};

struct RunResult {
    std::uint64_t run = 0;  ///< the flight's id: equal for those who shared it
    Outcome outcome;
    std::shared_ptr<Spool> spool;  ///< closed; null when the run never started
    std::string title;
    std::chrono::system_clock::time_point requested;
    std::chrono::system_clock::time_point started;
    std::chrono::nanoseconds duration{0};
    unsigned attempts = 0;
    bool cut_short = false;  ///< its only requester sent it a signal that as a rule ends it: an end for nobody else
    std::string host;        ///< where it ran, if that was elsewhere
    std::chrono::nanoseconds over_for{0};                         ///< so much longer than its end is known here
    std::optional<std::array<std::uint64_t, 2>> sizes_elsewhere;  ///< of its output, if it ended elsewhere
    std::optional<KeptMark> kept;                                 ///< set if nothing was run for it

    /// How much it has written, also where none of that was fetched.
    [[nodiscard]] std::uint64_t written(Stream stream) const noexcept {
        if (sizes_elsewhere) return (*sizes_elsewhere)[index_of(stream)];
        return spool ? spool->size(stream) : 0;
    }
};

using RunTicket = Ticket<RunResult, Run>;
using RunCompleter = Completer<RunResult, Run>;

}  // namespace coalesce
