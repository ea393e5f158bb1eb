// SPDX-License-Identifier: MIT
// KeptFlight: one key's results in a store, as the executor asks for them (Retention).
//
// It knows what a request wished, finds a result that grants it, and keeps the one that the flight
// lands with where that is allowed: no signal, no cancellation, a failure only if somebody asked for it,
// nothing whose dependencies changed meanwhile (SPEC T7, T10). The store never fails a request: what came of
// it is told by last_words(), for `-v` or for standard error, and nothing else happens (T15, T24).
#pragma once

#include <coalesce/command/command.h>
#include <coalesce/engine/retention.h>
#include <coalesce/engine/run.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <coalesce/kept/entry.h>
#include <coalesce/kept/store.h>
#include <coalesce/kept/tree_state.h>
#include <coalesce/kept/wish.h>

namespace coalesce {

/// What would be executed: argv[0] as the command's own PATH finds it, below `directory` where it is relative.
[[nodiscard]] ProgramIdentity program_of(const Command& command, const std::string& directory);

/// What a kept result is of, besides its key.
struct KeptSubject {
    StoreKey key;
    ProgramIdentity program;
    std::string title;
    std::string directory;
    std::vector<KeyPart> parts;
    std::vector<Dependency> dependencies;  ///< to look at once more after the run
    TreeState state;                       ///< what they were when the key was made
};

/// What is passed on of an entry, as if its run had just landed.
[[nodiscard]] Result<std::shared_ptr<const RunResult>> result_of(const KeptStore::Hit& hit, const SpoolLimits& limits);

class KeptFlight final : public Retention {
  public:
    /// `limits` are those of the executor that will hold the spools, and outlive it.
    KeptFlight(std::shared_ptr<const KeptStore> store, KeptSubject subject, Wish wish, const SpoolLimits& limits)
        : store_(std::move(store)), subject_(std::move(subject)), wish_(wish), limits_(&limits) {}
    ~KeptFlight() override;

    /// Another requester shares the flight: the longest wish decides (T2).
    void widen(const Wish& wish) noexcept { coalesce::widen(wish_, wish); }
    [[nodiscard]] const Wish& wish() const noexcept { return wish_; }
    /// Whether output of so many bytes could still be kept.
    [[nodiscard]] bool could_keep(std::uint64_t bytes) const { return bytes <= store_->limits().entry_bytes; }
    /// It runs because a hit was stale: if it fails, that is noted (T5).
    void is_refresh() noexcept { refresh_ = true; }

    [[nodiscard]] std::shared_ptr<const RunResult> find() override;
    void keep(const std::shared_ptr<const RunResult>& result) noexcept override;

    /// Once its requesters have been served: goes on with what would have held them up, syncs long output, and
    /// cleans the store if its time has come (T13, T17, T19). Slow; at the latest the destructor does it.
    void after_delivery() noexcept;

    /// "kept for 10m", "not kept: exit 3"; empty before the landing, or if nothing was wished.
    [[nodiscard]] const std::string& last_words() const noexcept { return words_; }
    /// It was to be kept and could not be written: worth a line on standard error without `-v`.
    [[nodiscard]] bool failed() const noexcept { return failed_; }

  private:
    [[nodiscard]] std::string why_not(const RunResult& result) const;
    void write(const RunResult& result);
    void commit();
    void not_kept(std::string why, bool failed = false);

    std::shared_ptr<const KeptStore> store_;
    KeptSubject subject_;
    Wish wish_;
    const SpoolLimits* limits_;
    bool refresh_ = false;
    std::optional<KeptStore::Publication> publication_;
    std::shared_ptr<const RunResult> late_;  // its dependencies could not be looked at in time
    std::chrono::nanoseconds kept_for_{0};
    std::string words_;
    bool failed_ = false;
};

}  // namespace coalesce
