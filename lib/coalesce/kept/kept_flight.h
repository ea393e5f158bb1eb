// SPDX-License-Identifier: MIT
// KeptFlight: one key's results in a store, for who has the flight's Retention (KeptDesk, Keeping).
//
// It knows what a request wished, finds a result that grants it, and keeps the one that the flight
// lands with where that is allowed: no signal, no cancellation, a failure only if somebody asked for it,
// nothing whose dependencies changed meanwhile (SPEC T7, T10). The store never fails a request: what came of
// it is told by words(), for `-v` or for standard error, and nothing else happens (T15, T24).
#pragma once

#include <sys/stat.h>

#include <coalesce/command/command.h>
#include <coalesce/engine/run.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <coalesce/kept/entry.h>
#include <coalesce/kept/store_access.h>
#include <coalesce/kept/tree_state.h>
#include <coalesce/kept/verdict.h>

namespace coalesce {

/// Requesters wait no longer than this for what is done for the store (T13).
constexpr std::chrono::milliseconds publishing_max{1000};

/// What that file is known by.
[[nodiscard]] ProgramIdentity identity_of(const struct stat& program);

/// What would be executed: argv[0] as the command's own PATH finds it, below `directory` where it is relative.
[[nodiscard]] ProgramIdentity program_of(const Command& command, const std::string& directory);

/// What a kept result is of, besides its key.
struct KeptSubject {
    std::shared_ptr<const CanonicalSurroundings> surroundings;  ///< as surroundings_in() its store
    std::string words;
    ProgramIdentity program;
    std::string title;
    std::string directory;
    std::vector<Dependency> dependencies;  ///< to look at once more after the run
    TreeState state;                       ///< what they were when the key was made
};

/// What counts of them in the store there: where it is shared, not what one kernel's numbers name (T16).
[[nodiscard]] std::shared_ptr<const CanonicalSurroundings> surroundings_in(
    const StorePlace& place, const std::shared_ptr<const CanonicalSurroundings>& surroundings);

/// Why a result is not to be kept, whatever the store says; empty: it may be.
[[nodiscard]] std::string why_not_kept(const RunResult& result, const Wish& wish);

/// What is passed on of an entry, as if its run had just landed.
[[nodiscard]] Result<std::shared_ptr<const RunResult>> result_of(const KeptStore::Hit& hit, const SpoolLimits& limits);

class KeptFlight {
  public:
    /// `limits` are those of the executor that will hold the spools, and outlive it.
    KeptFlight(std::shared_ptr<StoreAccess> access, KeptSubject subject, Wish wish, const SpoolLimits& limits)
        : access_(std::move(access)), subject_(std::move(subject)), wish_(wish), served_(wish), limits_(&limits) {}
    ~KeptFlight();

    /// Another requester shares the flight: the longest wish decides how long its result is kept (T2), and only
    /// what grants them all is served to them.
    void share_with(const Wish& wish) noexcept {
        widen(wish_, wish);
        narrow(served_, wish);
    }
    /// Only what is not stale yet is served: nobody here would start the refresh.
    void serve_no_stale() noexcept { not_stale_ = true; }
    [[nodiscard]] const std::string& key_name() const noexcept { return key_.name; }
    [[nodiscard]] const Wish& wish() const noexcept { return wish_; }
    /// Whether output of so many bytes could still be kept.
    [[nodiscard]] bool could_keep(std::uint64_t bytes);
    [[nodiscard]] const StorePlace& place() const noexcept { return access_->place(); }
    /// It runs because a hit was stale: if it fails, that is noted (T5), but not where it never began for want of room.
    void is_refresh() noexcept { refresh_ = true; }

    /// A kept result that grants all wishes, or null.
    [[nodiscard]] std::shared_ptr<const RunResult> find();
    /// Keeps it, unless that is to go on in after_delivery(): after `until`, if that is given. The run was over at
    /// `ended`, which may be a while ago.
    void keep(const std::shared_ptr<const RunResult>& result, const Moment& ended,
              std::optional<std::chrono::steady_clock::time_point> until) noexcept;

    /// Once its requesters have been served: goes on with what would have held them up, syncs long output, and
    /// cleans the store if its time has come (T13, T17, T19). Slow; at the latest the destructor does it.
    void after_delivery() noexcept;
    /// The same for whoever is about to end: what can be named is named, and nothing is synced or cleaned.
    void leave() noexcept;

    /// "kept for 10m", "not kept: exit 3"; empty before the landing, or if nothing was wished.
    [[nodiscard]] const std::string& words() const noexcept { return words_; }
    /// It was to be kept and could not be written: worth a line on standard error without `-v`.
    [[nodiscard]] bool failed() const noexcept { return failed_; }

  private:
    [[nodiscard]] bool open(bool make);
    void publish(const std::shared_ptr<const RunResult>& result,
                 std::optional<std::chrono::steady_clock::time_point> until);
    void write(const std::shared_ptr<const RunResult>& result,
               std::optional<std::chrono::steady_clock::time_point> until);
    void commit();
    void not_kept(std::string why, bool failed = false);

    std::shared_ptr<StoreAccess> access_;
    std::shared_ptr<const KeptStore> store_;  // once it was needed
    KeptSubject subject_;
    StoreKey key_ = store_key({subject_.surroundings, subject_.words});
    Wish wish_;
    Wish served_;  // what a kept result has to grant
    const SpoolLimits* limits_;
    bool refresh_ = false;
    bool not_stale_ = false;
    std::optional<KeptStore::Publication> publication_;
    Moment ended_{};
    std::shared_ptr<const RunResult> late_;  // it could not be kept in time
    std::chrono::nanoseconds kept_for_{0};
    std::string words_;
    bool failed_ = false;
};

}  // namespace coalesce
