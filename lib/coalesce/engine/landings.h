// SPDX-License-Identifier: MIT
// Landings: what happens between the end of a run and the moment at which its requesters are told.
//
// In this order: its result is kept (retention.h), and keeps its place under the limit as long as that
// takes; those who share it elsewhere are told (sharing.h); who watches all ends is told; and then it lands,
// which frees its key and tells its requesters. The first two may end later than they began. How long
// a run took is remembered last. Internal.
#pragma once

#include <coalesce/flight/unique_function.h>

#include <memory>
#include <unordered_map>

#include <coalesce/engine/command_flight.h>
#include <coalesce/engine/places.h>
#include <coalesce/engine/run_times.h>

namespace coalesce {

class Landings {
  public:
    struct Events {
        UniqueFunction<void(FlightId, const std::shared_ptr<const RunResult>&)> on_over = {};
        UniqueFunction<void(FlightId)> on_landed = {};
        UniqueFunction<void()> on_later = {};  ///< one that took its time has landed
    };

    /// `places` must outlive it.
    explicit Landings(Places& places) : places_(places) {}

    [[nodiscard]] Events& events() noexcept { return events_; }
    void remember_in(RunTimes& times) noexcept { times_ = &times; }
    [[nodiscard]] RunTimes* times() const noexcept { return times_; }

    /// Its run is over, as that, or has never started.
    void land(std::unique_ptr<CommandFlight> flight, Outcome outcome);
    /// With a result that nothing was run for.
    void deliver(std::unique_ptr<CommandFlight> flight, const std::shared_ptr<const RunResult>& result);
    /// It is over, and its requesters have yet to be told.
    [[nodiscard]] bool under_way(FlightId id) const { return under_way_.contains(id); }

  private:
    void kept(FlightId id);
    void settle(std::unique_ptr<CommandFlight> flight, std::shared_ptr<const RunResult> result);
    void conclude(std::unique_ptr<CommandFlight> flight, std::shared_ptr<const RunResult> result);

    Places& places_;
    Events events_;
    RunTimes* times_ = nullptr;
    std::unordered_map<FlightId, std::unique_ptr<CommandFlight>> under_way_;
};

}  // namespace coalesce
