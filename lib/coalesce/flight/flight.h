// SPDX-License-Identifier: MIT
// Flight: one run and everybody who waits for it, from the first request to the
// last delivery. Internal; users hold its two ends, Ticket and Completer.
//
// Nobody owns a run. The table, the completer, the tickets and the posted tasks
// share the flight by count, so that any of them may go first, also in the
// middle of a callback. Two moments are kept apart: a flight is *settled* when
// the fate of its members is decided (it landed, or it was cancelled for all),
// and it has *landed* when its run is over and the key is free again. Between
// the two a cancelled run winds down and nobody can join it. Members wait in
// one of two lists: those who get the landing, and those who get
// operation_canceled whatever it will be; moving a whole list from the one to
// the other is how cancel() and the group's end stay O(1) a flight. Every
// member is unlinked only at its own turn, so that a callback may take out a
// peer. User code (a callback, a start, the destructor of what they captured)
// is reached only when the flight's own books are closed. What a key is, and
// which flight is the live one, is left to the table.
#pragma once

#include <coalesce/flight/executor.h>
#include <coalesce/flight/flight_ref.h>
#include <coalesce/flight/landing.h>
#include <coalesce/flight/linked_list.h>
#include <coalesce/flight/ref.h>
#include <coalesce/flight/spare_blocks.h>
#include <coalesce/flight/stats.h>
#include <coalesce/flight/unique_function.h>
#include <coalesce/flight/waiter.h>

#include <cstddef>
#include <exception>
#include <future>
#include <memory>
#include <new>
#include <stop_token>
#include <utility>
#include <vector>

namespace coalesce {

/// A flight whose run keeps nothing to be found by its requesters.
struct NoState {};

template <class T, class State>
class Completer;

namespace detail {

template <class T, class State>
class Flight;

/// What a flight needs of its group, and what is left of the group once it is
/// gone: the executor, memory for waiters, and a way out of the table.
template <class T, class State>
class TableBase {
  public:
    using FlightOf = Flight<T, State>;

    explicit TableBase(Executor& posts_to) noexcept : executor(posts_to) {}
    TableBase(const TableBase&) = delete;
    TableBase& operator=(const TableBase&) = delete;

    void retain() noexcept { ++references_; }
    void release() noexcept {
        if (--references_ == 0) delete this;
    }

    /// Takes a listed flight out; its successor, if it has one, is listed in its
    /// place and returned, to be started by the caller.
    virtual Ref<FlightOf> depart(FlightOf& flight) noexcept = 0;

    Executor& executor;
    WaiterPool<Waiter<T, State>> waiters;
    SpareBlocks spare_flights;
    LinkedList<FlightOf> flights;  // all that exist, in order of first request
    GroupStats stats;
    FlightId last_id = 0;
    bool closed = false;  // the group is gone

  protected:
    virtual ~TableBase() = default;

  private:
    std::size_t references_ = 0;
};

template <class T, class State>
class alignas(16) Flight : public FlightBase, public Links {  // its address leaves room for a waiter's flags
  public:
    using Table = TableBase<T, State>;
    using Place = Waiter<T, State>;
    using Callback = UniqueFunction<void(const Landing<T>&)>;
    using Start = UniqueFunction<void(Completer<T, State>)>;
    using Value = std::shared_ptr<const Payload<T>>;

    Flight(Table& table, FlightId flight_id) : FlightBase(flight_id), table_(&table) { table.flights.push_back(*this); }

    // --- what others may see

    [[nodiscard]] State& state() noexcept { return state_; }
    [[nodiscard]] std::size_t waiting() const noexcept { return waiting_count_; }
    [[nodiscard]] std::size_t requesters() const noexcept { return joined_; }
    [[nodiscard]] bool started() const noexcept { return started_; }
    [[nodiscard]] bool begun() const noexcept { return begun_; }
    [[nodiscard]] bool cancelled() const noexcept { return cancelled_; }
    [[nodiscard]] bool listed() const noexcept { return listed_; }
    [[nodiscard]] bool pending() const noexcept { return predecessor_ != nullptr; }
    [[nodiscard]] bool joinable() const noexcept { return listed_ && !cancelled_ && !closed_ && !settled_; }
    /// Whether a request may share this run; a fresh one wants a run that has yet to begin.
    [[nodiscard]] bool admits(bool fresh) const noexcept { return joinable() && !(fresh && begun_); }
    [[nodiscard]] Flight* successor() const noexcept { return successor_.get(); }
    [[nodiscard]] Ref<Table> hold_table() const noexcept { return table_; }

    // --- members

    [[nodiscard]] bool led_by(const Place& place) const noexcept { return leader_ == &place; }

    /// A place for one more requester, held by the ticket the caller makes.
    [[nodiscard]] Place* admit(bool leader) {
        Place* place = table_->waiters.make(*this);
        place->set(Place::kTicket);
        if (leader) leader_ = place;
        retain();
        ++joined_;
        ++waiting_count_;
        waiting_.push_back(*place);
        return place;
    }

    /// Gives a member its callback; posts the delivery it has missed.
    template <class F>
    void set_callback(Place& place, F&& callback) {
        if (place.is(Place::kOver)) return;
        if (place.callback) throw std::future_error(std::future_errc::future_already_retrieved);
        place.callback.emplace(std::forward<F>(callback));
        if (place.linked()) return;
        if (place.is(Place::kCancelled)) {
            cancelled_waiters_.push_back(place);
            post_cancelled_delivery();
        } else {
            waiting_.push_back(place);
            post_delivery();
        }
    }

    /// The requester stops waiting. No callback of its own afterwards.
    void leave(Place& place) noexcept {
        if (place.is(Place::kOver)) return;
        const bool member = is_member(place);
        place.set(Place::kOver);
        place.unlink();
        place.drop_extras();
        const Callback dropped = std::move(place.callback);
        if (member) member_gone();
    }

    /// The requester's stop token fired: it leaves, and is told so.
    void stop(Place& place) noexcept {
        if (!is_member(place)) return;  // its outcome is already decided
        place.unlink();
        place.set(Place::kCancelled);
        place.extras()->edge.cut();
        cancelled_waiters_.push_back(place);
        post_cancelled_delivery();
        member_gone();
    }

    /// The ticket is gone: leaves if nothing was delivered, and frees the place.
    void give_up(Place& place) noexcept {
        leave(place);
        free(place);
        release();
    }

    /// The ticket is gone but its membership stays until the landing.
    void detach(Place& place) noexcept {
        if (!place.linked()) return give_up(place);
        place.clear(Place::kTicket);
        release();
    }

    // --- the run

    /// Calls `start` with the completer. What it throws lands the flight.
    template <class F>
    void run(F&& start) {
        const Ref<Flight> self(this);
        started_ = begun_ = starting_ = true;
        ++table_->stats.runs;
        std::exception_ptr thrown;
        {
            const FlightScope on_its_behalf{FlightRef(this)};
            try {
                std::forward<F>(start)(Completer<T, State>(self));
            } catch (...) {
                thrown = std::current_exception();
            }
        }
        starting_ = false;
        if (landed_) return;
        if (thrown)
            land_error(std::move(thrown));
        else if (completer_dropped_)
            land_broken();
    }

    /// Keeps `start` until the predecessor has landed.
    void run_after(Flight& predecessor, Start start) noexcept {
        start_ = std::move(start);
        predecessor_ = &predecessor;
        predecessor.follower_ = this;
        predecessor.successor_ = Ref<Flight>(this);
    }

    /// Its turn has come: starts from a posted task, unless everybody leaves before.
    void post_start() {
        table_->executor.post([self = Ref<Flight>(this)] {
            if (self->landed_ || self->started_) return;
            Start start = std::move(self->start_);
            self->run(std::move(start));
        });
    }

    /// No run: its one member gets `error`.
    void refuse(std::exception_ptr error) {
        landed_ = true;
        landing_.error = std::move(error);
        settle(0);
    }

    /// Called by the completer's destructor when it has not landed the flight.
    void completer_gone() {
        // start() may still be about to throw, which says more than a broken promise.
        if (starting_)
            completer_dropped_ = true;
        else if (!landed_)
            land_broken();
    }

    /// Whether the run may still land it. Completing twice is the caller's
    /// error; completing what ended without it is not, and does nothing.
    [[nodiscard]] bool awaits_completion() const {
        if (completed_) throw std::future_error(std::future_errc::promise_already_satisfied);
        return !landed_;
    }
    /// What a completer lands the flight with, to be set before complete().
    [[nodiscard]] Landing<T>& landing() noexcept { return landing_; }
    void complete() {
        if (landed_) return;  // the making of the value may have ended the group
        completed_ = true;
        land();
    }
    [[nodiscard]] bool completed() const noexcept { return completed_; }
    /// Whether a value would reach anybody.
    [[nodiscard]] bool wanted() const noexcept { return !waiting_.empty() && !settled_; }

    void close_to_joiners() noexcept { closed_ = true; }
    void open_to_joiners() noexcept { closed_ = false; }
    void queue() noexcept { begun_ = false; }
    void begin() noexcept { begun_ = true; }

    void on_cancel(UniqueFunction<void()> callback) {
        if (landed_) return;
        on_cancel_ = std::move(callback);
        if (!cancelled_) return;
        table_->executor.post([self = Ref<Flight>(this)] {
            if (!self->landed_) self->call_on_cancel();
        });
    }

    void keep(UniqueFunction<void()> on_alone) {
        if (!landed_) on_alone_ = std::make_shared<UniqueFunction<void()>>(std::move(on_alone));
    }

    void let_go() noexcept {
        if (const auto dropped = std::move(on_alone_); dropped && waiting_count_ == 0) request_cancel();
    }

    [[nodiscard]] std::stop_token stop_token() {
        if (!stop_source_.stop_possible()) stop_source_ = std::stop_source();
        if (cancelled_) stop_source_.request_stop();
        return stop_source_.get_token();
    }

    // --- the table's side

    /// Everybody gets operation_canceled; a run that has started is told to
    /// stop and stays listed until it lands. Returns how many were waiting.
    std::size_t cancel_for_all() {
        if (settled_) return 0;
        const Ref<Flight> self(this);
        const std::size_t told = waiting_count_;
        settled_ = true;
        send_away();
        if (started_)
            request_cancel();
        else
            never_start();
        return told;
    }

    void list() noexcept { listed_ = true; }
    void unlist() noexcept { listed_ = false; }
    /// The successor, freed from waiting.
    [[nodiscard]] Ref<Flight> take_successor() noexcept {
        if (successor_) successor_->predecessor_ = follower_ = nullptr;
        return std::move(successor_);
    }

    /// First half of the group's end: settles everything, calls nobody.
    /// True if a run is now for nobody and should be told.
    [[nodiscard]] bool orphan(Start& unused_start) {
        const bool running = started_ && !landed_;
        send_away();
        landed_ = settled_ = true;
        listed_ = false;
        unused_start = std::move(start_);
        return running;
    }

    /// Tells the run that nobody waits any more, once.
    void request_cancel() noexcept {
        if (std::exchange(cancelled_, true)) return;
        ++table_->stats.cancels;
        call_on_cancel();
    }

  protected:
    ~Flight() {
        unlink();
        // Only detached members can be left, of a flight whose executor went first.
        if (!waiting_.empty()) drop_all(waiting_);
        if (!cancelled_waiters_.empty()) drop_all(cancelled_waiters_);
    }

  private:
    [[nodiscard]] bool is_member(const Place& place) const noexcept {
        return !settled_ && place.linked() && !place.is(Place::kCancelled);
    }

    void member_gone() noexcept {
        ++table_->stats.leaves;
        if (--waiting_count_ > 0) return;
        const Ref<Flight> self(this);
        if (!started_)
            never_start();
        else if (on_alone_)
            call_on_alone();
        else
            request_cancel();
    }

    /// Nobody is left to start it for.
    void never_start() noexcept {
        landed_ = settled_ = true;
        const Start dropped = std::move(start_);
        if (predecessor_) {
            const Ref<Flight> self = static_cast<Flight*>(predecessor_)->take_successor();
        } else if (listed_) {
            (void)table_->depart(*this);  // has no successor: it could be joined until now
        }
    }

    /// The run is over, with landing_. The key is free before anybody is told.
    void land() {
        const Ref<Flight> self(this);
        landed_ = true;
        const UniqueFunction<void()> dropped = std::move(on_cancel_);
        const auto dropped_with_it = std::move(on_alone_);
        ++table_->stats.landings;
        const Ref<Flight> following = listed_ ? table_->depart(*this) : Ref<Flight>{};
        settle(joined_);
        if (following) following->post_start();
    }

    void land_error(std::exception_ptr error) {
        landing_.error = std::move(error);
        land();
    }
    void land_broken() { land_error(std::make_exception_ptr(std::future_error(std::future_errc::broken_promise))); }

    void settle(std::size_t requesters) {
        if (std::exchange(settled_, true)) return;
        waiting_count_ = 0;
        if (waiting_.empty()) return;
        landing_.requesters = requesters;
        post_delivery();
    }

    /// All who wait get operation_canceled.
    void send_away() {
        waiting_count_ = 0;
        if (waiting_.empty()) return;
        cancelled_waiters_.splice_back(waiting_);
        post_cancelled_delivery();
    }

    void call_on_cancel() noexcept {
        const Ref<Flight> self(this);
        const FlightScope on_nobodys_behalf{FlightRef()};
        UniqueFunction<void()> callback = std::move(on_cancel_);
        if (callback) callback();
        stop_source_.request_stop();
    }

    void call_on_alone() noexcept {
        const FlightScope on_nobodys_behalf{FlightRef()};
        const auto callback = on_alone_;  // which it may replace
        if (*callback) (*callback)();
    }

    struct Delivery {
        using MovesAsBytes = void;  // a count, wherever it lies
        Ref<Flight> flight;
        void operator()() const {
            flight->deliver(flight->waiting_, flight->landing_);
            flight->delivery_posted_ = false;
        }
    };

    void post_delivery() {
        if (std::exchange(delivery_posted_, true)) return;
        table_->executor.post(Delivery{Ref<Flight>(this)});
    }

    void post_cancelled_delivery() {
        if (std::exchange(cancelled_delivery_posted_, true)) return;
        table_->executor.post([self = Ref<Flight>(this)] {
            const Landing<T> cancelling{nullptr, cancelled_error(), self->joined_};
            self->deliver(self->cancelled_waiters_, cancelling);
            self->cancelled_delivery_posted_ = false;
        });
    }

    /// Calls the members in order, each unlinked at its own turn. What a
    /// callback throws terminates: it has nowhere to go but through the loop.
    void deliver(LinkedList<Place>& members, const Landing<T>& landing) noexcept {
        const FlightScope on_nobodys_behalf{FlightRef()};
        while (Place* place = members.front()) {
            place->unlink();
            place->drop_extras();
            if (&landing != &landing_) place->set(Place::kCancelled);
            if (!place->callback && place->is(Place::kTicket)) continue;  // then() will post
            Callback callback = std::move(place->callback);
            if (place->is(Place::kTicket))
                place->set(Place::kOver);
            else
                free(*place);
            if (callback) callback(landing);
        }
    }

    /// The place may be somebody else's from here on.
    void free(Place& place) noexcept {
        if (leader_ == &place) leader_ = nullptr;
        table_->waiters.free(&place);
    }

    void drop_all(LinkedList<Place>& members) noexcept {
        while (Place* place = members.front()) {
            place->unlink();
            place->drop_extras();
            const Callback dropped = std::move(place->callback);
            free(*place);
        }
    }

    Ref<Table> table_;
    LinkedList<Place> waiting_;
    LinkedList<Place> cancelled_waiters_;
    const Place* leader_ = nullptr;  // who began it, as long as its place exists
    std::size_t waiting_count_ = 0;
    std::size_t joined_ = 0;
    bool listed_ = false;     // the live flight of its key
    bool started_ = false;    // start was called
    bool begun_ = false;      // the run really runs: no fresh request may share it
    bool starting_ = false;   // start is on the stack
    bool cancelled_ = false;  // the run was told to stop
    bool closed_ = false;     // by the run, to joiners
    bool completed_ = false;  // through the completer
    bool completer_dropped_ = false;
    bool delivery_posted_ = false;
    bool cancelled_delivery_posted_ = false;
    Ref<Flight> successor_;
    Start start_;
    UniqueFunction<void()> on_cancel_;
    std::shared_ptr<UniqueFunction<void()>> on_alone_;  // null: it is not kept. May be called from within itself
    std::stop_source stop_source_{std::nostopstate};
    Landing<T> landing_;
    [[no_unique_address]] State state_{};
};

/// A flight, or what is derived from it, in memory of its table.
template <class Derived, class T, class State, class... Arguments>
[[nodiscard]] Ref<Derived> make_flight(TableBase<T, State>& table, Arguments&&... arguments) {
    void* block = table.spare_flights.template take<Derived>();
    try {
        return Ref<Derived>(::new (block) Derived(table, std::forward<Arguments>(arguments)...));
    } catch (...) {
        table.spare_flights.template give_back<Derived>(block);
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
    explicit KeylessFlight(TableBase<T, State>& table) : Flight<T, State>(table, 0) {}

  private:
    void end() noexcept override { end_flight(*this); }
};

template <class T, class State>
void LeaveOnStop<T, State>::operator()() const noexcept {
    waiter->flight().stop(*waiter);
}

}  // namespace detail
}  // namespace coalesce
