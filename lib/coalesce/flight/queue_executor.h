// SPDX-License-Identifier: MIT
// QueueExecutor: the smallest event loop, for programs that have none.
//
// One thread runs what any thread posts. Everything that is queued when the
// loop wakes is taken at once and run before it looks again, so that a wakeup
// that stands for several posts, as eventfds and async handles have it, loses
// none. What was never run is destroyed with the queue, uncalled, by whoever
// destroys it. Timers and descriptors are left to real loops.
#pragma once

#include <coalesce/flight/executor.h>

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <utility>

namespace coalesce {

/// A queue of functions, posted from any thread and run by one.
class QueueExecutor final : public ThreadSafeExecutor {
  public:
    QueueExecutor() = default;

    ~QueueExecutor() override {
        // Destroying a function may post again.
        while (!taken_.empty() || take()) taken_.pop_front();
    }

    void post(UniqueFunction<void()> function) override {
        {
            const std::lock_guard lock(mutex_);
            posted_.push_back(std::move(function));
        }
        wake_.notify_one();
    }

    /// Runs what is there, and what that posts, without waiting; returns how many ran.
    std::size_t run_all() {
        std::size_t ran = 0;
        while (!taken_.empty() || take()) {
            run_front();
            ++ran;
        }
        return ran;
    }

    /// Runs, and waits for more, until `done()` holds. It is asked after every function.
    template <class Done>
    void run_until(Done done) {
        while (!done()) {
            if (taken_.empty()) wait_and_take();
            run_front();
        }
    }

  private:
    bool take() {
        const std::lock_guard lock(mutex_);
        taken_.swap(posted_);
        return !taken_.empty();
    }

    void wait_and_take() {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return !posted_.empty(); });
        taken_.swap(posted_);
    }

    void run_front() {
        UniqueFunction<void()> function = std::move(taken_.front());
        taken_.pop_front();
        function();
    }

    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<UniqueFunction<void()>> posted_;  // under the mutex
    std::deque<UniqueFunction<void()>> taken_;   // the running thread's
};

}  // namespace coalesce
