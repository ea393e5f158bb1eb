// SPDX-License-Identifier: MIT
// Worker: one thread beside the loop, for what may have to wait for a disk.
//
// It does one thing after the other, in the order in which they were given, and their ends are
// told on the loop. Begun with the first of them: who gives it nothing has no thread. Not
// libuv's pool, which aborts where the limit on processes leaves no thread, and on which a
// write of a minute would stand before a look of a microsecond; without a thread the work is
// done on the loop. What is handed over belongs to one side at a time: `work` and all that it
// owns to the thread, `done` and all that it owns to the loop.
#pragma once

#include <coalesce/flight/unique_function.h>

#include <uv.h>

#include <memory>
#include <thread>

#include <coalesce/io/handle.h>

namespace coalesce {

class Loop;

class Worker {
  public:
    explicit Worker(Loop& loop);
    /// Finishes what it was given, and tells nobody.
    ~Worker();
    Worker(const Worker&) = delete;
    Worker& operator=(const Worker&) = delete;

    /// Does `work` on the thread, then `done` on a turn of the loop, which runs on until then.
    /// Either may be empty. Work that throws, for want of memory, has ended.
    void give(UniqueFunction<void()> work, UniqueFunction<void()> done);
    /// Nothing is given that has not been told the end of.
    [[nodiscard]] bool idle() const noexcept { return untold_ == 0; }

  private:
    struct Queue;
    void begin();
    void tell();
    void told(std::size_t ends) noexcept;
    static void work_off(Queue& queue);

    Loop& loop_;
    std::unique_ptr<Queue> queue_;
    std::thread thread_;
    Handle<uv_async_t> wake_;
    std::size_t untold_ = 0;
    std::shared_ptr<Worker*> self_ = std::make_shared<Worker*>(this);  // posted turns may outlive us
};

}  // namespace coalesce
