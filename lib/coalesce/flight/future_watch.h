// SPDX-License-Identifier: MIT
// FutureWatch: std::futures waited for beside a loop.
//
// A std::future can only be waited for by blocking, so each one that is not
// ready gets a thread that does nothing else, and then posts to the loop, whose
// executor must therefore be a ThreadSafeExecutor. Everything that belongs to
// the loop (the completer) stays on the loop; the thread carries the future and
// a number. A watch that ends on the loop leaves its threads to finish by
// themselves: what they bring is dropped, and they post no more. Refused: one
// thread for all futures, which would wait for the first while the second is
// ready, and polling. A function with many long calls is better off with an
// awaitable.
#pragma once

#include <coalesce/flight/executor.h>

#include <chrono>
#include <cstdint>
#include <future>
#include <memory>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>

namespace coalesce::detail {

/// Waits for futures of type Future, each with something to be told.
template <class Future, class Told>
class FutureWatch {
  public:
    explicit FutureWatch(ThreadSafeExecutor& executor) : shared_(std::make_shared<Shared>()) {
        shared_->executor = &executor;
    }
    FutureWatch(const FutureWatch&) = delete;
    FutureWatch& operator=(const FutureWatch&) = delete;

    ~FutureWatch() {
        {
            const std::lock_guard lock(shared_->mutex);
            shared_->executor = nullptr;
        }
        // On the loop, where it belongs, and not with the last thread's share.
        const auto dropped = std::move(shared_->told);
    }

    /// Has `told(Future)` called: now if it is ready or deferred, else from the loop.
    void watch(Future future, Told told) {
        if (future.wait_for(std::chrono::seconds::zero()) != std::future_status::timeout)
            return told(std::move(future));
        const std::uint64_t number = ++shared_->last_number;
        shared_->told.emplace(number, std::move(told));
        try {
            std::thread(wait, shared_, number, std::move(future)).detach();
        } catch (...) {
            shared_->told.erase(number);
            throw;
        }
    }

  private:
    struct Shared {
        std::mutex mutex;
        ThreadSafeExecutor* executor = nullptr;        // under the mutex; null when nobody listens
        std::unordered_map<std::uint64_t, Told> told;  // the loop's
        std::uint64_t last_number = 0;                 // the loop's
    };

    static void wait(std::shared_ptr<Shared> shared, std::uint64_t number, Future future) {
        future.wait();
        const std::lock_guard lock(shared->mutex);
        if (!shared->executor) return;
        shared->executor->post([shared, number, future = std::move(future)]() mutable {
            auto found = shared->told.extract(number);
            if (found) found.mapped()(std::move(future));
        });
    }

    std::shared_ptr<Shared> shared_;
};

}  // namespace coalesce::detail
