// SPDX-License-Identifier: MIT
// Server: flights for any program that can open a unix socket (SPEC S).
//
// One loop, many clients, many requests a connection, answers as they finish. It
// is the batch's executor behind the supervisor's sessions: it adds the checks of
// who may ask, the limits, the modes of output, and an orderly end. What it tells
// and understands is in coalesce-protocol(7).
#pragma once

#include <coalesce/command/result.h>

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <coalesce/cluster/cluster.h>
#include <coalesce/engine/command_executor.h>
#include <coalesce/kept/refreshes.h>

namespace coalesce {

struct ServerOptions {
    std::string socket;  ///< path; empty: server.sock in the meeting place, or what systemd passes
    CommandExecutor::Options executor;
    std::string cache_directory;              ///< of what is kept, that the user named
    StoreBounds cache_bounds;                 ///< that the user configured
    MakeRefreshProgram make_refresh_program;  ///< how a stale result is refreshed
    std::shared_ptr<const Circle> circle;     ///< of machines that share what is asked for under a cluster scope
    std::string circle_fault;                 ///< why there is none, where one was meant: who names a scope is told
    std::vector<uid_t> allowed_users;         ///< beside our own and root
    std::size_t requesters_max = 100'000;     ///< waiting at a time
    std::size_t queue_max = 10'000;           ///< flights that wait for their turn
    std::size_t clients_max = 0;              ///< connections at a time; worked out from the limit on descriptors
    std::chrono::milliseconds drain{30'000};  ///< for running flights, once told to stop
    std::chrono::milliseconds grace{10'000};
    std::chrono::milliseconds stall{60'000};  ///< for one who reads nothing while others wait
    bool remembers = true;                    ///< how long runs took, and tells it (SPEC H)
    std::string log_level = "info";
};

/// Serves until SIGTERM or SIGINT and what was running has ended. Returns the exit
/// status, with those signals blocked, since the process is to end now; an Error is something that kept it from
/// starting.
Result<int> serve(ServerOptions options);

inline constexpr int protocol_version = 1;

}  // namespace coalesce
