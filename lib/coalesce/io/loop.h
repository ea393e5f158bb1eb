// SPDX-License-Identifier: MIT
// Loop: the event loop, and the Executor that the flight table posts to.
//
// Everything above this room sees only this class, never <uv.h>. A posted
// function runs once, in posting order, on the loop's thread, from a clean
// stack. Posting keeps the loop alive until the function has run. Declare the
// loop before whatever owns handles on it: its destructor aborts when a handle
// outlived it, because that is a use after free about to happen. A name that is still being looked
// up cannot be called off: then libuv's part of the loop stays, for its thread to answer to.
#pragma once

#include <coalesce/flight/executor.h>
#include <coalesce/flight/unique_function.h>

#include <array>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include <coalesce/io/handle.h>
#include <coalesce/io/ready_set.h>

namespace coalesce {

class Loop final : public Executor {
  public:
    Loop();
    ~Loop() override;
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;

    /// Runs `task` on a later turn. Not thread-safe: call it on the loop's thread.
    void post(UniqueFunction<void()> task) override;

    /// Runs until nothing is left to wait for, or until stop().
    void run();
    /// Makes run() return after the current callback.
    void stop() noexcept;

    /// The version of libuv: "1.44.2".
    [[nodiscard]] static const char* library_version() noexcept;

    [[nodiscard]] uv_loop_t* raw() noexcept { return raw_.get(); }
    [[nodiscard]] ReadySet& ready_set() noexcept { return *ready_set_; }

    /// Scratch for one read at a time: one hot buffer for the whole loop costs a
    /// quarter of a buffer for each pipe. Its content lasts until the next read.
    [[nodiscard]] std::span<char> read_buffer() noexcept { return read_buffer_; }

  private:
    void run_posted() noexcept;

    std::unique_ptr<uv_loop_t> raw_;
    Handle<uv_idle_t> wake_;
    std::optional<ReadySet> ready_set_;
    std::vector<UniqueFunction<void()>> posted_;
    std::vector<UniqueFunction<void()>> running_;
    std::array<char, 65536> read_buffer_;
};

}  // namespace coalesce
