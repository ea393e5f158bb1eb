// SPDX-License-Identifier: MIT
// FlightTable: which flight is the live one of its key. Internal; see group.h.
//
// Lists flights, hands the place of one that departs to its successor, and ends
// them all with the group. How a key is found is left to key_table.h, what a
// flight does with its members to flight.h.
#pragma once

#include <coalesce/flight/flight.h>
#include <coalesce/flight/key_table.h>

#include <cstddef>
#include <utility>
#include <vector>

namespace coalesce::detail {

/// A flight and what it is found by: one allocation for flight, key and entry.
template <class Key, class T, class State>
class KeyedFlight final : public Flight<T, State> {
  public:
    template <class K>
    KeyedFlight(TableBase<T, State>& table, FlightId id, std::size_t key_hash, K&& from)
        : Flight<T, State>(table, id), hash(key_hash), key(std::forward<K>(from)) {}

    std::size_t hash;
    KeyedFlight* chain = nullptr;  // the next flight of its bucket
    Key key;

  private:
    void end() noexcept override { end_flight(*this); }
};

template <class Key, class T, class State, class Hash, class Equal>
class FlightTable final : public TableBase<T, State> {
  public:
    using Base = TableBase<T, State>;
    using FlightOf = Flight<T, State>;
    using Entry = KeyedFlight<Key, T, State>;

    explicit FlightTable(Executor& posts_to) : Base(posts_to) {}

    template <class K>
    [[nodiscard]] std::size_t hash(const K& key) const {
        return hash_(key);
    }

    /// The live flight of `key`, or null.
    template <class K>
    [[nodiscard]] Entry* find(std::size_t hash, const K& key) const {
        return live_.find(hash, key);
    }

    /// Makes `entry` the live flight of its key, which has none, unless no lookup would find it.
    void list(Entry& entry) {
        if (!live_.can_find(entry.key)) return;
        live_.reserve_one();
        live_.insert(entry);
        entry.retain();
        entry.list();
    }

    Ref<FlightOf> depart(FlightOf& flight) noexcept override {
        auto& leaving = static_cast<Entry&>(flight);
        const Ref<Entry> self = Ref<Entry>::adopt(&leaving);  // the table's own count
        leaving.unlist();
        Ref<FlightOf> next = leaving.take_successor();
        if (next) {
            auto& successor = static_cast<Entry&>(*next);
            live_.replace(leaving, successor);
            successor.retain();
            successor.list();
        } else {
            live_.erase(leaving);
        }
        return next;
    }

    /// How many keys are in flight.
    [[nodiscard]] std::size_t size() const noexcept { return live_.size(); }

    /// Ends the group: everybody who waits gets operation_canceled, every run
    /// that goes on is told, and completers find nothing more to do.
    void close() {
        struct Orphan {
            Ref<FlightOf> flight;
            bool running = false;
            typename FlightOf::Start unused_start;
        };
        this->closed = true;
        std::vector<Orphan> orphans;  // held, so that what user code drops below destroys no flight under us
        for (FlightOf* flight = this->flights.front(); flight; flight = this->flights.after(*flight)) {
            Orphan& orphan = orphans.emplace_back();
            orphan.flight = Ref<FlightOf>(flight);
            if (flight->listed()) flight->release();
            orphan.running = flight->orphan(orphan.unused_start);
        }
        live_.clear();
        for (Orphan& orphan : orphans) (void)orphan.flight->take_successor();
        for (Orphan& orphan : orphans)
            if (orphan.running) orphan.flight->request_cancel();
    }

  private:
    KeyTable<Entry, Equal> live_;
    [[no_unique_address]] Hash hash_{};
};

}  // namespace coalesce::detail
