// SPDX-License-Identifier: MIT
// Ticket: a requester's membership in a flight.
//
// Holding one is waiting; destroying it is leaving. The membership exists from
// the call of join(), not from the moment somebody looks at it, so tickets that
// are consumed one after the other have still coalesced. After leave() returns,
// no callback of this ticket is ever called. What it tells is delivered by a
// posted callback, in the order of joining; a std::shared_future may take the
// callback's place (future()), or a coroutine (await_ticket.h).
#pragma once

#include <coalesce/flight/flight.h>

#include <concepts>
#include <future>
#include <memory>
#include <type_traits>
#include <utility>

namespace coalesce {

/// One requester's place in a flight. Move-only; used on the group's thread.
template <class T, class State = NoState>
class [[nodiscard]] Ticket {
  public:
    Ticket() noexcept = default;
    Ticket(Ticket&& other) noexcept : place_(std::exchange(other.place_, nullptr)) {}
    Ticket& operator=(Ticket&& other) noexcept {
        Ticket old(std::exchange(place_, std::exchange(other.place_, nullptr)));
        return *this;
    }
    Ticket(const Ticket&) = delete;
    Ticket& operator=(const Ticket&) = delete;

    /// Leaves, if the outcome has not been delivered.
    ~Ticket() {
        if (place_) place_->flight().give_up(*place_);
    }

    /// Has `callback` called once with the landing, from a posted task. A second
    /// callback throws std::future_error(future_already_retrieved); after
    /// leave() it is dropped.
    template <std::invocable<const Landing<T>&> Callback>
    void then(Callback&& callback) {
        static_cast<FlightOf&>(place_->flight()).set_callback(*place_, std::forward<Callback>(callback));
    }

    /// Stops waiting. The last one to leave cancels the run.
    void leave() noexcept {
        if (place_) place_->flight().leave(*place_);
    }

    /// Gives up the ticket but not the membership: the callback, if there is
    /// one, is called at the landing, and the run goes on for it.
    void detach() && noexcept {
        if (auto* place = std::exchange(place_, nullptr)) place->flight().detach(*place);
    }

    /// The landing as a std::shared_future, for whoever waits on another thread: a
    /// shared_ptr<const T>, or void. The membership stays until the landing; if the
    /// executor goes first, the future is a broken promise.
    [[nodiscard]] auto future() && {
        using Result = std::conditional_t<std::is_void_v<T>, void, std::shared_ptr<const T>>;
        std::promise<Result> promise;
        std::shared_future<Result> future = promise.get_future().share();
        then([promise = std::move(promise)](const Landing<T>& landing) mutable {
            if (landing.error)
                promise.set_exception(landing.error);
            else if constexpr (std::is_void_v<T>)
                promise.set_value();
            else
                promise.set_value(landing.value);
        });
        std::move(*this).detach();
        return future;
    }

    /// Whether this request began the flight.
    [[nodiscard]] bool leader() const noexcept { return place_->flight().led_by(*place_); }

    /// The flight's name; 0 if the request was refused at once.
    [[nodiscard]] FlightId id() const noexcept { return place_->flight().id(); }

    /// What the run shares with its requesters; valid as long as the ticket.
    [[nodiscard]] State& state() const noexcept { return static_cast<FlightOf&>(place_->flight()).state(); }

    /// Whether the outcome of this ticket is decided. Its delivery may be yet to come.
    [[nodiscard]] bool landed() const noexcept {
        return place_->flight().settled() || place_->is(detail::Waiter::kCancelled);
    }

    /// The flight, without its types.
    [[nodiscard]] FlightRef ref() const noexcept { return FlightRef(&place_->flight()); }

    explicit operator bool() const noexcept { return place_ != nullptr; }

  private:
    template <class, class, class, class, class>
    friend class Group;

    using FlightOf = detail::Flight<T, State>;

    explicit Ticket(detail::Waiter* place) noexcept : place_(place) {}

    detail::Waiter* place_ = nullptr;
};

}  // namespace coalesce
