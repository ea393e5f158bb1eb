// SPDX-License-Identifier: MIT
// RunSource: where a run's output and its end come from.
//
// To the executor a run is what arrives here: bytes of two streams, and one end. A process of
// this machine is such a source (process_source.h); a run that somebody else has under way is
// another. A source is made without being started, and may be destroyed at any time, also from
// inside its own events; then nothing more comes, and what it had started is over.
#pragma once

#include <coalesce/command/outcome.h>
#include <coalesce/flight/unique_function.h>

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <span>

#include <coalesce/io/stream.h>

namespace coalesce {

class RunSource {
  public:
    /// They come on turns of their own, not inside start().
    struct Events {
        UniqueFunction<void(Stream, std::span<const char>)> on_output;
        UniqueFunction<void(Outcome)> on_ended;  ///< once, last
    };
    /// Why there is no run.
    struct Refusal {
        Outcome outcome;
        bool for_want = false;  ///< of processes, memory or descriptors: when another run ends there may be some
    };

    RunSource() = default;
    RunSource(const RunSource&) = delete;
    RunSource& operator=(const RunSource&) = delete;
    virtual ~RunSource() = default;

    /// Called once. After a refusal no event follows.
    virtual std::optional<Refusal> start(Events events) = 0;

    /// Its process on this machine, from its start to its end; -1: it has none.
    [[nodiscard]] virtual pid_t pid() const noexcept = 0;
    /// Asks it to end, and ends it after `grace`. Asked again, it ends by the earlier of both.
    virtual void terminate(std::chrono::milliseconds grace) = 0;
    /// Hands a signal on to the command.
    virtual void signal(int number) noexcept = 0;

    /// Backpressure: while paused it hands out no output, and so holds up the command.
    virtual void pause() noexcept = 0;
    virtual void resume() = 0;
};

}  // namespace coalesce
