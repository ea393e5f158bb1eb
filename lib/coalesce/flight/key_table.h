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

/// What an entry is found by besides its key.
struct KeyEntry {
    explicit KeyEntry(std::size_t key_hash) noexcept : hash(key_hash) {}

    const std::size_t hash;
    KeyEntry* chain = nullptr;  // the next of its bucket; the table's
};

/// The table as far as it does not know what a key is, and so is compiled once.
class KeyTableCore {
  public:
    KeyTableCore() = default;
    KeyTableCore(const KeyTableCore&) = delete;
    KeyTableCore& operator=(const KeyTableCore&) = delete;

    /// The first of those whose hash falls into the bucket of `hash`, or null.
    [[nodiscard]] KeyEntry* bucket(std::size_t hash) const noexcept {
        return size_ == 0 ? nullptr : buckets_[bucket_of(hash)];
    }

    /// Makes room for one more, so that insert() cannot fail.
    void reserve_one() {
        if (size_ + 1 > buckets_.size()) rehash(buckets_.empty() ? kFewestBuckets : buckets_.size() * 2);
    }

    /// Adds an entry whose key is not there.
    void insert(KeyEntry& entry) noexcept {
        KeyEntry*& head = buckets_[bucket_of(entry.hash)];
        entry.chain = head;
        head = &entry;
        ++size_;
    }

    /// Puts `entry`, of an equal key, in the place of `old`.
    void replace(KeyEntry& old, KeyEntry& entry) noexcept {
        entry.chain = old.chain;
        link_to(old) = &entry;
    }

    /// Takes this very entry out.
    void erase(KeyEntry& entry) noexcept {
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

    [[nodiscard]] KeyEntry*& link_to(KeyEntry& entry) noexcept {
        KeyEntry** link = &buckets_[bucket_of(entry.hash)];
        while (*link != &entry) link = &(*link)->chain;
        return *link;
    }

    void rehash(std::size_t count) {
        std::vector<KeyEntry*> old(count, nullptr);
        old.swap(buckets_);
        shift_ = 64 - std::countr_zero(count);
        for (KeyEntry* entry : old)
            while (entry) {
                KeyEntry* next = entry->chain;
                KeyEntry*& head = buckets_[bucket_of(entry->hash)];
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

    std::vector<KeyEntry*> buckets_;
    int shift_ = 64;
    std::size_t size_ = 0;
};

/// Finds an Entry, which is a KeyEntry with a member `key`.
template <class Entry, class Equal>
class KeyTable : public KeyTableCore {
  public:
    /// The entry of `key`, whose hash is `hash`, or null.
    template <class K>
    [[nodiscard]] Entry* find(std::size_t hash, const K& key) const {
        for (KeyEntry* entry = bucket(hash); entry; entry = entry->chain)
            if (entry->hash == hash && equal_(static_cast<Entry*>(entry)->key, key)) return static_cast<Entry*>(entry);
        return nullptr;
    }

    /// False for a key that no lookup would find again, such as a NaN.
    template <class Key>
    [[nodiscard]] bool can_find(const Key& key) const {
        return static_cast<bool>(equal_(key, key));
    }

  private:
    [[no_unique_address]] Equal equal_{};
};

}  // namespace coalesce::detail
