// SPDX-License-Identifier: MIT
// RunStatistics: what a server's runs came to since its start, for "stats" and for who scrapes metrics.
//
// Sums and a histogram of durations, so that a reader who asks now and then can tell rates and
// percentiles of the time between. Nothing is kept of a single run.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include <coalesce/engine/run.h>
#include <coalesce/protocol/message.h>

namespace coalesce {

class RunStatistics {
  public:
    /// Counts a run that is over, with how many requests it was shared by beside the first.
    void add(const RunResult& result, std::size_t joiners);
    /// Adds what was counted, as the protocol's "stats" names it.
    void tell(Message& message) const;

  private:
    // A second as well as an hour: each bound is about three times the one before.
    static constexpr std::array<double, 9> bounds_{0.01, 0.03, 0.1, 0.3, 1, 3, 10, 60, 600};

    std::uint64_t failures_ = 0;  // ended by themselves, and not with status 0
    std::uint64_t timeouts_ = 0;
    std::uint64_t cancelled_ = 0;
    std::uint64_t output_bytes_ = 0;
    std::chrono::nanoseconds running_{0};
    std::chrono::nanoseconds saved_{0};
    std::array<std::uint64_t, bounds_.size() + 1> durations_{};  // the last: longer than every bound
};

}  // namespace coalesce
