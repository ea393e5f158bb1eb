// SPDX-License-Identifier: MIT
// FlightCore: a flight as far as it does not know what it lands with, and its table.
//
// Nobody owns a run. The table, the completer, the tickets and the posted tasks
// share the flight by count, so that any of them may go first, also in the
// middle of a callback. Two moments are kept apart: a flight is *settled* when
// the fate of its members is decided (it landed, or it was cancelled for all),
// and it has *landed* when its run is over and the key is free again. Between
// the two a cancelled run winds down and nobody can join it. How its members
// wait and are called is members.h's. User code (a callback, a start, the
// destructor of what they captured) is reached only when the flight's own books
// are closed.
//
// All of that is compiled once for a program and not once for each type that it lands
// with, which took half a second of a compiler's time a type. What knows the type is
// flight.h; how a key is found, flight_table.h. Internal.
#pragma once

#include <coalesce/flight/executor.h>
#include <coalesce/flight/flight_ref.h>
#include <coalesce/flight/key_table.h>
#include <coalesce/flight/landing.h>
#include <coalesce/flight/linked_list.h>
#include <coalesce/flight/members.h>
#include <coalesce/flight/ref.h>
#include <coalesce/flight/spare_blocks.h>
#include <coalesce/flight/stats.h>
#include <coalesce/flight/unique_function.h>
#include <coalesce/flight/waiter.h>

#include <cstddef>
#include <cstdint>
#include <exception>
#include <future>
#include <memory>
#include <new>
#include <stop_token>
#include <utility>
#include <vector>

namespace coalesce::detail {

class FlightCore;

/// What a flight needs of its group, and what is left of the group once it is
/// gone: the executor, memory for waiters, and a way out of the table.
class TableCore {
  public:
    /// `live` is where the derived table finds the live flight of a key.
    TableCore(Executor& posts_to, KeyTableCore& live) noexcept : executor(posts_to), live_(live) {}
    TableCore(const TableCore&) = delete;
    TableCore& operator=(const TableCore&) = delete;

    void retain() noexcept { ++references_; }
    void release() noexcept {
        if (--references_ == 0) delete this;
    }

    /// Makes `flight` the live one of its key, which has none.
    void list(FlightCore& flight);
    /// Takes a listed flight out; its successor, if it has one, is listed in its
    /// place and returned, to be started by the caller.
    Ref<FlightCore> depart(FlightCore& flight) noexcept;
    /// Ends one flight for everyone, forgotten ones included; returns how many were waiting.
    std::size_t cancel(FlightId id);
    /// Ends the group: everybody who waits gets operation_canceled, every run
    /// that goes on is told, and completers find nothing more to do.
    void close();

    Executor& executor;
    WaiterPool waiters;
    SpareBlocks spare_flights;
    LinkedList<FlightCore> flights;  // all that exist, in order of first request
    GroupStats stats;
    FlightId last_id = 0;
    bool closed = false;  // the group is gone

  protected:
    virtual ~TableCore() = default;

  private:
    KeyTableCore& live_;
    std::size_t references_ = 0;
};

class alignas(16) FlightCore : public FlightBase, public KeyEntry, public Links {  // room for a waiter's flags
  public:
    using Start = UniqueFunction<void(FlightCore&)>;

    // --- what others may see

    [[nodiscard]] std::size_t waiting() const noexcept { return members_.waiting(); }
    [[nodiscard]] std::size_t requesters() const noexcept { return members_.joined(); }
    [[nodiscard]] bool started() const noexcept { return started_; }
    [[nodiscard]] bool begun() const noexcept { return begun_; }
    [[nodiscard]] bool cancelled() const noexcept { return cancelled_; }
    [[nodiscard]] bool listed() const noexcept { return listed_; }
    [[nodiscard]] bool pending() const noexcept { return predecessor_ != nullptr; }
    [[nodiscard]] bool joinable() const noexcept { return listed_ && !cancelled_ && !closed_ && !settled_; }
    /// Whether a request may share this run; a fresh one wants a run that has yet to begin.
    [[nodiscard]] bool admits(bool fresh) const noexcept { return joinable() && !(fresh && begun_); }
    [[nodiscard]] FlightCore* successor() const noexcept { return successor_.get(); }
    [[nodiscard]] Ref<TableCore> hold_table() const noexcept { return table_; }

    // --- members

    [[nodiscard]] bool led_by(const Waiter& place) const noexcept { return members_.led_by(place); }

    /// A place for one more requester, held by the ticket the caller makes.
    [[nodiscard]] Waiter* admit(bool leader) {
        Waiter* place = members_.admit(*this, table_->waiters, leader);
        retain();
        return place;
    }

    /// Whose run the new member asks for, if anybody's, and what makes it leave.
    void bind(Waiter& place, FlightBase* asker, const std::stop_token& stop) {
        if (asker) asker->wait_for(*this, place.need_extras().edge);
        if (stop.stop_possible()) place.need_extras().stop.emplace(stop, LeaveOnStop{&place});
    }

    /// Whether a member may be given a callback: false once it is over.
    [[nodiscard]] static bool takes_callback(const Waiter& place) {
        if (place.is(Waiter::kOver)) return false;
        if (place.callback) throw std::future_error(std::future_errc::future_already_retrieved);
        return true;
    }
    /// It has been given one: posts the delivery it has missed.
    void has_callback(Waiter& place) {
        if (place.linked()) return;
        if (place.is(Waiter::kCancelled)) {
            members_.add_for_cancelling(place);
            post_cancelled_delivery();
        } else {
            members_.add_for_landing(place);
            post_delivery();
        }
    }

    /// The requester stops waiting. No callback of its own afterwards.
    void leave(Waiter& place) noexcept {
        if (place.is(Waiter::kOver)) return;
        const bool member = is_member(place);
        place.set(Waiter::kOver);
        place.unlink();
        place.drop_extras();
        const auto dropped = std::move(place.callback);
        if (member) member_gone();
    }

    /// The requester's stop token fired: it leaves, and is told so.
    void stop(Waiter& place) noexcept {
        if (!is_member(place)) return;  // its outcome is already decided
        place.unlink();
        place.set(Waiter::kCancelled);
        place.extras()->edge.cut();
        members_.add_for_cancelling(place);
        post_cancelled_delivery();
        member_gone();
    }

    /// The ticket is gone: leaves if nothing was delivered, and frees the place.
    void give_up(Waiter& place) noexcept {
        leave(place);
        members_.free(place, table_->waiters);
        release();
    }

    /// The ticket is gone but its membership stays until the landing.
    void detach(Waiter& place) noexcept {
        if (!place.linked()) return give_up(place);
        place.clear(Waiter::kTicket);
        release();
    }

    // --- the run

    /// Has `start` called with the completer, as `call` knows how to. What it throws lands the flight.
    void run(void* start, void (*call)(void* start, FlightCore& flight)) {
        const Ref<FlightCore> self(this);
        started_ = begun_ = starting_ = true;
        ++table_->stats.runs;
        std::exception_ptr thrown;
        {
            const FlightScope on_its_behalf{FlightRef(this)};
            try {
                call(start, *this);
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
    void run_after(FlightCore& predecessor, Start start) noexcept {
        start_ = std::move(start);
        predecessor_ = &predecessor;
        predecessor.follower_ = this;
        predecessor.successor_ = Ref<FlightCore>(this);
    }

    /// Its turn has come: starts from a posted task, unless everybody leaves before.
    void post_start() {
        table_->executor.post([self = Ref<FlightCore>(this)] {
            if (self->landed_ || self->started_) return;
            Start start = std::move(self->start_);
            self->run(&start, [](void* kept, FlightCore& flight) { (*static_cast<Start*>(kept))(flight); });
        });
    }

    /// No run: its one member gets `error`.
    void refuse(std::exception_ptr error) {
        landed_ = true;
        landing_end().error = std::move(error);
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
    void complete() {
        if (landed_) return;  // the making of the value may have ended the group
        completed_ = true;
        land();
    }
    [[nodiscard]] bool completed() const noexcept { return completed_; }
    /// Whether a value would reach anybody.
    [[nodiscard]] bool wanted() const noexcept { return members_.await_landing() && !settled_; }

    void close_to_joiners() noexcept { closed_ = true; }
    void open_to_joiners() noexcept { closed_ = false; }
    void queue() noexcept { begun_ = false; }
    void begin() noexcept { begun_ = true; }

    void on_cancel(UniqueFunction<void()> callback) {
        if (landed_) return;
        on_cancel_ = std::move(callback);
        if (!cancelled_) return;
        table_->executor.post([self = Ref<FlightCore>(this)] {
            if (!self->landed_) self->call_on_cancel();
        });
    }

    void keep(UniqueFunction<void()> on_alone) {
        if (!landed_) on_alone_ = std::make_shared<UniqueFunction<void()>>(std::move(on_alone));
    }

    void let_go() noexcept {
        if (const auto dropped = std::move(on_alone_); dropped && members_.waiting() == 0) request_cancel();
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
        const Ref<FlightCore> self(this);
        const std::size_t told = members_.waiting();
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
    [[nodiscard]] Ref<FlightCore> take_successor() noexcept {
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
    FlightCore(TableCore& table, FlightId flight_id, std::size_t key_hash)
        : FlightBase(flight_id), KeyEntry(key_hash), table_(&table) {
        table.flights.push_back(*this);
    }
    ~FlightCore() {
        unlink();
        members_.drop_all(table_->waiters);  // only detached ones can be left, of a flight whose executor went first
    }

    /// What of the landing has no type.
    struct LandingEnd {
        std::exception_ptr& error;
        std::size_t& requesters;
    };
    [[nodiscard]] virtual LandingEnd landing_end() noexcept = 0;
    /// Calls those who get the landing, and those who get `cancelling` in its stead: deliver().
    virtual void deliver_landing() noexcept = 0;
    virtual void deliver_cancelling(std::exception_ptr cancelling) noexcept = 0;

    void deliver_landing(const void* landing) noexcept { members_.deliver_landing(landing, table_->waiters); }
    void deliver_cancelling(const void* landing) noexcept { members_.deliver_cancelling(landing, table_->waiters); }

  private:
    [[nodiscard]] bool is_member(const Waiter& place) const noexcept {
        return !settled_ && place.linked() && !place.is(Waiter::kCancelled);
    }

    void member_gone() noexcept {
        ++table_->stats.leaves;
        if (!members_.count_out()) return;
        const Ref<FlightCore> self(this);
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
            const Ref<FlightCore> self = static_cast<FlightCore*>(predecessor_)->take_successor();
        } else if (listed_) {
            (void)table_->depart(*this);  // has no successor: it could be joined until now
        }
    }

    /// The run is over, with landing_. The key is free before anybody is told.
    void land() {
        const Ref<FlightCore> self(this);
        landed_ = true;
        const UniqueFunction<void()> dropped = std::move(on_cancel_);
        const auto dropped_with_it = std::move(on_alone_);
        ++table_->stats.landings;
        const Ref<FlightCore> following = listed_ ? table_->depart(*this) : Ref<FlightCore>{};
        settle(members_.joined());
        if (following) following->post_start();
    }

    void land_error(std::exception_ptr error) {
        landing_end().error = std::move(error);
        land();
    }
    void land_broken() { land_error(std::make_exception_ptr(std::future_error(std::future_errc::broken_promise))); }

    void settle(std::size_t requesters) {
        if (std::exchange(settled_, true)) return;
        members_.count_out_all();
        if (!members_.await_landing()) return;
        landing_end().requesters = requesters;
        post_delivery();
    }

    /// All who wait get operation_canceled.
    void send_away() {
        members_.count_out_all();
        if (!members_.await_landing()) return;
        members_.send_away();
        post_cancelled_delivery();
    }

    void call_on_cancel() noexcept {
        const Ref<FlightCore> self(this);
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
        Ref<FlightCore> flight;
        void operator()() const {
            flight->deliver_landing();
            flight->delivery_posted_ = false;
        }
    };

    void post_delivery() {
        if (std::exchange(delivery_posted_, true)) return;
        table_->executor.post(Delivery{Ref<FlightCore>(this)});
    }

    void post_cancelled_delivery() {
        if (std::exchange(cancelled_delivery_posted_, true)) return;
        table_->executor.post([self = Ref<FlightCore>(this)] {
            self->deliver_cancelling(cancelled_error());
            self->cancelled_delivery_posted_ = false;
        });
    }

    Ref<TableCore> table_;
    Members members_;
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
    Ref<FlightCore> successor_;
    Start start_;
    UniqueFunction<void()> on_cancel_;
    std::shared_ptr<UniqueFunction<void()>> on_alone_;  // null: it is not kept. May be called from within itself
    std::stop_source stop_source_{std::nostopstate};
};

inline Waiter::Waiter(FlightCore& of) noexcept : home_and_flags(word(&of)) {}

inline void Waiter::drop_extras() noexcept {
    Extras* dropped = extras();
    if (!dropped) return;
    clear(kExtras);
    move_to(dropped->flight, 0);
    delete dropped;
}

inline void LeaveOnStop::operator()() const noexcept { waiter->flight().stop(*waiter); }

inline void TableCore::list(FlightCore& flight) {
    live_.reserve_one();
    live_.insert(flight);
    flight.retain();
    flight.list();
}

inline Ref<FlightCore> TableCore::depart(FlightCore& leaving) noexcept {
    const Ref<FlightCore> self = Ref<FlightCore>::adopt(&leaving);  // the table's own count
    leaving.unlist();
    Ref<FlightCore> next = leaving.take_successor();
    if (next) {
        live_.replace(leaving, *next);
        next->retain();
        next->list();
    } else {
        live_.erase(leaving);
    }
    return next;
}

inline std::size_t TableCore::cancel(FlightId id) {
    for (FlightCore* flight = flights.front(); flight; flight = flights.after(*flight))
        if (flight->id() == id && id != 0) return Ref<FlightCore>(flight)->cancel_for_all();
    return 0;
}

inline void TableCore::close() {
    struct Orphan {
        Ref<FlightCore> flight;
        bool running = false;
        FlightCore::Start unused_start;
    };
    closed = true;
    std::vector<Orphan> orphans;  // held, so that what user code drops below destroys no flight under us
    for (FlightCore* flight = flights.front(); flight; flight = flights.after(*flight)) {
        Orphan& orphan = orphans.emplace_back();
        orphan.flight = Ref<FlightCore>(flight);
        if (flight->listed()) flight->release();
        orphan.running = flight->orphan(orphan.unused_start);
    }
    live_.clear();
    for (Orphan& orphan : orphans) (void)orphan.flight->take_successor();
    for (Orphan& orphan : orphans)
        if (orphan.running) orphan.flight->request_cancel();
}

}  // namespace coalesce::detail
