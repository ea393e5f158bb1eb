// SPDX-License-Identifier: MIT
// Requester: the foreground process of `coalesce run`.
//
// Joins the flight of its key or forks a supervisor and is its first requester;
// passes on the output as it comes; ends as the command did. It has no event loop
// and no threads: it lives for milliseconds, and forks. When its supervisor dies
// before it was given anything, it asks again and with the others elects a new
// leader; after it has passed output on, it cannot take that back and says so (R6).
#pragma once

#include <coalesce/command/command.h>
#include <coalesce/command/key.h>
#include <coalesce/command/result.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include <coalesce/meeting/meeting_places.h>
#include <coalesce/meeting/run_end.h>
#include <coalesce/meeting/supervisor.h>

namespace coalesce {

struct RunOptions {
    FlightOrders orders;
    KeyRules rules;          ///< as the user gave them, for a server to apply
    std::string place;       ///< the meeting place that the user named
    std::string socket;      ///< ask the server there instead
    bool own_grace = false;  ///< orders.grace is the user's, and not for a server to choose
    Wish wish;               ///< for that server; else orders.kept has it
    bool fresh = false;
    bool verbose = false;
    std::optional<std::chrono::milliseconds> wait;
    std::optional<std::uint64_t> tail;  ///< pass on only so many lines of each stream, at the end
};

/// Answers from what is kept, or by a flight in the meeting place; with options.socket by the server there.
Result<RunEnd> request_run(RunOptions options);

}  // namespace coalesce
