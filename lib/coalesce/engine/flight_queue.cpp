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

bool FlightQueue::may_start(bool in_class) const noexcept {
    return place_free() && (!in_class || places_.free(waiting_for_turn_.size()));
}

// Not what this process asks for itself: that is one request to those above, which all of it waits for.
bool FlightQueue::shares_turn(const CommandFlight& flight, const std::vector<pid_t>& askers) const {
    return options_.turnstile != nullptr && flight.job.asker != ::getpid() &&
           options_.turnstile->shares_turn(*flight.job.run_class, askers);
}

bool FlightQueue::lets_pass(const CommandFlight& flight) const noexcept {
    const bool in_class = flight.job.run_class.has_value();
    return (in_class ? queue_of_classes_ : queue_).empty() && may_start(in_class) && !held_back(flight);
}

void FlightQueue::push(Flight flight) {
    const FlightId id = flight->id();
    const bool waits_for_turn = flight->job.run_class && !shares_turn(*flight, flight->run().askers);
    (waits_for_turn ? queue_of_classes_ : queue_).emplace(id, std::move(flight));
}

FlightQueue::Flight FlightQueue::take_first() {
    Queue* from = nullptr;
    Queue::iterator first;
    for (Queue* const queue : {&queue_, &queue_of_classes_}) {
        if (queue->empty() || !may_start(queue == &queue_of_classes_)) continue;
        const auto own = first_of(*queue);
        if (own == queue->end() || (from != nullptr && first->first < own->first)) continue;
        from = queue;
        first = own;
    }
    return from != nullptr ? std::move(from->extract(first).mapped()) : nullptr;
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
    waiting_for_turn_.emplace(id, std::move(flight));
    return std::nullopt;
}

FlightQueue::Flight FlightQueue::take_with_turn(FlightId id) {
    auto waiting = waiting_for_turn_.extract(id);
    if (!waiting) return nullptr;
    Flight flight = std::move(waiting.mapped());
    if (place_free() && !held_back(*flight)) {
        flight->completer.begin();
        return flight;
    }
    flight->turn.reset();
    push(std::move(flight));
    return nullptr;
}

void FlightQueue::joined_by(FlightId id, pid_t asker) {
    if (const auto found = waiting_for_turn_.find(id); found != waiting_for_turn_.end())
        return found->second->turn->joined_by(asker);
    const auto queued = queue_of_classes_.find(id);
    if (queued != queue_of_classes_.end() && shares_turn(*queued->second, {asker}))
        queue_.insert(queue_of_classes_.extract(queued));
}

Turns::Time FlightQueue::turn_in_class(FlightId id) const {
    const auto found = waiting_for_turn_.find(id);
    return found == waiting_for_turn_.end() ? std::chrono::milliseconds(0) : found->second->turn->expected();
}

CommandFlight* FlightQueue::find(FlightId id) const {
    for (const Queue* const queue : {&queue_, &queue_of_classes_})
        if (const auto found = queue->find(id); found != queue->end()) return found->second.get();
    const auto found = waiting_for_turn_.find(id);
    return found != waiting_for_turn_.end() ? found->second.get() : nullptr;
}

FlightQueue::Flight FlightQueue::take(FlightId id) {
    for (Queue* const queue : {&queue_, &queue_of_classes_})
        if (auto found = queue->extract(id)) return std::move(found.mapped());
    if (auto found = waiting_for_turn_.extract(id)) return std::move(found.mapped());
    return nullptr;
}

FlightQueue::Flight FlightQueue::take_any() {
    for (Queue* const queue : {&queue_, &queue_of_classes_})
        if (!queue->empty()) return take(queue->begin()->first);
    return waiting_for_turn_.empty() ? nullptr : take(waiting_for_turn_.begin()->first);
}

std::size_t FlightQueue::size() const noexcept {
    return queue_.size() + queue_of_classes_.size() + waiting_for_turn_.size();
}

bool FlightQueue::hold(bool held) noexcept { return std::exchange(held_, held) != held; }

}  // namespace coalesce
