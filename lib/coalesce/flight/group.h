// SPDX-License-Identifier: MIT
// Group: the in-flight table. A key that is idle is led, one that is in flight
// is joined.
//
// The promise: of one key one run is live at any time, and everybody who asks
// while it can be joined gets its one landing. A flight leaves the table at the
// moment it lands, before anything is delivered, so nobody joins what is over.
// A flight that cannot be joined but has not ended (cancelled because the last
// requester left, closed by its run, or too old for a fresh request) has at
// most one successor, which those who come later share and which starts when it
// has landed. forget() alone lets two runs of a key overlap, on purpose.
//
// Everything is loop-affine: one thread, no locks, no atomics, and whatever is
// told to a requester is posted to the executor. Callbacks may leave peers, join
// any key and destroy the group. Requests that would wait for themselves are
// refused (flight_ref.h). Threads that block are left to blocking_group.h, the
// results of finished runs to a cache, limits on runs to whoever starts them.
// Refused: a table that owns its runs. Table, completer and tickets share a
// flight, so that each may end first.
#pragma once

#include <coalesce/flight/completer.h>
#include <coalesce/flight/executor.h>
#include <coalesce/flight/flight.h>
#include <coalesce/flight/flight_table.h>
#include <coalesce/flight/join_options.h>
#include <coalesce/flight/landing.h>
#include <coalesce/flight/stats.h>
#include <coalesce/flight/string_hash.h>
#include <coalesce/flight/ticket.h>

#include <concepts>
#include <cstddef>
#include <exception>
#include <functional>
#include <type_traits>
#include <utility>
#include <vector>

namespace coalesce {

/// What Group::for_each shows of a flight.
template <class State>
struct FlightView {
    FlightId id;
    std::size_t waiters;     ///< who wait now
    std::size_t requesters;  ///< who have ever asked
    bool joinable;           ///< a plain request would share it
    bool pending;            ///< waits for the flight before it to land
    bool started;            ///< its start was called
    bool cancelled;          ///< its run was told to stop
    State& state;
};

/// Key → flight. See the top of this file.
template <class Key, class T, class State = NoState, class Hash = std::hash<Key>, class Equal = std::equal_to<>>
class Group {
  public:
    using TicketOf = Ticket<T, State>;
    using CompleterOf = Completer<T, State>;

    /// `executor` outlives the group, and the tickets that are consumed after it.
    explicit Group(Executor& executor) : table_(new Table(executor)) {}
    Group(const Group&) = delete;
    Group& operator=(const Group&) = delete;

    /// Whoever still waits gets operation_canceled, posted. Runs are told through
    /// on_cancel, here and now. Fine inside a callback of the group itself.
    ~Group() { table_->close(); }

    /// Asks for `key`. If nothing is there to join, leads: `start(Completer)` is
    /// called at once for an idle key, later from a posted task behind a flight
    /// that cannot be joined, and not at all if everybody leaves before. What
    /// start throws lands the flight and does not escape. A request that joins
    /// leaves `start` untouched and constructs no Key if Hash and Equal are
    /// transparent. A start that refers to what the caller holds may have a member
    /// `own() &&`: what that returns is kept instead when the start has to wait.
    template <class K, class Start>
    TicketOf join(K&& key, Start&& start, const JoinOptions& options = {}) {
        if constexpr (kFindsBy<K>)
            return join_found_by(std::forward<K>(key), std::forward<Start>(start), options);
        else
            return join_found_by(Key(std::forward<K>(key)), std::forward<Start>(start), options);
    }

    /// Ends the flights of `key`, the live and the pending one, for everyone:
    /// all who wait get operation_canceled, the run is told to stop, and its key
    /// stays taken until it lands. Returns how many were waiting.
    template <class K>
    std::size_t cancel(const K& key) {
        Entry* live = find(key);
        if (!live) return 0;
        const detail::Ref<Entry> held(live);
        const detail::Ref<Flight> next(live->successor());
        // The pending one first: telling the run may land it, which would start what is pending.
        const std::size_t told = next ? next->cancel_for_all() : 0;
        return told + live->cancel_for_all();
    }

    /// Ends one flight for everyone, forgotten ones included.
    std::size_t cancel(FlightId id) { return table_->cancel(id); }

    /// Takes the live flight of `key` out of the table. Who waits for it still
    /// gets its landing; who asks from now on starts anew at once, even though
    /// the old run goes on. False if the key is idle.
    template <class K>
    bool forget(const K& key) {
        Entry* live = find(key);
        if (!live) return false;
        if (const detail::Ref<Flight> next = table_->depart(*live)) next->post_start();
        return true;
    }

    /// The state of the flight a plain request for `key` would join now, or null.
    template <class K>
    [[nodiscard]] State* find_state(const K& key) const {
        Entry* live = find(key);
        return live && live->joinable() ? &live->state() : nullptr;
    }

    /// The key of a flight, which must be one of a group of this type, and not the flight of a request that was
    /// refused at once.
    [[nodiscard]] static const Key& key_of(const FlightRef& flight) noexcept {
        return static_cast<const Entry&>(*flight.get()).key;
    }

    /// How many keys are in flight.
    [[nodiscard]] std::size_t size() const noexcept { return table_->size(); }
    [[nodiscard]] bool empty() const noexcept { return size() == 0; }

    [[nodiscard]] const GroupStats& stats() const noexcept { return table_->stats; }

    /// Calls `visit(const Key&, FlightView<State>)` for every live and pending
    /// flight, oldest first. It may do anything to the group; what it ends is not visited.
    template <class Visit>
    void for_each(Visit&& visit) const {
        std::vector<detail::Ref<Flight>> snapshot;
        for (Flight* flight = table_->flights.front(); flight; flight = table_->flights.after(*flight))
            if (flight->listed() || flight->pending()) snapshot.emplace_back(flight);
        for (const auto& flight : snapshot)
            if (flight->listed() || flight->pending())
                visit(std::as_const(static_cast<Entry&>(*flight).key), view(static_cast<Entry&>(*flight)));
    }

  private:
    using Table = detail::FlightTable<Key, T, State, Hash, Equal>;
    using Entry = typename Table::Entry;
    using Flight = detail::FlightCore;

    static constexpr bool kTransparent = requires {
        typename Hash::is_transparent;
        typename Equal::is_transparent;
    };
    // A key that is no Key is converted first unless both functors take it as it is.
    template <class K>
    static constexpr bool kFindsBy = kTransparent || std::same_as<std::remove_cvref_t<K>, Key>;

    template <class K>
    [[nodiscard]] Entry* find(const K& key) const {
        if constexpr (kFindsBy<K>)
            return table_->find(table_->hash(key), key);
        else
            return find(Key(key));
    }

    static FlightView<State> view(Entry& flight) {
        return {.id = flight.id(),
                .waiters = flight.waiting(),
                .requesters = flight.requesters(),
                .joinable = flight.joinable(),
                .pending = flight.pending(),
                .started = flight.started(),
                .cancelled = flight.cancelled(),
                .state = flight.state()};
    }

    template <class K, class Start>
    TicketOf join_found_by(K&& key, Start&& start, const JoinOptions& options) {
        if (options.stop.stop_possible() && options.stop.stop_requested()) return refuse(detail::cancelled_error());
        const std::size_t hash = table_->hash(key);
        Entry* live = table_->find(hash, key);
        Flight* target = live && !live->admits(options.fresh) ? live->successor() : live;
        detail::FlightBase* asker = options.independent    ? nullptr
                                    : options.on_behalf_of ? options.on_behalf_of.get()
                                                           : detail::current_flight;
        if (asker && live && (target ? target : live)->waits_for(*asker)) return refuse(detail::deadlock_error());
        if (target) {
            TicketOf ticket = admit(*target, false, asker, options);
            ++table_->stats.joins;
            return ticket;
        }
        if (table_->closed) return refuse(detail::cancelled_error());
        return lead(std::forward<K>(key), hash, live, std::forward<Start>(start), asker, options);
    }

    template <class K, class Start>
    TicketOf lead(K&& key, std::size_t hash, Entry* predecessor, Start&& start, detail::FlightBase* asker,
                  const JoinOptions& options) {
        const detail::Ref<Table> table = table_;  // start may destroy the group
        const auto flight = detail::make_flight<Entry>(*table, ++table->last_id, hash, std::forward<K>(key));
        TicketOf ticket = admit(*flight, true, asker, options);
        ++table->stats.flights;
        if (predecessor) {
            flight->run_after(*predecessor, to_keep(std::forward<Start>(start)));
            return ticket;
        }
        table->list(*flight);
        flight->run_with(std::forward<Start>(start));
        return ticket;
    }

    template <class Start>
    static Flight::Start to_keep(Start&& start) {
        if constexpr (requires { std::forward<Start>(start).own(); })
            return Entry::kept(std::forward<Start>(start).own());
        else
            return Entry::kept(std::forward<Start>(start));
    }

    TicketOf admit(Flight& flight, bool leader, detail::FlightBase* asker, const JoinOptions& options) {
        TicketOf ticket(flight.admit(leader));
        flight.bind(*ticket.place_, asker, options.stop);
        return ticket;
    }

    TicketOf refuse(std::exception_ptr error) {
        ++table_->stats.refusals;
        const auto none = detail::make_flight<detail::KeylessFlight<T, State>>(*table_);
        TicketOf ticket(none->admit(false));
        none->refuse(std::move(error));
        return ticket;
    }

    detail::Ref<Table> table_;
};

}  // namespace coalesce
