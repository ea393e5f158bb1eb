// SPDX-License-Identifier: MIT
// Turns: when those that wait under a limit of runs get their place, guessed from how long runs take.
//
// Told of what runs and then of what waits, in the order of the queue (SPEC F12). It knows no
// flights and no clock. Of a run that nobody can guess at it expects nothing good, so what it says
// is at worst too long; where that leaves no guess it says nothing.
#pragma once

#include <algorithm>
#include <chrono>
#include <functional>
#include <optional>
#include <queue>
#include <vector>

namespace coalesce {

class Turns {
  public:
    using Time = std::optional<std::chrono::milliseconds>;  ///< from now; nothing: not known

    /// `limit` of runs at a time; 0: none.
    explicit Turns(unsigned limit) : limit_(limit) {}

    /// One that has a place, and gives it back then.
    void running(Time left) { ends_.push(left.value_or(never)); }

    /// The next in the queue, which takes so long once it has begun and begins no earlier than `after`. Returns when.
    [[nodiscard]] Time waiting(Time takes, Time after) {
        auto turn = after.value_or(never);
        for (; limit_ != 0 && ends_.size() >= limit_; ends_.pop()) turn = std::max(turn, ends_.top());
        ends_.push(turn == never || !takes ? never : turn + *takes);
        return turn == never ? Time() : Time(turn);
    }

  private:
    static constexpr auto never = std::chrono::milliseconds::max();
    unsigned limit_;
    std::priority_queue<std::chrono::milliseconds, std::vector<std::chrono::milliseconds>, std::greater<>> ends_;
};

}  // namespace coalesce
