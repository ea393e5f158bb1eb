// SPDX-License-Identifier: MIT
// One request as it ended, and a batch's sums: the facts that every account of
// a batch is told from (report, joblog, JSON results, timeline page, closing
// line), so that no two of them can disagree. Plain values; who writes them
// where is each account's own business.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include <coalesce/command/outcome.h>
#include <coalesce/engine/run.h>

namespace coalesce {

/// Who asked, what it got and when. Moments are wall-clock, to be shown; the
/// durations are measured on the steady clock, to be summed.
struct RequestRecord {
    std::uint64_t sequence = 0;  ///< line of the input, from 1
    std::uint64_t run = 0;       ///< the flight; equal for those who shared it
    std::string command;         ///< as it was asked for, any bytes
    std::string id;              ///< the client's id as JSON text, or empty
    bool joined = false;         ///< it shared a run that another request had led
    std::size_t requesters = 1;  ///< how many shared the run, this one included

    std::chrono::system_clock::time_point requested{};
    std::chrono::system_clock::time_point started{};  ///< of the run; the epoch if it never started
    std::chrono::system_clock::time_point ended{};    ///< of the run; of the request, if none ran for it
    std::chrono::nanoseconds waited{};                ///< from asking to the result
    std::chrono::nanoseconds run_time{};              ///< of the run; zero if it never started

    std::uint64_t stdout_bytes = 0;
    std::uint64_t stderr_bytes = 0;
    Outcome outcome{};
    unsigned attempts = 1;           ///< runs it took, with retries
    std::optional<KeptMark> kept{};  ///< nothing was run for it; started and run_time are of the run that made it
};

/// A batch as a whole.
struct BatchSummary {
    std::uint64_t requests = 0;
    std::uint64_t runs = 0;
    std::uint64_t shared = 0;           ///< requests that joined a run instead of starting one
    std::uint64_t failed = 0;           ///< requests, not runs: a failure shared by ten counts ten
    std::chrono::nanoseconds wall{};    ///< from the first request to the last result
    std::chrono::nanoseconds saved{};   ///< run time of the shared requests, had each run alone
    std::uint64_t kept = 0;             ///< requests that were served what had been kept
    std::chrono::nanoseconds spared{};  ///< run time of what had been kept
};

}  // namespace coalesce
