// SPDX-License-Identifier: MIT
// Store: the directory of kept results, read and written by any number of processes (T13–T21).
//
// A result is one file, named by its key's hash, written aside and renamed: whole or absent,
// whatever is killed when. Reading takes no lock, and whoever has opened an entry gets all of
// it though it is replaced meanwhile. Publishing and forgetting one key exclude each other by
// a lock on one byte of a common file, a kernel lock that ends with its holder: so what was
// forgotten stays so, and an older run never takes a newer one's place. A database would bring
// its own locks, copy each answer, and be read at every start.
//
// Which files there are is StoreDirectory's, what goes when, StoreCleaning's.
//
// An entry's time of modification says until when it is kept, its time of access when it was
// used last: file systems keep the latter up to date as long as the former lies ahead (relatime),
// so that a hit writes nothing and cleaning reads no file.
//
// It never fails a request (T15): what cannot be opened, trusted or verified is not there, and
// what is damaged is removed. But who asks what is kept is told of what could not be opened (T23).
#pragma once

#include <coalesce/command/key.h>
#include <coalesce/command/result.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <coalesce/kept/entry.h>
#include <coalesce/kept/store_directory.h>
#include <coalesce/kept/store_place.h>
#include <coalesce/kept/verdict.h>

namespace coalesce {

/// What a key is called in a store.
struct StoreKey {
    std::string name;  ///< 32 hexadecimal digits
    Digest digest{};   ///< of 256 bits: what an entry must agree with (K3)
};

/// `name`: its key_hash(), where that is known already.
[[nodiscard]] StoreKey store_key(const KeyView& key, std::string name = {});

/// Bounds of a store (T19).
struct KeptLimits {
    std::uint64_t total_bytes = std::uint64_t{1} << 30;
    std::uint64_t entry_bytes = std::uint64_t{64} << 20;
    std::uint64_t results = 100'000;
};

class KeptStore {
  public:
    /// Opens the store there, or makes it. No value: there is none and `make` is not set.
    [[nodiscard]] static Result<std::optional<KeptStore>> open(StorePlace place, bool make);

    struct Hit {
        Entry entry;
        Verdict verdict;
        std::chrono::nanoseconds left{0};  ///< until it may be cleaned away
    };
    /// What is kept under the key and grants the wish, the younger of success and failure. What is
    /// damaged is removed; `program` is what would be executed, and must be what made it (T11).
    /// A refresh is due only if none has failed since the wish's `stale` ago (T5).
    [[nodiscard]] std::optional<Hit> find(const StoreKey& key, const Wish& wish, const ProgramIdentity& program,
                                          const Moment& now) const;

    enum class Publishing {
        kept,
        busy,       ///< another process holds the key's lock: ask again
        forgotten,  ///< the key was forgotten, or all was cleared, since the run started
        older,      ///< a younger result is there already
    };
    /// A result that has been written and has no name yet; without commit() it is gone. The
    /// store outlives it and is not moved meanwhile.
    class Publication {
      public:
        /// Gives it its name. Waits for nobody.
        [[nodiscard]] Result<Publishing> commit();
        /// Writes it to the disk, after its requesters have been served, if it is long (T17).
        void sync() noexcept;

      private:
        friend class KeptStore;
        Publication(const KeptStore& store, StoreKey key, const EntryFacts& facts, StoreDirectory::Unnamed file)
            : store_(&store),
              key_(std::move(key)),
              failure_(facts.exit_status != 0),
              started_(facts.started),
              file_(std::move(file)) {}

        const KeptStore* store_;
        StoreKey key_;
        bool failure_;
        Moment started_;
        StoreDirectory::Unnamed file_;
    };
    /// Writes a result of `kept_for` from now. Refused as "too large" past the limit of one entry, and as ETIMEDOUT
    /// where that takes longer than `until`.
    [[nodiscard]] Result<Publication> prepare(
        const StoreKey& key, Spool& spool, const EntryFacts& facts, std::chrono::nanoseconds kept_for,
        std::optional<std::chrono::steady_clock::time_point> until = std::nullopt) const;

    /// A refresh has failed: the next is due when the wish's `stale` has passed again.
    void note_failed_refresh(const StoreKey& key, const Moment& now) const noexcept;

    /// Removes the key's results; one of a run that started before now is not kept either.
    [[nodiscard]] Result<> forget(std::string_view name, const Moment& now) const;
    /// Removes all results, and likewise.
    [[nodiscard]] Result<> clear(const Moment& now) const;

    /// What is known of a result, without its file, of which many would be too many to hold open.
    struct Listed {
        Listed(std::string_view file, const Entry& entry, const Moment& now);
        std::string name;
        EntryFacts facts;  ///< without the parts, which are most of it
        std::uint64_t output_bytes;
        std::chrono::nanoseconds left;
    };
    struct Listing {
        std::vector<Listed> results;  ///< the youngest first; damaged ones are passed over
        Result<> complete;            ///< or why what is there could not be read
    };
    [[nodiscard]] Listing list(const Moment& now) const;
    /// The keys of which something is kept and whose names begin so.
    [[nodiscard]] Result<std::set<std::string>> keys(std::string_view beginning) const;
    /// What is kept under that key, the younger of success and failure, whoever made it. What is damaged is removed.
    [[nodiscard]] Result<std::optional<Entry>> look(const std::string& key, Entry::Check check) const;

    [[nodiscard]] KeptLimits limits() const;
    [[nodiscard]] Result<> set_limits(const KeptLimits& limits) const;

    struct Cleaned {
        std::size_t removed = 0;
        std::uint64_t bytes = 0;
    };
    /// Removes what is past its time, then the least recently used down to nine tenths of the limits. Nothing:
    /// another process is at it, or, unless `now_please`, it was done less than a minute ago or took a
    /// hundredth of the time since (T19).
    std::optional<Cleaned> clean(const Moment& now, bool now_please) const noexcept;

    [[nodiscard]] const StorePlace& place() const noexcept { return place_; }
    [[nodiscard]] const StoreDirectory& files() const noexcept { return files_; }
    [[nodiscard]] int directory() const noexcept { return files_.fd(); }

  private:
    KeptStore(StorePlace place, Descriptor directory)
        : place_(std::move(place)), files_(std::move(directory), place_.path()) {}

    [[nodiscard]] Result<> note_forgotten(const std::string& note, const Moment& now) const;
    [[nodiscard]] Result<std::optional<Entry>> read_one(const std::string& key, bool failure, StoreDirectory::Use use,
                                                        const Digest* digest, Entry::Check check) const;
    [[nodiscard]] std::optional<Hit> find_one(const StoreKey& key, bool failure, const Wish& wish,
                                              const ProgramIdentity& program, const Moment& now) const;

    StorePlace place_;
    StoreDirectory files_;
};

}  // namespace coalesce
