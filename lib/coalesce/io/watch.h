// SPDX-License-Identifier: MIT
// Watch and Timer: tell me when a descriptor is ready, or a time has passed.
//
// A Watch follows a descriptor and leaves it as it is: it neither closes it nor
// makes it non-blocking, since other processes may share it.
#pragma once

#include <coalesce/command/result.h>
#include <coalesce/flight/unique_function.h>

#include <chrono>
#include <cstdint>
#include <memory>

#include <coalesce/io/handle.h>
#include <coalesce/io/ready_set.h>

namespace coalesce {

class Loop;

enum class Readiness : std::uint32_t {
    hangup = 0,  // only the full one, which is always told
    readable = EPOLLIN,
    writable = EPOLLOUT,
    either = EPOLLIN | EPOLLOUT,
};

class Watch {
  public:
    Watch() = default;
    /// Calls `on_ready` on every turn in which `fd` is ready (also on error and
    /// hang-up), from here until stop() or destruction. Refused for descriptors
    /// that cannot be watched: regular files.
    static Result<Watch> start(Loop& loop, int fd, Readiness readiness, UniqueFunction<void()> on_ready);

    /// The same, but the loop does not run on for it alone.
    static Result<Watch> start_in_background(Loop& loop, int fd, Readiness readiness, UniqueFunction<void()> on_ready);

    /// Goes on after stop(), or waits for something else.
    void resume(Readiness readiness);
    void stop() noexcept;
    explicit operator bool() const noexcept { return interest_ != nullptr; }
    void reset() noexcept { interest_.reset(); }

  private:
    struct Discard {
        void operator()(ReadySet::Interest* interest) const noexcept;
    };
    static Result<Watch> start(Loop& loop, int fd, Readiness readiness, UniqueFunction<void()> on_ready,
                               bool in_background);
    std::unique_ptr<ReadySet::Interest, Discard> interest_;
};

/// What it is to call is kept until it has been called for the last time, or is stopped or replaced, and no longer: it
/// may own the timer's owner.
class Timer {
  public:
    explicit Timer(Loop& loop);
    /// Calls `on_due` once after `delay`, never before; an earlier start is forgotten.
    void start(std::chrono::milliseconds delay, UniqueFunction<void()> on_due);
    /// Calls `on_due` after `delay` and then each `repeat`, until stop().
    void start(std::chrono::milliseconds delay, std::chrono::milliseconds repeat, UniqueFunction<void()> on_due);
    void stop() noexcept;
    /// How long it is until then, of one that was started.
    [[nodiscard]] std::chrono::milliseconds due_in() const noexcept;
    /// It does not keep the loop running.
    void in_background() noexcept;
    /// It does, as each does at first.
    void in_foreground() noexcept;

  private:
    struct State : uv_timer_t {
        UniqueFunction<void()> on_due;
    };
    Handle<State> state_;
};

class SignalWatch {
  public:
    /// Calls `on_signal` on the loop whenever this process gets `number`; does not
    /// keep the loop running.
    SignalWatch(Loop& loop, int number, UniqueFunction<void()> on_signal);

    /// Whether whoever started us wants `number` to be ignored, as nohup and a shell's `&` do.
    [[nodiscard]] static bool told_to_ignore(int number);

  private:
    struct State : uv_signal_t {
        UniqueFunction<void()> on_signal;
    };
    Handle<State> state_;
};

}  // namespace coalesce
