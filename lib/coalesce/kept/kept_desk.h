// SPDX-License-Identifier: MIT
// KeptDesk: what a door with a loop asks of its store (SPEC T2–T8, T13, T26).
//
// A wrapper looks into the store itself; a batch and a server answer many at once, and no disk may
// hold up their loop. So the desk looks, keeps, syncs and cleans on threads of its own (io/worker.h),
// and all that is decided is decided on the loop. A request that wishes to read is looked up before it
// joins anything; what was kept here meanwhile makes the look be repeated, and what is being kept is waited for, so
// that a request made on completion hits (T13). What is found is handed to that request alone: no flight ever lands
// with a kept result, so whoever wished nothing is never served one. What is stale has a refresh started (refreshes.h).
// A run's result is kept by a keeper, which its flight has as its Retention and to which joiners add
// their wishes. The store fails no request; what is worth telling is told.
//
// It goes before the executor whose flights have its keepers.
#pragma once

#include <coalesce/command/key.h>
#include <coalesce/command/result.h>
#include <coalesce/flight/unique_function.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include <coalesce/engine/job.h>
#include <coalesce/engine/run.h>
#include <coalesce/io/worker.h>
#include <coalesce/kept/kept_flight.h>
#include <coalesce/kept/refreshes.h>
#include <coalesce/kept/savings.h>
#include <coalesce/kept/store_access.h>

namespace coalesce {

/// What is to be run, under which key, and what is wished of the store. What it points to lasts as long as the call.
struct KeptQuestion {
    const Job& job;
    const std::shared_ptr<const CanonicalSurroundings>& surroundings;
    std::string_view words;
    const Wish& wish;
};

class KeptDesk {
  public:
    struct Options {
        StorePlace place;
        MakeRefreshProgram make_refresh_program;  ///< unset: nothing is refreshed
        ChildHook in_child;                       ///< of what is started for that
    };
    struct Events {
        /// A result that was to be kept could not be written: "not kept: cannot write …". Not told again in the same
        /// words: of a full disk one line says enough (T15).
        UniqueFunction<void(const std::string&)> on_not_written;
    };
    /// `limits` are of the executor that will hold the spools, and outlive it.
    KeptDesk(Loop& loop, const SpoolLimits& limits, Options options, Events events);
    ~KeptDesk();
    KeptDesk(const KeptDesk&) = delete;
    KeptDesk& operator=(const KeptDesk&) = delete;

    /// Told on a later turn, in the order in which was asked: what answers the request, or null. What is warmed is
    /// always answered, with no output (T6), when a run for it has been started, if one is due; refused only where
    /// there is no room to have it run.
    using Answer = UniqueFunction<void(std::shared_ptr<const RunResult>)>;
    void look(const KeptQuestion& question, Answer answer);

    /// For the flight of a request that wishes to keep, and for each job that such a request may join: what its
    /// program is has to be known from before it begins (T11).
    [[nodiscard]] std::shared_ptr<Retention> keeper(const KeptQuestion& question);
    /// That request leads or has joined a flight whose Retention is a keeper too, or null while it has not begun: all
    /// their wishes count (T2). Null: it wishes nothing.
    static void share(std::shared_ptr<Retention>& retention, const std::shared_ptr<Retention>& keeper);

    /// Nothing of that key that was made by now is served or kept any more (T21). `done` on a later turn.
    void forget(const KeyView& key, UniqueFunction<void(Result<>)> done);

    /// The longest output that is kept, as far as it is known.
    void ask_entry_limit(UniqueFunction<void(std::uint64_t bytes)> answer);

    /// No refresh is started any more; who waits for one to be started is answered as cancelled.
    void refresh_no_more() { refreshes_.start_no_more(); }

    /// Whether that process is a program of ours: somebody here waits for its end.
    [[nodiscard]] bool is_own(pid_t pid) const noexcept { return refreshes_.is_own(pid); }

    /// Hits, and the time that they spared.
    [[nodiscard]] const Savings& hits() const noexcept { return hits_; }
    [[nodiscard]] std::uint64_t refreshes() const noexcept { return refreshes_.count(); }

  private:
    class Keeper;
    struct Look;
    struct Lookup;
    struct Keep;
    [[nodiscard]] KeptSubject subject_of(const KeptQuestion& question) const;
    [[nodiscard]] const std::shared_ptr<const CanonicalSurroundings>& in_store(
        const std::shared_ptr<const CanonicalSurroundings>& surroundings) const;
    void give(const std::shared_ptr<Look>& look);
    void looked(const std::shared_ptr<Look>& look);
    void keep(const std::shared_ptr<Keeper>& keeper, const std::shared_ptr<const RunResult>& result,
              UniqueFunction<void()> done);
    void kept(Keep& keep);
    void tidy(std::shared_ptr<KeptFlight> flight);
    void not_written(Keeper& keeper, std::string words);
    [[nodiscard]] std::uint64_t unwritten_bytes_max() const;
    void look_again(Keep& keep);
    void count(const RunResult& hit);
    void write_count();

    Loop& loop_;
    const SpoolLimits& limits_;
    const std::shared_ptr<StoreAccess> access_;
    Events events_;
    Refreshes refreshes_;
    std::unordered_map<std::string, std::vector<std::shared_ptr<Look>>> looks_;  // under way, by their keys' names
    std::unordered_multiset<std::string> publishing_;  // those names of what is being kept, and waited for
    std::string not_written_;                          // what was said last of a result that could not be
    std::uint64_t unwritten_bytes_ = 0;                // of results that wait for their thread
    std::size_t untidied_ = 0;
    Savings hits_;
    Savings uncounted_;  // of them, what the store's sum has yet to be told
    mutable std::shared_ptr<const CanonicalSurroundings> last_surroundings_;  // and what they are in the store
    mutable std::shared_ptr<const CanonicalSurroundings> last_in_store_;
    std::shared_ptr<std::atomic<bool>> ending_ = std::make_shared<std::atomic<bool>>(false);
    Worker looking_;
    Worker keeping_;
    Worker tidying_;  // syncs and cleans, which takes as long as a disk likes
};

}  // namespace coalesce
