// SPDX-License-Identifier: MIT
#include <coalesce/serve/run_statistics.h>

#include <algorithm>
#include <charconv>
#include <string>

namespace coalesce {

using namespace std::chrono;

void RunStatistics::add(const RunResult& result, std::size_t joiners) {
    switch (result.outcome.kind) {
        case Outcome::Kind::cancelled:
            ++cancelled_;
            return;  // spared nobody a run, and its time says nothing
        case Outcome::Kind::timed_out:
            ++timeouts_;
            break;
        default:
            if (!result.outcome.success()) ++failures_;
    }
    running_ += result.duration;
    saved_ += result.duration * static_cast<std::int64_t>(joiners);
    if (result.spool) output_bytes_ += result.spool->size();
    const double seconds = duration<double>(result.duration).count();
    ++durations_[static_cast<std::size_t>(std::lower_bound(bounds_.begin(), bounds_.end(), seconds) - bounds_.begin())];
}

void RunStatistics::tell(Message& message) const {
    Message durations;
    for (std::size_t i = 0; i < durations_.size(); ++i) {
        char bound[32] = "+Inf";
        if (i < bounds_.size()) *std::to_chars(bound, bound + sizeof bound, bounds_[i]).ptr = '\0';
        durations.number(bound, static_cast<std::int64_t>(durations_[i]));
    }
    message.seconds("saved", saved_)
        .number("failures", static_cast<std::int64_t>(failures_))
        .number("timeouts", static_cast<std::int64_t>(timeouts_))
        .number("cancelled", static_cast<std::int64_t>(cancelled_))
        .number("output", static_cast<std::int64_t>(output_bytes_))
        .seconds("run_time", running_)
        .raw("durations", durations.object());
}

}  // namespace coalesce
