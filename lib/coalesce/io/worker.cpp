// SPDX-License-Identifier: MIT
#include <coalesce/io/worker.h>

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <utility>
#include <vector>

#include <coalesce/io/loop.h>
#include <coalesce/io/thread.h>

namespace coalesce {

namespace {

void run(UniqueFunction<void()>& work) noexcept {
    try {
        if (work) work();
    } catch (const std::exception&) {
    }
}

}  // namespace

struct Worker::Queue {
    struct Task {
        UniqueFunction<void()> work;
        UniqueFunction<void()> done;
    };
    std::mutex mutex;
    std::condition_variable filled;
    std::deque<Task> tasks;
    std::vector<UniqueFunction<void()>> over;  // their ends, to be told
    uv_async_t* wake = nullptr;
    bool ending = false;
};

Worker::Worker(Loop& loop) : loop_(loop), queue_(std::make_unique<Queue>()), wake_(new uv_async_t{}) {}

Worker::~Worker() {
    *self_ = nullptr;
    if (!thread_.joinable()) return;
    {
        const std::lock_guard<std::mutex> held(queue_->mutex);
        queue_->ending = true;
    }
    queue_->filled.notify_one();
    thread_.join();
}

// Without a thread, now or ever, all goes on without one.
void Worker::begin() {
    if (thread_.joinable()) return;
    if (wake_->type == UV_UNKNOWN_HANDLE) {
        const auto on_wake = [](uv_async_t* async) {
            if (auto* worker = static_cast<Worker*>(async->data)) worker->tell();
        };
        if (uv_async_init(loop_.raw(), wake_.get(), on_wake) != 0) return;
        wake_->data = this;
        uv_unref(reinterpret_cast<uv_handle_t*>(wake_.get()));
        queue_->wake = wake_.get();
    }
    thread_ = thread_without_signals([queue = queue_.get()] { work_off(*queue); });
}

void Worker::give(UniqueFunction<void()> work, UniqueFunction<void()> done) {
    begin();
    ++untold_;
    if (thread_.joinable()) {
        uv_ref(reinterpret_cast<uv_handle_t*>(wake_.get()));  // also where what came before had no thread yet
        {
            const std::lock_guard<std::mutex> held(queue_->mutex);
            queue_->tasks.push_back({std::move(work), std::move(done)});
        }
        return queue_->filled.notify_one();
    }
    run(work);
    loop_.post([self = self_, done = std::move(done)]() mutable {
        if (*self == nullptr) return;
        (*self)->told(1);
        if (done) done();
    });
}

void Worker::work_off(Queue& queue) {
    std::unique_lock<std::mutex> held(queue.mutex);
    while (true) {
        queue.filled.wait(held, [&queue] { return queue.ending || !queue.tasks.empty(); });
        if (queue.tasks.empty()) return;
        Queue::Task task = std::move(queue.tasks.front());
        queue.tasks.pop_front();
        held.unlock();
        run(task.work);
        task.work = {};  // what it owns goes here, what the end owns on the loop
        held.lock();
        queue.over.push_back(std::move(task.done));
        if (!queue.ending) uv_async_send(queue.wake);
    }
}

void Worker::told(std::size_t ends) noexcept {
    untold_ -= ends;
    if (untold_ == 0 && thread_.joinable()) uv_unref(reinterpret_cast<uv_handle_t*>(wake_.get()));
}

// An end may give more to do; it does not destroy the worker.
void Worker::tell() {
    std::vector<UniqueFunction<void()>> over;
    {
        const std::lock_guard<std::mutex> held(queue_->mutex);
        over.swap(queue_->over);
    }
    told(over.size());
    for (auto& done : over)
        if (done) done();
}

}  // namespace coalesce
