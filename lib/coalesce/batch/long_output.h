// SPDX-License-Identifier: MIT
// LongOutput: what becomes of runs that write more than is kept (SPEC F9).
//
// Past the replay limit a result cannot be kept whole, so the request that led the run
// is shown it as it comes, where that can be: alone, as text. Where it wants no output,
// it is read and dropped, so that the command goes on. Whoever else shares the run is
// refused at its end.
#pragma once

#include <coalesce/command/outcome.h>
#include <coalesce/flight/flight_ref.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>

#include <coalesce/io/spool.h>

namespace coalesce {

class CommandExecutor;
class Delivery;
class Loop;

class LongOutput {
  public:
    struct Leader {
        std::uint64_t sequence = 0;
        bool with_output = true;
    };

    /// `as_text`: output is printed as it is, so it can be shown before its end is known.
    LongOutput(Loop& loop, CommandExecutor& executor, Delivery& delivery, std::uint64_t replay_bytes, bool as_text);

    /// The run is past the limit and paused. `leader` is nothing where it has left.
    void begin(FlightId run, const std::optional<Leader>& leader);
    /// Whether this request is being shown that run.
    [[nodiscard]] bool shown_to(FlightId run, std::uint64_t sequence) const;
    /// It was told the end.
    void shown(FlightId run) { live_.erase(run); }
    /// It gave up: what it has been shown cannot be shown to another.
    void give_up(FlightId run);
    /// The run has landed.
    void over(FlightId run) { drains_.erase(run); }

    /// What those are told who cannot be given the output.
    [[nodiscard]] Outcome refusal() const;

  private:
    void drain(FlightId run);

    Loop& loop_;
    CommandExecutor& executor_;
    Delivery& delivery_;
    const std::uint64_t replay_bytes_;
    const bool as_text_;
    std::unordered_map<FlightId, std::uint64_t> live_;  // printed while they run, and to whom
    std::unordered_map<FlightId, std::unique_ptr<SpoolReader>> drains_;
};

}  // namespace coalesce
