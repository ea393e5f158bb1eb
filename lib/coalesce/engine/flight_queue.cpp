// SPDX-License-Identifier: MIT
#include <coalesce/engine/flight_queue.h>

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

namespace coalesce {

FlightQueue::FlightQueue(Loop& loop, const ExecutorOptions& options, const Places& places,
                         UniqueFunction<void(FlightId)> on_turn)
    : loop_(loop), options_(options), places_(places), on_turn_(std::move(on_turn)) {}

bool FlightQueue::may_start(const OfClass& of_class) const noexcept {
    return place_free() && places_.free(of_class.waiting_for_turn.size());
}

// Not what this process asks for itself: that is one request to those above, which all of it waits for.
bool FlightQueue::shares_turn(const CommandFlight& flight, const std::vector<pid_t>& askers) const {
    return options_.turnstile != nullptr && flight.job.asker != ::getpid() &&
           options_.turnstile->shares_turn(*flight.job.run_class, askers);
}

bool FlightQueue::lets_pass(const CommandFlight& flight) const noexcept {
    if (!place_free() || held_back(flight)) return false;
    if (!flight.job.run_class) return queue_.empty();
    const auto own = classes_.find(flight.job.run_class->name);
    return own == classes_.end() || (own->second.queue.empty() && may_start(own->second));
}

void FlightQueue::push(Flight flight) {
    const FlightId id = flight->id();
    flight->turn.reset();
    const bool waits_for_turn = flight->job.run_class && !shares_turn(*flight, flight->run().askers);
    Queue& queue = waits_for_turn ? classes_[flight->job.run_class->name].queue : queue_;
    queue.emplace(id, std::move(flight));
}

FlightQueue::Flight FlightQueue::take_first() {
    if (!place_free()) return nullptr;
    std::optional<FlightId> first;
    const auto look_at = [&](Queue& queue) {
        const auto own = first_of(queue);
        if (own != queue.end() && (!first || own->first < *first)) first = own->first;
    };
    look_at(queue_);
    for (auto& [name, of_class] : classes_)
        if (may_start(of_class)) look_at(of_class.queue);
    return first ? take(*first) : nullptr;
}

FlightQueue::Queue::iterator FlightQueue::first_of(Queue& queue) const {
    return std::find_if(queue.begin(), queue.end(), [this](const auto& one) { return !held_back(*one.second); });
}

std::optional<Outcome> FlightQueue::wait_for_turn(Flight& flight, RunTimes* times) {
    if (!flight->job.run_class || flight->turn) return std::nullopt;
    const RunClass& run_class = *flight->job.run_class;
    if (options_.turnstile == nullptr) return Outcome::refused(ENOTSUP, "there are no classes here");
    const FlightId id = flight->id();
    const auto known =
        times != nullptr ? times->usually(CommandFlights::key_of(flight->completer.flight())) : std::nullopt;
    auto turn = options_.turnstile->ask(loop_, run_class, jobs_of(run_class, options_.class_jobs), flight->run().askers,
                                        known ? Turns::Time(known->time) : std::nullopt, [this, id] { on_turn_(id); });
    if (!turn) return Outcome::refused(turn.error().code.value(), "cannot " + turn.error().message());
    flight->turn = std::move(*turn);
    if (flight->turn->has_come()) return std::nullopt;
    Run& run = flight->run();
    run.phase = Run::Phase::queued;
    run.others = flight->turn->others();
    flight->completer.queue();
    classes_[run_class.name].waiting_for_turn.emplace(id, std::move(flight));
    return std::nullopt;
}

FlightQueue::Flight FlightQueue::take_with_turn(FlightId id) {
    Flight flight = take(id);
    if (!flight) return nullptr;
    if (place_free() && !held_back(*flight)) {
        flight->completer.begin();
        return flight;
    }
    push(std::move(flight));
    return nullptr;
}

void FlightQueue::joined_by(FlightId id, pid_t asker) {
    CommandFlight* const flight = find(id);
    if (flight == nullptr || !flight->job.run_class) return;
    if (flight->turn) return flight->turn->joined_by(asker);
    if (!queue_.contains(id) && shares_turn(*flight, {asker})) queue_.emplace(id, take(id));
}

Turns::Time FlightQueue::turn_in_class(FlightId id) const {
    const CommandFlight* const flight = find(id);
    return flight != nullptr && flight->turn ? flight->turn->expected() : std::chrono::milliseconds(0);
}

CommandFlight* FlightQueue::find(FlightId id) const {
    if (const auto found = queue_.find(id); found != queue_.end()) return found->second.get();
    for (const auto& [name, of_class] : classes_) {
        if (const auto found = of_class.queue.find(id); found != of_class.queue.end()) return found->second.get();
        const auto waiting = of_class.waiting_for_turn.find(id);
        if (waiting != of_class.waiting_for_turn.end()) return waiting->second.get();
    }
    return nullptr;
}

FlightQueue::Flight FlightQueue::take(FlightId id) {
    if (auto found = queue_.extract(id)) return std::move(found.mapped());
    for (auto own = classes_.begin(); own != classes_.end(); ++own) {
        auto& [queue, waiting] = own->second;
        Flight flight;
        if (auto queued = queue.extract(id))
            flight = std::move(queued.mapped());
        else if (auto found = waiting.extract(id))
            flight = std::move(found.mapped());
        if (!flight) continue;
        if (queue.empty() && waiting.empty()) classes_.erase(own);
        return flight;
    }
    return nullptr;
}

FlightQueue::Flight FlightQueue::take_any() {
    if (!queue_.empty()) return take(queue_.begin()->first);
    if (classes_.empty()) return nullptr;
    const OfClass& of_class = classes_.begin()->second;
    return take(of_class.queue.empty() ? of_class.waiting_for_turn.begin()->first : of_class.queue.begin()->first);
}

}  // namespace coalesce
