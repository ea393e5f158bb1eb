// SPDX-License-Identifier: MIT
// Flight: one run and everybody who waits for it, from the first request to the
// last delivery, with the type that it lands with. Internal; users hold its two
// ends, Ticket and Completer.
//
// It is little: what it lands with, the state that its requesters may look at, and
// how a callback and a start are called with their types. All else is flight_core.h's;
// what a key is, and which flight is the live one, is left to the table.
#pragma once

#include <coalesce/flight/flight_core.h>
#include <coalesce/flight/landing.h>

#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace coalesce {

/// A flight whose run keeps nothing to be found by its requesters.
struct NoState {};

template <class T, class State>
class Completer;

namespace detail {

template <class T, class State>
class Flight : public FlightCore {
  public:
    Flight(TableCore& table, FlightId flight_id, std::size_t key_hash) : FlightCore(table, flight_id, key_hash) {}

    [[nodiscard]] State& state() noexcept { return state_; }
    /// What a completer lands the flight with, to be set before complete().
    [[nodiscard]] Landing<T>& landing() noexcept { return landing_; }

    /// Gives a member its callback, to be called with the landing.
    template <class F>
    void set_callback(Waiter& place, F&& callback) {
        if (!takes_callback(place)) return;
        place.callback.emplace_as<Told<std::decay_t<F>>>(std::forward<F>(callback));
        has_callback(place);
    }

    /// Calls `start` with the completer. What it throws lands the flight.
    template <class F>
    void run_with(F&& start) {
        using Called = std::remove_reference_t<F>;
        run(const_cast<void*>(static_cast<const void*>(std::addressof(start))), [](void* called, FlightCore& flight) {
            std::forward<F> (*static_cast<Called*>(called))(completer_of(flight));
        });
    }

    /// A start that is to wait.
    template <class F>
    [[nodiscard]] static Start kept(F&& start) {
        Start kept;
        kept.emplace_as<Started<std::decay_t<F>>>(std::forward<F>(start));
        return kept;
    }

  protected:
    ~Flight() = default;

  private:
    template <class F>
    struct Told {
        template <class From>
        // NOLINTNEXTLINE(bugprone-forwarding-reference-overload): a callable is never made of a Told
        explicit Told(From&& from) : callback(std::forward<From>(from)) {}
        void operator()(const void* landing) { std::invoke(callback, *static_cast<const Landing<T>*>(landing)); }
        F callback;
    };
    template <class F>
    struct Started {
        template <class From>
        // NOLINTNEXTLINE(bugprone-forwarding-reference-overload): a start is never made of a Started
        explicit Started(From&& from) : start(std::forward<From>(from)) {}
        void operator()(FlightCore& flight) { start(completer_of(flight)); }
        F start;
    };

    static Completer<T, State> completer_of(FlightCore& flight) {
        return Completer<T, State>(Ref<Flight>(static_cast<Flight*>(&flight)));
    }

    LandingEnd landing_end() noexcept final { return {landing_.error, landing_.requesters}; }
    void deliver_landing() noexcept final { FlightCore::deliver_landing(&landing_); }
    void deliver_cancelling(std::exception_ptr cancelling) noexcept final {
        const Landing<T> landing{nullptr, std::move(cancelling), requesters()};
        FlightCore::deliver_cancelling(&landing);
    }

    Landing<T> landing_;
    [[no_unique_address]] State state_{};
};

/// A flight, or what is derived from it, in memory of its table.
template <class Derived, class... Arguments>
[[nodiscard]] Ref<Derived> make_flight(TableCore& table, Arguments&&... arguments) {
    void* block = table.spare_flights.take<Derived>();
    try {
        return Ref<Derived>(::new (block) Derived(table, std::forward<Arguments>(arguments)...));
    } catch (...) {
        table.spare_flights.give_back<Derived>(block);
        throw;
    }
}

/// The end of such a flight.
template <class Derived>
void end_flight(Derived& flight) noexcept {
    const auto table = flight.hold_table();
    flight.~Derived();
    table->spare_flights.template give_back<Derived>(&flight);
}

/// A flight without a key: a request that was refused.
template <class T, class State>
class KeylessFlight final : public Flight<T, State> {
  public:
    explicit KeylessFlight(TableCore& table) : Flight<T, State>(table, 0, 0) {}

  private:
    void end() noexcept override { end_flight(*this); }
};

}  // namespace detail
}  // namespace coalesce
