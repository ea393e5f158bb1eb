// SPDX-License-Identifier: MIT
// AwaitTicket: a ticket consumed by a coroutine.
//
// `co_await std::move(ticket)` gives the shared value or throws the landing's
// exception; for a T that is void it gives nothing. The ticket moves into the
// coroutine's frame, so a coroutine that is destroyed while it waits has left.
// It is resumed by the delivery, in the order of joining, never inside a call,
// from a flat stack however many wait. The flight on whose behalf it ran when
// it began to wait is the current one again when it goes on, so that a run
// which asks for its own key is told also after its first suspension.
#pragma once

#include <coalesce/flight/flight_ref.h>
#include <coalesce/flight/landing.h>
#include <coalesce/flight/ticket.h>

#include <coroutine>
#include <exception>
#include <type_traits>
#include <utility>

namespace coalesce {

/// What co_await on a Ticket makes. Not for use by name.
template <class T, class State>
class AwaitTicket {
  public:
    explicit AwaitTicket(Ticket<T, State>&& ticket) noexcept : ticket_(std::move(ticket)) {}
    AwaitTicket(const AwaitTicket&) = delete;
    AwaitTicket& operator=(const AwaitTicket&) = delete;
    ~AwaitTicket() = default;

    [[nodiscard]] bool await_ready() const noexcept { return false; }

    void await_suspend(std::coroutine_handle<> waiting) {
        on_behalf_of_ = FlightRef::current();
        ticket_.then([this, waiting](const Landing<T>& landing) {
            landing_ = landing;
            const FlightScope scope{std::move(on_behalf_of_)};
            waiting.resume();  // may end this object
        });
    }

    auto await_resume() {
        if (landing_.error) std::rethrow_exception(std::move(landing_.error));
        if constexpr (!std::is_void_v<T>) return std::move(landing_.value);
    }

  private:
    Ticket<T, State> ticket_;
    Landing<T> landing_;
    FlightRef on_behalf_of_;
};

/// Waits for the landing: `co_await std::move(ticket)`, or of a call at once.
template <class T, class State>
[[nodiscard]] AwaitTicket<T, State> operator co_await(Ticket<T, State>&& ticket) noexcept {
    return AwaitTicket<T, State>(std::move(ticket));
}

}  // namespace coalesce
