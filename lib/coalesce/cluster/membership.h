// SPDX-License-Identifier: MIT
// ClusterMembership: one flight's part among machines; see README.md for the protocol's states.
//
// It asks the engine for the flight's key and is told to run it (a LeasedRun), to follow the run
// that there is or to wait (a RunElsewhere), and turns into the executor's answers what becomes of
// either. A run of ours is ended while its lease still holds, so that nobody who then takes the key
// over finds it running. Who follows takes over when the runner is lost, as long as nothing was
// given away.
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
#include <coalesce/cluster/leased_run.h>
#include <coalesce/cluster/records.h>
#include <coalesce/cluster/run_elsewhere.h>
#include <coalesce/cluster/scripts.h>
#include <coalesce/engine/sharing.h>
#include <coalesce/io/watch.h>

namespace coalesce {

class ClusterMembership final : public Sharing::Membership {
  public:
    ClusterMembership(Cluster& cluster, FlightId id, Job& job, Run& run, Sharing::Answers answers);
    ~ClusterMembership() override;

    void alone() override;
    void joined() override;
    void called_off(bool for_everyone) override;
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
    /// Also one that was over before the request: the command is to run once.
    [[nodiscard]] bool any_result_does() const noexcept { return job_.once && !flight_.fresh; }
    void on_engine_up();
    void on_engine_down(const NoAnswer& why);
    void lose_patience();
    void be_patient();
    void on_out_of_patience();
    void refuse(Outcome why);

    // --- running
    void run_here(const RespValue& granted, Milliseconds sent);
    void run_unleased(const std::string& why);
    void on_fenced();
    void on_cancelled(bool for_all);
    void on_lease_runs_out();
    void tell_done();

    // --- following
    void follow(const RespValue& answer);
    void wait_for(const RespValue& answer);
    void know_of(const RespValue& answer);
    void bury();
    void on_over_there();
    void on_followed_end(EndRecord record);
    void lose(const std::string& why);
    void on_broken(const std::string& why);

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

    State state_ = State::asking;
    std::uint64_t attempt_ = 0;
    Timer next_;                             // question
    std::optional<LeasedRun> leased_;        // ours, also when it is exclusive no more
    std::optional<RunElsewhere> elsewhere_;  // what we follow or wait for
    bool broken_before_ = false;
    bool ended_there_ = false;  // what we follow
    bool heard_ = false;        // something, since we asked

    Engine::Listener listener_;
    std::optional<Engine::Subscription> words_;
    Timer patience_;  // with an engine that is not there, or refuses
    std::optional<NoAnswer> refusal_;
    bool impatient_ = false;
    bool told_of_youth_ = false;

    bool alone_ = false;  // nobody here waits
    UniqueFunction<void()> done_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace coalesce
