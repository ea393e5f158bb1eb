// SPDX-License-Identifier: MIT
// Interruptions: the user's signals on their way to the command, and what becomes of the requester (SPEC R5).
//
// The first one is passed on, and what the command still says is waited for; a second one ends the command
// and the requester now. Who is asked first, and who is then told to end but does not read, is not waited
// for: nobody has our request, or it was stopped.
#pragma once

#include <chrono>
#include <optional>

#include <coalesce/command/insistence.h>
#include <coalesce/meeting/connection.h>

namespace coalesce {

class Interruptions {
  public:
    using Clock = std::chrono::steady_clock;

    /// Passes on what has come (attention.h). Returned: the signal that ends us now.
    [[nodiscard]] std::optional<int> pass_on(Connection& connection);
    /// One that asks to end has been passed on.
    [[nodiscard]] bool passed_on() const noexcept { return passed_on_; }
    /// When that should have been read; nothing: it need not be.
    [[nodiscard]] std::optional<Clock::time_point> heard_by() const noexcept { return heard_by_; }
    /// That time has come, and it has not been read. True once.
    [[nodiscard]] bool unheard(const Connection& connection);
    /// Somebody else is asked now.
    void ask_anew() noexcept { heard_by_.reset(); }

  private:
    Insistence insistence_;
    bool passed_on_ = false;
    std::optional<Clock::time_point> heard_by_;
};

}  // namespace coalesce
