// FlightTable: which flight is the live one of its key. Internal; see group.h.
//
// A chained hash table whose entries are the flights themselves: leading costs
// one allocation for flight, key and entry together, an entry is taken out by
// its address, so a finish can never erase another flight that has meanwhile
// got its key, and no iterator outlives a rehash. It shrinks again, so that a
// burst of keys leaves nothing behind. Refused: std::unordered_map, which hashes
// a key twice to look it up by a view and then insert it, and allocates a node
// beside the flight.
#pragma once

#include <coalesce/flight/flight.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>
#include <vector>

namespace coalesce::detail {

/// A flight and what it is found by.
template <class Key, class T, class State>
class KeyedFlight final : public Flight<T, State> {
  public:
    template <class K>
    KeyedFlight(TableBase<T, State>& table, FlightId id, std::size_t key_hash, K&& from)
        : Flight<T, State>(table, id), hash(key_hash), key(std::forward<K>(from)) {}

    std::size_t hash;
    KeyedFlight* chain = nullptr;  // the next flight of its bucket
    Key key;
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
        if (size_ == 0) return nullptr;
        for (Entry* entry = buckets_[bucket_of(hash)]; entry; entry = entry->chain)
            if (entry->hash == hash && equal_(entry->key, key)) return entry;
        return nullptr;
    }

    /// False for a key that no lookup would find again, such as a NaN.
    [[nodiscard]] bool can_find(const Key& key) const { return static_cast<bool>(equal_(key, key)); }

    /// Makes room for one more, so that list() cannot fail.
    void reserve_one() {
        if (size_ + 1 > buckets_.size()) rehash(buckets_.empty() ? kFewestBuckets : buckets_.size() * 2);
    }

    /// Makes `entry` the live flight of its key, which has none.
    void list(Entry& entry) noexcept {
        entry.retain();
        Entry*& head = buckets_[bucket_of(entry.hash)];
        entry.chain = head;
        head = &entry;
        entry.list();
        ++size_;
    }

    Ref<FlightOf> depart(FlightOf& flight) noexcept override {
        auto& leaving = static_cast<Entry&>(flight);
        const Ref<Entry> self = Ref<Entry>::adopt(&leaving);  // the table's own count
        Entry** link = &buckets_[bucket_of(leaving.hash)];
        while (*link != &leaving) link = &(*link)->chain;
        leaving.unlist();
        Ref<FlightOf> next = leaving.take_successor();
        if (next) {
            auto& successor = static_cast<Entry&>(*next);
            successor.retain();
            successor.chain = leaving.chain;
            *link = &successor;
            successor.list();
        } else {
            *link = leaving.chain;
            --size_;
            if (buckets_.size() > kFewestBuckets && size_ < buckets_.size() / 8) shrink();
        }
        return next;
    }

    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    /// Ends the group: everybody who waits gets operation_canceled, every run
    /// that goes on is told, and completers find nothing more to do.
    void close() {
        struct Orphan {
            Ref<FlightOf> flight;
            bool running;
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
        buckets_.clear();
        size_ = 0;
        for (Orphan& orphan : orphans) (void)orphan.flight->take_successor();
        for (Orphan& orphan : orphans)
            if (orphan.running) orphan.flight->request_cancel();
    }

  private:
    static constexpr std::size_t kFewestBuckets = 16;  // a power of two, as every size is

    // std::hash of an integer is the integer: multiply, and take the high bits.
    [[nodiscard]] std::size_t bucket_of(std::size_t hash) const noexcept {
        return static_cast<std::size_t>((std::uint64_t{hash} * 0x9E3779B97F4A7C15u) >> shift_);
    }

    void rehash(std::size_t count) {
        std::vector<Entry*> old(count, nullptr);
        old.swap(buckets_);
        shift_ = 64 - std::countr_zero(count);
        for (Entry* entry : old)
            while (entry) {
                Entry* next = entry->chain;
                Entry*& head = buckets_[bucket_of(entry->hash)];
                entry->chain = head;
                head = entry;
                entry = next;
            }
    }

    void shrink() noexcept {
        try {
            rehash(buckets_.size() / 2);
        } catch (const std::bad_alloc&) {
            // A large table works as well as a small one.
        }
    }

    std::vector<Entry*> buckets_;
    int shift_ = 64;
    std::size_t size_ = 0;
    [[no_unique_address]] Hash hash_{};
    [[no_unique_address]] Equal equal_{};
};

}  // namespace coalesce::detail
