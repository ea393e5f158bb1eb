// SPDX-License-Identifier: MIT
// RunElsewhere: a run that another machine holds, as somebody knows it who waits for it.
//
// What the engine told of it is its name and who runs it, which is believed only if it was sealed
// with our secret. Who follows it says every heartbeat that it waits, and hears by the answer
// whether the run is still there: one whose lease has passed is lost, and one whose processes were on
// this machine and are gone is buried, without waiting for its lease (SPEC M32). Its output is a
// Follower's; what becomes of an end, a break or a loss, the membership's.
#pragma once

#include <coalesce/flight/unique_function.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <coalesce/cluster/cluster.h>
#include <coalesce/cluster/engine.h>
#include <coalesce/cluster/follower.h>
#include <coalesce/cluster/records.h>
#include <coalesce/cluster/scripts.h>
#include <coalesce/cluster/secret.h>
#include <coalesce/engine/run.h>
#include <coalesce/io/watch.h>

namespace coalesce {

class RunElsewhere {
  public:
    /// How long who waits is taken for present, unless it says so again.
    static constexpr std::chrono::milliseconds presence{15'000};
    static constexpr std::chrono::milliseconds heartbeat_max{3'000};

    /// Each may destroy it.
    struct Events {
        UniqueFunction<void()> on_over;          ///< it has ended, and there may be output to come; may be told again
        UniqueFunction<void(EndRecord)> on_end;  ///< all of its output has come
        UniqueFunction<void(const std::string& why)> on_broken;
        UniqueFunction<void(const std::string& why)> on_lost;
    };
    /// Who asks, about what.
    struct Asker {
        Cluster& cluster;
        const EngineKeys& keys;
        const std::string& key;
        const std::string& client;
        Run& flight;    ///< is told where it runs, how many wait elsewhere, and of its end
        bool end_only;  ///< nobody here wants more than that
    };
    /// `answer` is the engine's: JOIN, DONE or WAIT. What the asker names must outlive it.
    RunElsewhere(const Asker& asker, const RespValue& answer, Events events);
    ~RunElsewhere();
    RunElsewhere(const RunElsewhere&) = delete;
    RunElsewhere& operator=(const RunElsewhere&) = delete;

    /// Nothing, if it was not begun by anybody with our secret.
    [[nodiscard]] const std::optional<RunInfo>& info() const noexcept { return info_; }
    /// It was on this machine, and nothing of it is left.
    [[nodiscard]] bool dead_here() const { return info_ && info_->dead_here(); }
    /// After so long the lease that it has, if it has one, has passed.
    [[nodiscard]] std::chrono::milliseconds lease_passes_in() const noexcept { return lease_passes_in_; }
    /// Has the engine forget it: its lease is not waited for. Then, or if that is not answered, `done`.
    void bury(UniqueFunction<void()> done);

    /// What comes of it, from its first byte. From here on the engine is told that we wait.
    std::unique_ptr<RunSource> follow();
    /// Says that we wait. Where nobody has heard it for a lease, the run is as good as lost.
    void beat();
    /// There may be something new of its output.
    void look();
    /// How much of its output has been handed out.
    [[nodiscard]] std::uint64_t received() const noexcept;
    /// It is over for whoever follows it, as that.
    void end(Outcome outcome);
    /// We do not wait for it any more. A beat says that we do.
    void leave();
    void stop_beating() { next_beat_.stop(); }

  private:
    using Milliseconds = std::chrono::milliseconds;

    void beat_in(Milliseconds delay);
    void on_beaten(const Result<RespValue>& answer);
    [[nodiscard]] bool silent_for_a_lease() const;

    Engine& engine_;
    const EngineKeys& keys_;
    const std::string& client_;
    Run& flight_;
    const bool end_only_;
    Events events_;
    const std::string name_;
    const Seal seal_;
    std::optional<RunInfo> info_;
    const bool live_;                // as the engine told of it first
    const Milliseconds over_since_;  // if not; in time since boot
    const Milliseconds lease_passes_in_;
    Timer next_beat_;
    std::optional<Milliseconds> unanswered_since_;                                // since boot
    std::shared_ptr<Follower*> follower_ = std::make_shared<Follower*>(nullptr);  // null: it is gone
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace coalesce
