// SPDX-License-Identifier: MIT
// Completer: the run's end of a flight.
//
// Whoever runs holds exactly one, and lands the flight with it: a value or an
// exception, once. Dropping it lands the flight as std::broken_promise, so a
// run that forgets to answer hangs nobody. The run hears through it that
// everybody has left, and may close itself to further joiners, or keep itself for
// somebody whom the group does not know. It outlives the group if it must, and then
// does nothing. Delivery is always posted, so a run may complete inside its own start.
#pragma once

#include <coalesce/flight/flight.h>

#include <cstddef>
#include <cstdlib>
#include <exception>
#include <memory>
#include <stop_token>
#include <type_traits>
#include <utility>
#include <variant>

namespace coalesce {

/// Lands one flight. Move-only; used on the group's thread.
template <class T, class State = NoState>
class [[nodiscard]] Completer {
  public:
    Completer() noexcept = default;
    Completer(Completer&&) noexcept = default;
    Completer& operator=(Completer&& other) noexcept {
        if (this != &other) {
            Completer old(std::move(*this));
            flight_ = std::move(other.flight_);
        }
        return *this;
    }
    Completer(const Completer&) = delete;
    Completer& operator=(const Completer&) = delete;

    /// Lands the flight with std::future_error(broken_promise), unless it has landed.
    ~Completer() {
        if (flight_ && !flight_->completed()) flight_->completer_gone();
    }

    /// Lands the flight with a value made from `args`.
    template <class... Args>
    void emplace(Args&&... args) {
        if (!flight_->awaits_completion()) return;
        if (flight_->wanted()) {
            // Straight into its place: it was made a moment ago, and moving it now would wait for the store buffer.
            if constexpr (std::is_void_v<T>)
                flight_->landing().value = detail::shared_nothing();
            else
                flight_->landing().value = std::make_shared<const T>(std::forward<Args>(args)...);
        }
        flight_->complete();
    }

    /// Lands the flight with `value`, which all requesters share.
    void value(Payload<T> value) requires(!std::is_void_v<T>) { emplace(std::move(value)); }

    /// Lands the flight of a T that is void.
    void value() requires(std::is_void_v<T>) { emplace(); }

    /// Lands the flight with a value that exists already. Not null.
    void value(std::shared_ptr<const Payload<T>> value) {
        if (!value) std::abort();
        if (!flight_->awaits_completion()) return;
        flight_->landing().value = std::move(value);
        flight_->complete();
    }

    /// Lands the flight with an exception, which reaches everybody with its own type. Not null.
    void error(std::exception_ptr error) {
        if (!error) std::abort();
        if (!flight_->awaits_completion()) return;
        flight_->landing().error = std::move(error);
        flight_->complete();
    }

    /// Nobody joins from now on; who asks gets the next flight. Those who wait are unaffected.
    void close_to_joiners() noexcept { flight_->close_to_joiners(); }
    /// Takes that back. A next flight that somebody has asked for meanwhile stays.
    void open_to_joiners() noexcept { flight_->open_to_joiners(); }

    /// From now on the last waiter's leaving does not cancel the run: it can still be joined,
    /// and `on_alone` is called, here and now, each time. A cancel() and the group's end
    /// are as always. Replaces an earlier callback.
    void keep(UniqueFunction<void()> on_alone) { flight_->keep(std::move(on_alone)); }
    /// Takes that back: cancels the run if nobody waits.
    void let_go() noexcept { flight_->let_go(); }

    /// The run stands in a queue and has not begun: fresh requests may still
    /// share it, until begin().
    void queue() noexcept { flight_->queue(); }
    /// The run begins now. Only needed after queue().
    void begin() noexcept { flight_->begin(); }

    /// Whether a plain request would join this flight now.
    [[nodiscard]] bool joinable() const noexcept { return flight_->joinable(); }
    /// Whether the run was told to stop.
    [[nodiscard]] bool cancelled() const noexcept { return flight_->cancelled(); }
    /// How many wait now.
    [[nodiscard]] std::size_t waiters() const noexcept { return flight_->waiting(); }

    /// Called once, when the run is for nobody any more: the last waiter left and it is not kept,
    /// the flight was cancelled, or the group is gone. Posted if that has already
    /// happened; never called after the landing. Replaces an earlier callback.
    void on_cancel(UniqueFunction<void()> callback) { flight_->on_cancel(std::move(callback)); }

    /// The same as a stop token, made at the first call.
    [[nodiscard]] std::stop_token stop_token() { return flight_->stop_token(); }

    /// What the run and its requesters share while any of them holds the flight.
    [[nodiscard]] State& state() const noexcept { return flight_->state(); }

    /// The flight, to make requests on its behalf.
    [[nodiscard]] FlightRef flight() const noexcept { return FlightRef(flight_.get()); }

    explicit operator bool() const noexcept { return static_cast<bool>(flight_); }

  private:
    friend detail::Flight<T, State>;
    explicit Completer(detail::Ref<detail::Flight<T, State>> flight) noexcept : flight_(std::move(flight)) {}

    detail::Ref<detail::Flight<T, State>> flight_;
};

}  // namespace coalesce
