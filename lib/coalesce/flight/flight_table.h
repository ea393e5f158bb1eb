// SPDX-License-Identifier: MIT
// FlightTable: which flight is the live one of its key. Internal; see group.h.
//
// It knows what a key is and how it is hashed and compared. What becomes of the flights
// is TableCore's, how a bucket is found key_table.h's.
#pragma once

#include <coalesce/flight/flight.h>
#include <coalesce/flight/key_table.h>

#include <cstddef>
#include <utility>

namespace coalesce::detail {

/// A flight and what it is found by: one allocation for flight, key and entry.
template <class Key, class T, class State>
class KeyedFlight final : public Flight<T, State> {
  public:
    template <class K>
    KeyedFlight(TableCore& table, FlightId id, std::size_t key_hash, K&& from)
        : Flight<T, State>(table, id, key_hash), key(std::forward<K>(from)) {}

    Key key;

  private:
    void end() noexcept override { end_flight(*this); }
};

template <class Key, class T, class State, class Hash, class Equal>
class FlightTable final : public TableCore {
  public:
    using Entry = KeyedFlight<Key, T, State>;

    explicit FlightTable(Executor& posts_to) : TableCore(posts_to, live_) {}

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
        if (live_.can_find(entry.key)) TableCore::list(entry);
    }

    /// How many keys are in flight.
    [[nodiscard]] std::size_t size() const noexcept { return live_.size(); }

  private:
    KeyTable<Entry, Equal> live_;
    [[no_unique_address]] Hash hash_{};
};

}  // namespace coalesce::detail
