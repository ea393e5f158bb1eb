// SPDX-License-Identifier: MIT
// KeyTable: what is in flight, found by key. Internal; used by the loop's group
// and by the blocking one.
//
// A chained hash table whose entries are the flights themselves: leading costs
// no node beside the flight, an entry is taken out by its address, so a finish
// can never erase another flight that has meanwhile got its key, and no
// iterator outlives a rehash. It shrinks again, so that a burst of keys leaves
// nothing behind. It owns no entry. Refused: std::unordered_map, which hashes a
// key twice to look it up by a view and then insert it, and allocates a node.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <new>
#include <utility>
#include <vector>

namespace coalesce::detail {

/// Spreads a hash over its high bits: std::hash of an integer is the integer.
[[nodiscard]] constexpr std::uint64_t spread(std::size_t hash) noexcept {
    return std::uint64_t{hash} * 0x9E3779B97F4A7C15u;
}

/// A table of Entry, which has members `hash`, `key` and `Entry* chain`.
template <class Entry, class Equal>
class KeyTable {
  public:
    KeyTable() = default;
    KeyTable(const KeyTable&) = delete;
    KeyTable& operator=(const KeyTable&) = delete;

    /// The entry of `key`, whose hash is `hash`, or null.
    template <class K>
    [[nodiscard]] Entry* find(std::size_t hash, const K& key) const {
        if (size_ == 0) return nullptr;
        for (Entry* entry = buckets_[bucket_of(hash)]; entry; entry = entry->chain)
            if (entry->hash == hash && equal_(entry->key, key)) return entry;
        return nullptr;
    }

    /// False for a key that no lookup would find again, such as a NaN.
    template <class Key>
    [[nodiscard]] bool can_find(const Key& key) const {
        return static_cast<bool>(equal_(key, key));
    }

    /// Makes room for one more, so that insert() cannot fail.
    void reserve_one() {
        if (size_ + 1 > buckets_.size()) rehash(buckets_.empty() ? kFewestBuckets : buckets_.size() * 2);
    }

    /// Adds an entry whose key is not there.
    void insert(Entry& entry) noexcept {
        Entry*& head = buckets_[bucket_of(entry.hash)];
        entry.chain = head;
        head = &entry;
        ++size_;
    }

    /// Puts `entry`, of an equal key, in the place of `old`.
    void replace(Entry& old, Entry& entry) noexcept {
        entry.chain = old.chain;
        link_to(old) = &entry;
    }

    /// Takes this very entry out.
    void erase(Entry& entry) noexcept {
        link_to(entry) = entry.chain;
        --size_;
        if (buckets_.size() > kFewestBuckets && size_ < buckets_.size() / 8) shrink();
    }

    /// Forgets all entries.
    void clear() noexcept {
        buckets_.clear();
        size_ = 0;
    }

    [[nodiscard]] std::size_t size() const noexcept { return size_; }

  private:
    static constexpr std::size_t kFewestBuckets = 16;  // a power of two, as every size is

    [[nodiscard]] std::size_t bucket_of(std::size_t hash) const noexcept {
        return static_cast<std::size_t>(spread(hash) >> shift_);
    }

    [[nodiscard]] Entry*& link_to(Entry& entry) noexcept {
        Entry** link = &buckets_[bucket_of(entry.hash)];
        while (*link != &entry) link = &(*link)->chain;
        return *link;
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
    [[no_unique_address]] Equal equal_{};
};

}  // namespace coalesce::detail
