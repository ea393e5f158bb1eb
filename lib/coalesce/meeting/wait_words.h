// SPDX-License-Identifier: MIT
// WaitWords: what a requester's user is told of the wait, and when (SPEC R8, H3).
//
// It hears what the flight says of its run, and gives sentences: at the start and at joining with -v; of a
// run that is joined or waited for after a second on a terminal, once; with -v again every half a
// minute. An estimate from earlier runs is part of them where there is one. It has no clock and writes
// nothing; that nobody is told anything once output has been passed on is the requester's business.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include <coalesce/engine/run_times.h>
#include <coalesce/protocol/message.h>

namespace coalesce {

class WaitWords {
  public:
    struct Now {
        std::chrono::steady_clock::time_point steady;
        std::chrono::system_clock::time_point wall;
    };

    /// For -v, or for a terminal.
    explicit WaitWords(bool verbose) : verbose_(verbose) {}

    /// The request is made.
    void begin(std::chrono::steady_clock::time_point now) { begun_ = now; }
    [[nodiscard]] bool begun() const noexcept { return begun_ != std::chrono::steady_clock::time_point(); }

    /// The event "started"; `title` is what the requester calls its command. Returns what -v says, and else nothing.
    [[nodiscard]] std::string started(const Fields& event, const std::string& title, const Now& now);
    /// The event "waiting".
    [[nodiscard]] std::string waiting(const Fields& event, const std::string& title, const Now& now);

    /// When there is something to say next, if by then nothing has been passed on; nothing: never.
    [[nodiscard]] std::optional<std::chrono::steady_clock::time_point> due() const;
    /// What there is to say, once that time has come; empty before. Off a terminal only -v says it.
    [[nodiscard]] std::string say_due(const Now& now);

  private:
    enum class State { unknown, started, joined, queued };
    [[nodiscard]] std::string about_run(const Now& now) const;
    [[nodiscard]] std::string about_queue(const Now& now) const;

    bool verbose_;
    State state_ = State::unknown;
    unsigned told_ = 0;
    std::chrono::steady_clock::time_point begun_;
    std::string others_;  // for which a queued one waits, where it is in a class
    std::string title_;   // of a joined run it may be another command's, with --key
    std::int64_t pid_ = 0;
    std::string host_;  // where it runs, if runs are shared with other machines
    std::chrono::system_clock::time_point started_;
    std::optional<Usually> usually_;
    std::optional<std::chrono::steady_clock::time_point> turn_;  // of one that waits, as a guess
};

}  // namespace coalesce
