// Watch and Timer: tell me when a descriptor is ready, or a time has passed.
//
// Watch follows a descriptor that is ours, already non-blocking, and opened to be
// watched; it never closes it. BorrowedWatch follows one that other processes
// share (our standard input or output): libuv would set O_NONBLOCK on the open
// file that they share with us, and break `cat` in the same pipeline, so it is
// put into an epoll set of our own and only that set is given to libuv.
#pragma once

#include <coalesce/command/result.h>
#include <coalesce/flight/unique_function.h>

#include <chrono>

#include <coalesce/io/descriptor.h>
#include <coalesce/io/handle.h>

namespace coalesce {

class Loop;

enum class Readiness {
    // Only the full hang-up, which epoll always tells: UV_DISCONNECT would be told of a
    // half-closed connection for ever. Nothing urgent comes by itself.
    hangup = UV_PRIORITIZED,
    readable = UV_READABLE,
    writable = UV_WRITABLE,
    either = UV_READABLE | UV_WRITABLE,
};

class Watch {
  public:
    Watch() = default;
    /// Calls `on_ready` on every turn in which `fd` is ready (also on error and
    /// hang-up), from start() until stop() or destruction. Refused for
    /// descriptors that epoll cannot watch: regular files.
    static Result<Watch> create(Loop& loop, int fd, UniqueFunction<void()> on_ready);

    void start(Readiness readiness);
    void stop() noexcept;
    explicit operator bool() const noexcept { return state_ != nullptr; }
    void reset() noexcept { state_.reset(); }

  private:
    // uv_poll_t has no room for the callback; a derived struct saves an allocation.
    struct State : uv_poll_t {
        UniqueFunction<void()> on_ready;
        bool active = false;
        int events = 0;
    };
    struct Close {
        void operator()(State* state) const noexcept;
    };
    static void report(uv_poll_t* poll, int status, int events);
    std::unique_ptr<State, Close> state_;
};

class BorrowedWatch {
  public:
    /// As Watch::create; leaves the flags of `fd` alone.
    static Result<BorrowedWatch> create(Loop& loop, int fd, Readiness readiness, UniqueFunction<void()> on_ready);
    void start() { watch_.start(Readiness::readable); }
    void stop() noexcept { watch_.stop(); }

  private:
    Descriptor set_;
    Watch watch_;
};

class Timer {
  public:
    explicit Timer(Loop& loop);
    /// Calls `on_due` once after `delay`; an earlier start is forgotten.
    void start(std::chrono::milliseconds delay, UniqueFunction<void()> on_due);
    /// Calls `on_due` after `delay` and then each `repeat`, until stop().
    void start(std::chrono::milliseconds delay, std::chrono::milliseconds repeat, UniqueFunction<void()> on_due);
    void stop() noexcept;
    /// A timer that does not keep the loop running.
    void in_background() noexcept;

  private:
    struct State : uv_timer_t {
        UniqueFunction<void()> on_due;
    };
    struct Close {
        void operator()(State* state) const noexcept;
    };
    std::unique_ptr<State, Close> state_;
};

class SignalWatch {
  public:
    /// Calls `on_signal` on the loop whenever this process gets `number`; does not
    /// keep the loop running.
    SignalWatch(Loop& loop, int number, UniqueFunction<void()> on_signal);

  private:
    struct State : uv_signal_t {
        UniqueFunction<void()> on_signal;
    };
    struct Close {
        void operator()(State* state) const noexcept;
    };
    std::unique_ptr<State, Close> state_;
};

}  // namespace coalesce
