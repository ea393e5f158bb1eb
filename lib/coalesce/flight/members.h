// SPDX-License-Identifier: MIT
// Members: those who wait on a flight, in the order in which they will be told.
//
// They wait in one of two lists: those who get the landing, and those who get
// operation_canceled whatever it will be; moving a whole list from the one to
// the other is how cancel() and the group's end stay O(1) a flight. Every
// member is unlinked only at its own turn, so that a callback may take out a
// peer. When they are told, and with what, is left to the flight; where places come
// from, to waiter.h. Internal.
#pragma once

#include <coalesce/flight/flight_ref.h>
#include <coalesce/flight/linked_list.h>
#include <coalesce/flight/waiter.h>

#include <cstddef>
#include <utility>

namespace coalesce::detail {

class Members {
  public:
    Members() noexcept = default;
    Members(const Members&) = delete;
    Members& operator=(const Members&) = delete;

    /// Who have neither got an outcome nor given it up.
    [[nodiscard]] std::size_t waiting() const noexcept { return waiting_; }
    /// Who have ever come.
    [[nodiscard]] std::size_t joined() const noexcept { return joined_; }
    /// Whether it began the flight.
    [[nodiscard]] bool led_by(const Waiter& place) const noexcept { return leader_ == &place; }
    /// Whether anybody would get the landing.
    [[nodiscard]] bool await_landing() const noexcept { return !for_landing_.empty(); }

    /// One more, held by a ticket.
    [[nodiscard]] Waiter* admit(FlightCore& flight, WaiterPool& pool, bool leader) {
        Waiter* place = pool.make(flight);
        place->set(Waiter::kTicket);
        if (leader) leader_ = place;
        ++joined_;
        ++waiting_;
        for_landing_.push_back(*place);
        return place;
    }
    /// It is to get the landing, or the other outcome.
    void add_for_landing(Waiter& place) noexcept { for_landing_.push_back(place); }
    void add_for_cancelling(Waiter& place) noexcept { for_cancelling_.push_back(place); }

    /// Counts out one who waited; true: it was the last.
    [[nodiscard]] bool count_out() noexcept { return --waiting_ == 0; }
    /// Counts out all: their outcome is decided.
    void count_out_all() noexcept { waiting_ = 0; }
    /// All who were to get the landing get operation_canceled.
    void send_away() noexcept { for_cancelling_.splice_back(for_landing_); }

    void deliver_landing(const void* landing, WaiterPool& pool) noexcept {
        deliver(for_landing_, landing, false, pool);
    }
    void deliver_cancelling(const void* landing, WaiterPool& pool) noexcept {
        deliver(for_cancelling_, landing, true, pool);
    }

    /// The place may be somebody else's from here on.
    void free(Waiter& place, WaiterPool& pool) noexcept {
        if (leader_ == &place) leader_ = nullptr;
        pool.free(&place);
    }

    /// Nobody will be told.
    void drop_all(WaiterPool& pool) noexcept {
        for (LinkedList<Waiter>* members : {&for_landing_, &for_cancelling_})
            while (Waiter* place = members->front()) {
                place->unlink();
                place->drop_extras();
                const auto dropped = std::move(place->callback);
                free(*place, pool);
            }
    }

  private:
    /// Calls the members in order, each unlinked at its own turn. What a
    /// callback throws terminates: it has nowhere to go but through the loop.
    void deliver(LinkedList<Waiter>& members, const void* landing, bool cancelled, WaiterPool& pool) noexcept {
        const FlightScope on_nobodys_behalf{FlightRef()};
        while (Waiter* place = members.front()) {
            place->unlink();
            place->drop_extras();
            if (cancelled) place->set(Waiter::kCancelled);
            if (!place->callback && place->is(Waiter::kTicket)) continue;  // then() will post
            auto callback = std::move(place->callback);
            if (place->is(Waiter::kTicket))
                place->set(Waiter::kOver);
            else
                free(*place, pool);
            if (callback) callback(landing);
        }
    }

    LinkedList<Waiter> for_landing_;
    LinkedList<Waiter> for_cancelling_;
    const Waiter* leader_ = nullptr;  // as long as its place exists
    std::size_t waiting_ = 0;
    std::size_t joined_ = 0;
};

}  // namespace coalesce::detail
