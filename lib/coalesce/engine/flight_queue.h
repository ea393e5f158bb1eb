// SPDX-License-Identifier: MIT
// FlightQueue: the flights that have yet to run, in the order of their first requests (SPEC F12).
//
// A flight of a class may have to wait for more than a place, so each class queues by itself and
// holds up no other: what it waits for may ask for something of another class. Who waits for a turn of its class has no
// place meanwhile, or what it waits for might wait for that place; but no more of a class wait so than there are
// places, since each of them costs something. Who asks from a run of the class is not held up by those: they may wait
// for that run. Starting them is the executor's. Internal.
#pragma once

#include <coalesce/command/outcome.h>
#include <coalesce/flight/unique_function.h>

#include <cstddef>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <coalesce/engine/command_flight.h>
#include <coalesce/engine/executor_options.h>
#include <coalesce/engine/places.h>
#include <coalesce/engine/run_times.h>
#include <coalesce/engine/turns.h>

namespace coalesce {

class Loop;

class FlightQueue {
  public:
    using Flight = std::unique_ptr<CommandFlight>;

    /// All of them must outlive it. `on_turn`: the turn of that flight has come; it is to be taken.
    FlightQueue(Loop& loop, const ExecutorOptions& options, const Places& places,
                UniqueFunction<void(FlightId)> on_turn);

    /// One that comes now may run at once: nobody is before it.
    [[nodiscard]] bool lets_pass(const CommandFlight& flight) const noexcept;
    /// Its number is its place: a flight that comes back is before all that came later. It has no turn here.
    void push(Flight flight);
    /// The first that may start, out of the queue; null: none may.
    [[nodiscard]] Flight take_first();

    /// Asks for the turn that its class demands, if it has one. Where it has to wait, it is ours from here on.
    /// Returned: why there is none for it.
    std::optional<Outcome> wait_for_turn(Flight& flight, RunTimes* times);
    /// When that comes for which the flight waits, as far as that can be guessed; at once where it waits for none.
    [[nodiscard]] Turns::Time turn_in_class(FlightId id) const;
    /// Null: there is no place any more. It waits for that, and then for another turn: meanwhile others have this one.
    [[nodiscard]] Flight take_with_turn(FlightId id);

    /// One more process asks for that flight, which may start now.
    void joined_by(FlightId id, pid_t asker);

    /// Null: it does not wait here.
    [[nodiscard]] CommandFlight* find(FlightId id) const;
    [[nodiscard]] Flight take(FlightId id);
    /// Any one, out of the queue; null: nobody waits.
    [[nodiscard]] Flight take_any();
    [[nodiscard]] std::size_t size() const noexcept {
        std::size_t size = queue_.size();
        for (const auto& [name, of_class] : classes_) size += of_class.queue.size() + of_class.waiting_for_turn.size();
        return size;
    }

    /// While held, nothing leaves for want of a place but what is to be tried again: that is no new start, and others
    /// may wait for its end. Whether that is new.
    bool hold(bool held) noexcept { return std::exchange(held_, held) != held; }
    /// Held for ever.
    void close() noexcept { closed_ = true; }
    [[nodiscard]] bool closed() const noexcept { return closed_; }

  private:
    using Queue = std::map<FlightId, Flight>;  // ordered: first request first

    [[nodiscard]] bool place_free() const noexcept { return !closed_ && places_.free(); }
    [[nodiscard]] bool held_back(const CommandFlight& flight) const noexcept { return held_ && flight.attempts == 0; }
    struct OfClass {
        Queue queue;
        std::unordered_map<FlightId, Flight> waiting_for_turn;
    };
    using Classes = std::map<std::string, OfClass>;  // by name; none is empty

    [[nodiscard]] bool may_start(const OfClass& of_class) const noexcept;
    [[nodiscard]] Queue::iterator first_of(Queue& queue) const;
    [[nodiscard]] bool shares_turn(const CommandFlight& flight, const std::vector<pid_t>& askers) const;

    Loop& loop_;
    const ExecutorOptions& options_;
    const Places& places_;
    UniqueFunction<void(FlightId)> on_turn_;
    Queue queue_;  // of those that need no more than a place, or a turn that somebody shares with them
    Classes classes_;
    bool held_ = false;
    bool closed_ = false;
};

}  // namespace coalesce
