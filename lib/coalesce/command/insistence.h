// SPDX-License-Identifier: MIT
// When a signal is a second one. One event is often told twice: a terminal that closes
// tells its foreground group, and the shell then tells its jobs; timeout(1) tells its
// child, and then the group. Taken for impatience, that would cost the command the
// time to clean up that its sender meant to give it.
#pragma once

#include <chrono>
#include <optional>

namespace coalesce {

class Insistence {
  public:
    using Clock = std::chrono::steady_clock;
    enum class Is { first, echo, second };

    /// What a signal that has just come is. An echo is the first one's number again,
    /// within 200 ms of it; nobody presses Ctrl-C twice as fast as that.
    Is told(int number, Clock::time_point now = Clock::now()) {
        if (!first_at_) {
            first_at_ = now;
            first_ = number;
            return Is::first;
        }
        return number == first_ && now - *first_at_ < echo_within ? Is::echo : Is::second;
    }

  private:
    static constexpr std::chrono::milliseconds echo_within{200};
    std::optional<Clock::time_point> first_at_;
    int first_ = 0;
};

}  // namespace coalesce
