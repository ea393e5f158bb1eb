// SPDX-License-Identifier: MIT
// Attention: hears signals and the end of patience wherever a requester waits (SPEC R5).
//
// A requester has no loop: it blocks in one system call or another, in some of them
// for as long as a stranger likes. So whatever it waits for, what may end the wait is
// noted by handlers without SA_RESTART, and a timer then ticks until it has been dealt
// with: a call that was about to block when the signal came is interrupted a
// moment later. Who waits looks at called() whenever a call says EINTR. Signals that are
// blocked around each wait, as ppoll wants them, would cost two calls a wait and
// help with no other call.
#pragma once

#include <poll.h>

#include <chrono>
#include <optional>
#include <span>

namespace coalesce {

/// There is one in a process, since signals are the process's.
class Attention {
  public:
    using Clock = std::chrono::steady_clock;

    /// From here on: INT, TERM, HUP and QUIT, USR1 and USR2 are noted, except for those
    /// that the caller has left ignored (nohup, a background job).
    static void begin();
    /// As before, for a child that has nothing to do with us.
    static void forget() noexcept;

    /// Gives up at that time.
    static void until(Clock::time_point deadline);
    [[nodiscard]] static bool out_of_time();

    /// There is something to deal with.
    [[nodiscard]] static bool called();
    /// It is a signal that ends, or the end of patience.
    [[nodiscard]] static bool told_to_end();
    /// One of INT, TERM, HUP and QUIT has come since it was last taken: the latest.
    static std::optional<int> take_signal();
    /// USR1 or USR2 has.
    static std::optional<int> take_user_signal();
    /// The latest of INT, TERM, HUP and QUIT; 0: none has come.
    [[nodiscard]] static int last_signal() noexcept;

    /// While it lasts a tick counts as a call, the first after `first`: whoever is blocked
    /// looks up now and then.
    class Restless {
      public:
        explicit Restless(std::chrono::milliseconds first = std::chrono::milliseconds(1));
        ~Restless();
        Restless(const Restless&) = delete;
        Restless& operator=(const Restless&) = delete;
    };

    /// As poll(2), for at most `timeout` milliseconds (-1: no limit); ends early when called.
    /// Returns how many are ready.
    static int wait(std::span<pollfd> watched, int timeout);
};

}  // namespace coalesce
