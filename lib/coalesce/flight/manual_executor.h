// ManualExecutor: an executor that moves only when told to.
//
// For tests, which want to stand between a landing and its delivery, and for
// programs that already have a loop and only need a place to drain once a
// turn. It owns what was posted; what was never run is destroyed with it, in
// order, without being called. It leaves waking anybody up to its owner.
#pragma once

#include <coalesce/flight/executor.h>

#include <cstddef>
#include <deque>
#include <utility>

namespace coalesce {

/// A queue of posted functions, run by hand. Not thread-safe.
class ManualExecutor final : public Executor {
  public:
    ManualExecutor() = default;

    ~ManualExecutor() override {
        // Destroying a function may drop a ticket, whose leaving may post again.
        while (!queue_.empty()) {
            UniqueFunction<void()> dropped = std::move(queue_.front());
            queue_.pop_front();
        }
    }

    void post(UniqueFunction<void()> function) override { queue_.push_back(std::move(function)); }

    /// Runs the oldest function; false when there is none.
    bool run_one() {
        if (queue_.empty()) return false;
        UniqueFunction<void()> function = std::move(queue_.front());
        queue_.pop_front();
        function();
        return true;
    }

    /// Runs until nothing is queued, what is posted meanwhile included; returns how many ran.
    std::size_t run_all() {
        std::size_t ran = 0;
        while (run_one()) ++ran;
        return ran;
    }

    /// How many functions wait to be run.
    [[nodiscard]] std::size_t queued() const noexcept { return queue_.size(); }

  private:
    std::deque<UniqueFunction<void()>> queue_;
};

}  // namespace coalesce
