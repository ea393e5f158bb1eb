// SPDX-License-Identifier: MIT
#include <coalesce/engine/landings.h>

#include <utility>

namespace coalesce {

void Landings::land(std::unique_ptr<CommandFlight> flight, Outcome outcome) {
    Run& run = flight->run();
    flight->turn.reset();  // which may be one that it still waits for
    flight->shared = flight->membership && run.phase != Run::Phase::asking;
    run.phase = Run::Phase::ending;
    run.pid = -1;
    if (run.spool) run.spool->close();
    auto result = flight->result_of(std::move(outcome));
    const std::shared_ptr<Retention> retention = run.retention;
    if (!retention) return settle(std::move(flight), std::move(result));
    const FlightId id = flight->id();
    flight->completer.close_to_joiners();  // what is over is not joined
    flight->result = result;
    under_way_.emplace(id, std::move(flight));
    places_.take(id);  // as long as nobody has been told that it is free
    retention->keep(result, [this, id] { kept(id); });
}

void Landings::kept(FlightId id) {
    auto over = under_way_.extract(id);
    if (!over) return;
    places_.give_back(id);
    auto result = std::move(over.mapped()->result);
    settle(std::move(over.mapped()), std::move(result));
    if (events_.on_later) events_.on_later();
}

void Landings::settle(std::unique_ptr<CommandFlight> flight, std::shared_ptr<const RunResult> result) {
    if (flight->shared) return conclude(std::move(flight), std::move(result));
    deliver(std::move(flight), result);
}

// Those elsewhere first. Until they are told the flight stays in the table.
void Landings::conclude(std::unique_ptr<CommandFlight> flight, std::shared_ptr<const RunResult> result) {
    flight->completer.close_to_joiners();  // what is over is not joined
    flight->source.reset();
    const FlightId id = flight->id();
    Sharing::Membership& membership = *flight->membership;
    const RunResult& told = *result;
    flight->result = std::move(result);
    under_way_.emplace(id, std::move(flight));
    membership.conclude(told, [this, id] {
        auto concluded = under_way_.extract(id);
        if (!concluded) return;
        const auto landing = std::move(concluded.mapped()->result);
        deliver(std::move(concluded.mapped()), landing);
        if (events_.on_later) events_.on_later();
    });
}

void Landings::deliver(std::unique_ptr<CommandFlight> flight, const std::shared_ptr<const RunResult>& result) {
    const FlightId id = flight->id();
    auto completer = std::move(flight->completer);
    const bool remembered = times_ != nullptr && flight->tells_how_long(*result);
    flight.reset();
    if (events_.on_over) events_.on_over(id, result);
    completer.value(result);
    if (remembered) times_->ran(CommandFlights::key_of(completer.flight()), *result);  // its requesters come first
    if (events_.on_landed) events_.on_landed(id);
}

}  // namespace coalesce
