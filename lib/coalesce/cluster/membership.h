// SPDX-License-Identifier: MIT
// ClusterMembership: one flight's part among machines; see README.md for the protocol's states.
//
// It asks the engine for the flight's key and is told to run it, to follow the run that there
// is, or to wait. Who runs holds a lease: it is renewed long before it passes, and counted from
// the sending of what was answered last. Should the answers stop, the run is ended while
// the lease still holds, by us at 0.6 and 0.85 of it, and by the guard whatever becomes of us,
// so that nobody who then takes the key over finds it running (SPEC M28, M29). Who follows
// says that it waits, and takes over when the runner is lost, as long as nothing was given away.
//
// Each question is an attempt with a number; answers to earlier ones count for nothing, but
// what they have granted is given back.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <coalesce/cluster/cluster.h>
#include <coalesce/cluster/engine.h>
#include <coalesce/cluster/follower.h>
#include <coalesce/cluster/publisher.h>
#include <coalesce/cluster/records.h>
#include <coalesce/cluster/scripts.h>
#include <coalesce/cluster/secret.h>
#include <coalesce/engine/sharing.h>
#include <coalesce/io/guard.h>
#include <coalesce/io/watch.h>

namespace coalesce {

class ClusterMembership final : public Sharing::Membership {
  public:
    ClusterMembership(Cluster& cluster, FlightId id, Job& job, Run& run, Sharing::Answers answers);
    ~ClusterMembership() override;

    void alone() override;
    void joined() override;
    [[nodiscard]] Outcome judge(Outcome outcome) override;
    void conclude(const RunResult& result, UniqueFunction<void()> done) override;

  private:
    using Milliseconds = std::chrono::milliseconds;
    enum class State {
        asking,     // a question is on its way, or waits for the engine
        waiting,    // for the end of a run that cannot be shared
        running,    // here, under a lease
        unleased,   // here, and exclusive no more: the engine is gone, and that was agreed to (down=run)
        following,  // what runs elsewhere
        over,       // nothing is ours at the engine any more
    };

    // --- asking
    void ask();
    void send_question();
    void on_question_answered(Milliseconds sent, Milliseconds newest, const Result<RespValue>& answer);
    void ask_again(Milliseconds delay);
    void on_engine_up();
    void on_engine_down(const NoAnswer& why);
    void on_out_of_patience();
    void refuse(std::string why);

    // --- running
    void run_here(const RespValue& granted, Milliseconds sent);
    void run_unleased(const std::string& why);
    void hold_until(Milliseconds base);
    void renew();
    void on_renewed(Milliseconds sent, bool was_alone, const Result<RespValue>& answer);
    void on_cancelled(bool for_all);
    void on_lease_runs_out();
    void publish_if_wanted();
    void tell_done();
    [[nodiscard]] Milliseconds kept_for() const;

    // --- following
    void follow(const RespValue& answer);
    void wait_for(const RespValue& answer);
    void beat_in(Milliseconds delay);
    void beat();
    void on_beaten(const Result<RespValue>& answer);
    void on_followed_end(EndRecord record);
    void lose(const std::string& why);
    void on_broken(const std::string& why);
    void bury();
    [[nodiscard]] std::optional<RunInfo> info_in(const RespValue& answer) const;
    void leave();

    void listen(const std::string& channel);
    void look_now();
    void on_word(const std::string& word);

    Cluster& cluster_;
    Engine& engine_;
    Loop& loop_;
    const FlightId id_;
    Job& job_;
    Run& flight_;
    Sharing::Answers answers_;
    const std::string key_;
    const EngineKeys keys_;
    const std::string client_;  // a member's name: 128 random bits
    const Milliseconds lease_;
    const Milliseconds heartbeat_;

    State state_ = State::asking;
    std::uint64_t attempt_ = 0;
    std::string run_;  // the name of what we run, follow or wait for
    std::optional<Seal> seal_;
    RunInfo info_;
    bool tried_ourselves_ = false;  // what could not be started elsewhere (SPEC M22)

    Engine::Listener listener_;
    std::optional<Engine::Subscription> words_;
    Timer next_;      // the next question, renewal or beat
    Timer patience_;  // with an engine that is not there
    bool impatient_ = false;
    bool told_of_youth_ = false;

    Guard::Deadline deadline_;
    Timer runs_out_;
    Milliseconds base_{0};  // the lease is counted from here, in time since boot
    bool alone_ = false;    // nobody here waits
    bool answer_alone_ = false;
    bool shut_ = false;
    bool cancelled_ = false;
    bool for_all_ = false;      // somebody has ended it for everyone
    bool ended_there_ = false;  // what we follow
    bool broken_before_ = false;
    std::optional<Publisher> publisher_;
    UniqueFunction<void()> done_;

    std::shared_ptr<Follower*> follower_ = std::make_shared<Follower*>(nullptr);
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace coalesce
