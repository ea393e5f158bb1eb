// SPDX-License-Identifier: MIT
#include <coalesce/io/watch.h>

#include <signal.h>

#include <cstdlib>
#include <system_error>
#include <utility>

#include <coalesce/io/loop.h>

namespace coalesce {

void Watch::Discard::operator()(ReadySet::Interest* interest) const noexcept {
    interest->set.discard(std::unique_ptr<ReadySet::Interest>(interest));
}

Result<Watch> Watch::start(Loop& loop, int fd, Readiness readiness, UniqueFunction<void()> on_ready) {
    return start(loop, fd, readiness, std::move(on_ready), false);
}

Result<Watch> Watch::start_in_background(Loop& loop, int fd, Readiness readiness, UniqueFunction<void()> on_ready) {
    return start(loop, fd, readiness, std::move(on_ready), true);
}

Result<Watch> Watch::start(Loop& loop, int fd, Readiness readiness, UniqueFunction<void()> on_ready,
                           bool in_background) {
    Watch watch;
    watch.interest_.reset(new ReadySet::Interest{
        .set = loop.ready_set(), .fd = fd, .on_ready = std::move(on_ready), .in_background = in_background});
    if (!loop.ready_set().add(*watch.interest_, static_cast<std::uint32_t>(readiness)))
        return system_error_now("watch a descriptor");
    return watch;
}

void Watch::resume(Readiness readiness) {
    const auto events = static_cast<std::uint32_t>(readiness);
    ReadySet::Interest& interest = *interest_;
    if (interest.active && interest.events == events) return;
    interest.set.resume(interest, events);
}

void Watch::stop() noexcept {
    if (interest_) interest_->set.remove(*interest_);
}

Timer::Timer(Loop& loop) : state_(new State{}) {
    uv_timer_init(loop.raw(), state_.get());
    state_->data = state_.get();
}

void Timer::start(std::chrono::milliseconds delay, UniqueFunction<void()> on_due) {
    start(delay, std::chrono::milliseconds(0), std::move(on_due));
}

void Timer::start(std::chrono::milliseconds delay, std::chrono::milliseconds repeat, UniqueFunction<void()> on_due) {
    state_->on_due = std::move(on_due);
    // libuv counts whole milliseconds, and the one that has begun as passed: one more, or it is due too early.
    const std::int64_t whole = delay.count() > 0 ? delay.count() + 1 : 0;
    uv_update_time(state_->loop);  // libuv counts from the loop's cached time, which a long callback leaves behind
    uv_timer_start(
        state_.get(),
        [](uv_timer_t* timer) {
            auto* state = static_cast<State*>(timer->data);
            if (state == nullptr) return;
            // Held aside while it runs: it may start this timer anew, with another function.
            auto due = std::move(state->on_due);
            due();
            const bool again = timer->data != nullptr && uv_is_active(reinterpret_cast<uv_handle_t*>(timer)) != 0;
            if (again && !state->on_due) state->on_due = std::move(due);
        },
        static_cast<std::uint64_t>(whole), static_cast<std::uint64_t>(repeat.count()));
}

void Timer::stop() noexcept {
    uv_timer_stop(state_.get());
    const auto dropped = std::move(state_->on_due);  // which may own this timer
}

std::chrono::milliseconds Timer::due_in() const noexcept {
    uv_update_time(state_->loop);
    return std::chrono::milliseconds(uv_timer_get_due_in(state_.get()));
}

void Timer::in_background() noexcept { uv_unref(reinterpret_cast<uv_handle_t*>(state_.get())); }
void Timer::in_foreground() noexcept { uv_ref(reinterpret_cast<uv_handle_t*>(state_.get())); }

SignalWatch::SignalWatch(Loop& loop, int number, UniqueFunction<void()> on_signal) : state_(new State{}) {
    if (const int refused = uv_signal_init(loop.raw(), state_.get()); refused != 0)
        throw std::system_error(-refused, std::system_category(), "cannot watch for signals");
    state_->data = state_.get();
    state_->on_signal = std::move(on_signal);
    uv_signal_start(
        state_.get(),
        [](uv_signal_t* signal, int) {
            if (auto* state = static_cast<State*>(signal->data)) state->on_signal();
        },
        number);
    uv_unref(reinterpret_cast<uv_handle_t*>(state_.get()));
}

bool SignalWatch::told_to_ignore(int number) {
    struct sigaction action {};
    return ::sigaction(number, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

}  // namespace coalesce
