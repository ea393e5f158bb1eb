// SPDX-License-Identifier: MIT
// LeasedRun: a run of ours, under the lease that the engine gave us for its key.
//
// The lease is renewed long before it passes, and counted from the sending of what was answered
// last. Should the answers stop, the run is ended while the lease still holds: by the membership,
// which is told at 0.6 of it, with KILL at 0.85, and by the guard, whatever becomes of us (SPEC M28, M29). A renewal's
// answer tells also who waits elsewhere: for them the output is published, and the end when there is one.
#pragma once

#include <coalesce/flight/unique_function.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include <coalesce/cluster/cluster.h>
#include <coalesce/cluster/engine.h>
#include <coalesce/cluster/publisher.h>
#include <coalesce/cluster/scripts.h>
#include <coalesce/cluster/secret.h>
#include <coalesce/engine/job.h>
#include <coalesce/engine/run.h>
#include <coalesce/io/guard.h>
#include <coalesce/io/watch.h>

namespace coalesce {

class LeasedRun {
  public:
    using Milliseconds = std::chrono::milliseconds;

    /// Each may destroy it.
    struct Events {
        UniqueFunction<void()> on_fenced;                 ///< another machine has the key, and the run is not over
        UniqueFunction<void(bool for_all)> on_cancelled;  ///< at the engine; for all, or nobody waits here either
        UniqueFunction<void()> on_somebody_else;          ///< answers ask_who_waits()
        UniqueFunction<void()> on_runs_out;               ///< nothing was answered for 0.6 of the lease
    };
    /// Who holds it, for what.
    struct Holder {
        Cluster& cluster;
        const EngineKeys& keys;
        const std::string& key;
        const std::string& client;
        Job& job;     ///< is told of the guard's deadline
        Run& flight;  ///< is told how many wait elsewhere
        bool alone;   ///< nobody here waits
    };
    /// The engine granted it to the run with that name, when it was asked at `sent`. What the holder names must
    /// outlive it.
    LeasedRun(const Holder& holder, const std::string& name, Milliseconds sent, Events events);
    ~LeasedRun();
    LeasedRun(const LeasedRun&) = delete;
    LeasedRun& operator=(const LeasedRun&) = delete;

    /// What begins so long after it was asked for might not be over in time.
    [[nodiscard]] static bool too_late(const EngineUrl& url, Milliseconds sent);
    /// For how long the engine keeps the end of such a job.
    [[nodiscard]] static Milliseconds kept_for(const EngineUrl& url, const Job& job);

    /// Nothing has begun under what was granted to the run with that name: somebody else may have it.
    static void give_back(Engine& engine, const EngineKeys& keys, const Seal& seal, const std::string& name);
    /// The same of this one, which is over.
    void give_back();

    void renew();
    /// Nobody here waits; who does elsewhere? The answer is on_somebody_else, or on_cancelled.
    void ask_who_waits();
    /// Somebody here waits again.
    void joined();
    /// Word has come that somebody elsewhere does.
    void joined_elsewhere();

    /// It may be by its guard that it has come to that end.
    [[nodiscard]] bool may_have_been_ended(const Outcome& outcome) const;
    [[nodiscard]] Milliseconds unanswered_for() const;
    [[nodiscard]] Milliseconds until_killed() const;

    /// It is about to be ended: nobody joins it any more. `for_everyone`: its end is that of all who have.
    void called_off(bool for_everyone);
    /// It is not renewed any more, and no answer counts; the guard's deadline stays.
    void let_go();
    /// The same, and it is not published any more: the run goes on without the engine (down=run).
    void go_on_alone();
    /// Its process has ended.
    void process_over();
    /// Tells those elsewhere of the end; `done` when they have been, or when nobody will have heard of it. Who has
    /// joined may be known to the engine alone: where that decides whether output is published, it is asked first.
    void conclude(const RunResult& result, UniqueFunction<void()> done);
    /// With down=run what is over here is not held back for it for long.
    void engine_lost();

  private:
    void hold_until(Milliseconds base);
    /// No other machine can have begun it: until then the guard has not ended it.
    [[nodiscard]] bool ours() const;
    struct Renewal {
        Milliseconds sent;
        bool uncounted;
        bool shut;
    };
    void on_renewed(const Renewal& renewal, const Result<RespValue>& answer);
    void publish_if_wanted();
    Publisher& publisher();
    void shut();
    void told();

    Engine& engine_;
    const EngineKeys& keys_;
    const std::string& client_;
    Job& job_;
    Run& flight_;
    Events events_;
    const std::string name_;
    const Seal seal_;
    const Milliseconds lease_;
    const Milliseconds heartbeat_;
    Timer next_;
    Timer runs_out_;
    Guard::Deadline deadline_;
    Milliseconds base_{0};  // the lease is counted from here, in time since boot
    bool lapsed_ = false;   // once, though it was renewed then: this machine may have slept
    bool held_ = true;      // and renewed
    bool alone_;            // nobody here waits
    bool asks_who_waits_ = false;
    Milliseconds counted_until_{0};  // alone or not, since boot: others may have been forgotten
    bool shut_ = false;              // nobody else can have all of its output
    bool cancelled_ = false;
    bool for_all_ = false;  // somebody has ended it for everyone
    std::optional<Publisher> publisher_;
    UniqueFunction<void()> done_;
    UniqueFunction<void()> finish_;            // once it is known who waits
    std::unique_ptr<SpoolReader> first_byte_;  // stands there until then
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace coalesce
