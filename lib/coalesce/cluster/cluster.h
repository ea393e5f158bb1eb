// SPDX-License-Identifier: MIT
// Cluster: the runs of this process, shared with those of other machines (SPEC M14).
//
// What the executor asks before each run. Machines that have one engine, one secret and one
// namespace are one circle; which of their jobs are the same is told by the name that the door
// gives to each (share). Of two flights here that those elsewhere could not tell apart
// the second stays local (SPEC M11). All else is a membership's, one for a flight.
#pragma once

#include <coalesce/command/key.h>
#include <coalesce/flight/unique_function.h>

#include <memory>
#include <optional>
#include <string>
#include <unordered_set>

#include <coalesce/cluster/circle.h>
#include <coalesce/cluster/engine.h>
#include <coalesce/engine/command_executor.h>
#include <coalesce/engine/job.h>
#include <coalesce/engine/run.h>
#include <coalesce/engine/sharing.h>
#include <coalesce/io/guard.h>

namespace coalesce {

class Cluster final : public Sharing {
  public:
    /// Connects when there is something to ask. The loop and the guard must outlive it. `patience` is for how long
    /// a request waits at least for an engine that does not answer (SPEC M7).
    Cluster(Loop& loop, Circle circle, Guard& guard, std::chrono::milliseconds patience);

    /// Gives the job of that key its name, unless it is one that is shared with nobody.
    void share(Job& job, const RequestKey& key);

    std::unique_ptr<Membership> ask(FlightId id, Job& job, Run& run, Answers answers) override;

    /// A sentence for everyone who waits for that flight.
    void on_notice(UniqueFunction<void(FlightId, const std::string&)> on_notice) { on_notice_ = std::move(on_notice); }

    [[nodiscard]] Engine& engine();
    [[nodiscard]] const Secret& secret() const noexcept { return circle_.secret; }
    [[nodiscard]] Guard& guard() noexcept { return guard_; }
    [[nodiscard]] const std::string& host() const noexcept { return host_; }
    [[nodiscard]] std::chrono::milliseconds patience() const noexcept { return patience_; }
    /// Nothing is asked any more, and no proxy left.
    void disconnect() { engine_.reset(); }
    /// A job of that name has no flight here any more.
    void no_more(const std::string& shared_as) { live_.erase(shared_as); }
    void notice(FlightId id, const std::string& sentence) {
        if (on_notice_) on_notice_(id, sentence);
    }

  private:
    Loop& loop_;
    const Circle circle_;
    Guard& guard_;
    const std::chrono::milliseconds patience_;
    const std::string host_;
    std::optional<Engine> engine_;                             // once there was something to ask
    std::shared_ptr<const CanonicalSurroundings> last_whole_;  // which most jobs have,
    std::string last_common_;                                  // what the machines have in common of it,
    std::string last_digests_;                                 // and the digests of its parts
    UniqueFunction<void(FlightId, const std::string&)> on_notice_;
    std::unordered_set<std::string> live_;  // names of the jobs that are shared now
};

}  // namespace coalesce
