// SPDX-License-Identifier: MIT
// ClassTurns: the executor's turns, from the queues of classes in the meeting place (SPEC C).
//
// A queue is opened when a run of its class asks, and closed with the last one's turn. What a turn waits for is watched
// on the loop; a slow timer is there for what cannot be.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <coalesce/engine/turnstile.h>
#include <coalesce/meeting/class_queue.h>

namespace coalesce {

class ClassTurns final : public Turnstile {
  public:
    /// `place` is asked for when the first run of a class asks: it opens the meeting place
    /// (MeetingPlaces::for_classes).
    explicit ClassTurns(std::function<Result<MeetingPlace>()> place) : place_(std::move(place)) {}

    [[nodiscard]] bool shares_turn(const RunClass& run_class, const std::vector<pid_t>& askers) override;
    [[nodiscard]] Result<std::unique_ptr<Turn>> ask(Loop& loop, const RunClass& run_class, unsigned jobs,
                                                    const std::vector<pid_t>& askers, Turns::Time takes,
                                                    UniqueFunction<void()> on_come) override;

  private:
    [[nodiscard]] Result<std::shared_ptr<ClassQueue>> queue_of(const std::string& name);

    const std::function<Result<MeetingPlace>()> place_;
    std::map<std::string, std::weak_ptr<ClassQueue>> queues_;  // each its turns', which hold its directory open
};

}  // namespace coalesce
