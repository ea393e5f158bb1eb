// SPDX-License-Identifier: MIT
// ManualExecutor: an executor that moves only when told to.
//
// For tests, which want to stand between a landing and its delivery, and for
// programs that already have a loop and only need a place to drain once a
// turn. It owns what was posted; what was never run is destroyed with it, in
// order, without being called. It leaves waking anybody up to its owner.
#pragma once

#include <coalesce/flight/executor.h>

#include <cstddef>
#include <utility>
#include <vector>

namespace coalesce {

/// A queue of posted functions, run by hand. Not thread-safe.
class ManualExecutor final : public Executor {
  public:
    ManualExecutor() = default;

    ~ManualExecutor() override {
        // Destroying a function may drop a ticket, whose leaving may post again.
        while (queued() > 0) (void)pop();
    }

    void post(UniqueFunction<void()> function) override { queue_.push_back(std::move(function)); }

    /// Runs the oldest function; false when there is none.
    bool run_one() {
        if (queued() == 0) return false;
        UniqueFunction<void()> function = pop();
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
    [[nodiscard]] std::size_t queued() const noexcept { return queue_.size() - next_; }

  private:
    UniqueFunction<void()> pop() {
        UniqueFunction<void()> function = std::move(queue_[next_++]);
        if (next_ == queue_.size()) {
            queue_.clear();
            next_ = 0;
        } else if (next_ >= kMostTaken && next_ * 2 >= queue_.size()) {
            queue_.erase(queue_.begin(), queue_.begin() + static_cast<std::ptrdiff_t>(next_));
            next_ = 0;
        }
        return function;
    }

    // A queue that is never quite empty sheds what was taken from its front in bulk.
    static constexpr std::size_t kMostTaken = 1024;

    std::vector<UniqueFunction<void()>> queue_;
    std::size_t next_ = 0;  // those before it were taken
};

}  // namespace coalesce
