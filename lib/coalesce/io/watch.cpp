#include <coalesce/io/watch.h>

#include <sys/epoll.h>

#include <cstdlib>
#include <system_error>
#include <utility>

#include <coalesce/io/loop.h>

namespace coalesce {
namespace {

template <class State>
void close_then_delete(State* state) noexcept {
    auto* base = reinterpret_cast<uv_handle_t*>(state);
    if (base->type == UV_UNKNOWN_HANDLE) {  // zeroed, never initialised
        delete state;
        return;
    }
    base->data = nullptr;  // late callbacks must find no owner
    uv_close(base, [](uv_handle_t* closed) { delete reinterpret_cast<State*>(closed); });
}

}  // namespace

void Watch::Close::operator()(State* state) const noexcept { close_then_delete(state); }
void Timer::Close::operator()(State* state) const noexcept { close_then_delete(state); }
void SignalWatch::Close::operator()(State* state) const noexcept { close_then_delete(state); }

Result<Watch> Watch::create(Loop& loop, int fd, UniqueFunction<void()> on_ready) {
    auto state = std::make_unique<State>();
    if (const int refused = uv_poll_init(loop.raw(), state.get(), fd); refused != 0)
        return system_error_of(-refused, "watch a descriptor");
    state->data = state.get();
    state->on_ready = std::move(on_ready);
    Watch watch;
    watch.state_.reset(state.release());
    return watch;
}

void Watch::start(Readiness readiness) {
    if (state_->active) return;
    state_->active = true;
    state_->events = static_cast<int>(readiness);
    uv_poll_start(state_.get(), state_->events, report);
}

// On an error libuv stops watching. There may be bytes to read before it, so who
// reads one piece a turn has to be called again.
void Watch::report(uv_poll_t* poll, int status, int) {
    auto* state = static_cast<State*>(poll->data);
    if (state == nullptr) return;
    if (status < 0) uv_poll_start(poll, state->events, report);
    state->on_ready();
}

void Watch::stop() noexcept {
    if (!state_ || !state_->active) return;
    state_->active = false;
    uv_poll_stop(state_.get());
}

Result<BorrowedWatch> BorrowedWatch::create(Loop& loop, int fd, Readiness readiness, UniqueFunction<void()> on_ready) {
    BorrowedWatch borrowed;
    borrowed.set_ = Descriptor(::epoll_create1(EPOLL_CLOEXEC));
    if (!borrowed.set_) return system_error_now("make an epoll set");
    epoll_event interest{};
    interest.events = readiness == Readiness::readable ? EPOLLIN : EPOLLOUT;
    if (::epoll_ctl(borrowed.set_.get(), EPOLL_CTL_ADD, fd, &interest) != 0)
        return system_error_now("watch a descriptor");
    auto watch = Watch::create(loop, borrowed.set_.get(), std::move(on_ready));
    if (!watch) return watch.error();
    borrowed.watch_ = std::move(*watch);
    return borrowed;
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
    uv_update_time(state_->loop);  // libuv counts from the loop's cached time, which a long callback leaves behind
    uv_timer_start(
        state_.get(),
        [](uv_timer_t* timer) {
            auto* state = static_cast<State*>(timer->data);
            if (state == nullptr) return;
            // Held aside while it runs: it may start this timer anew, with another function.
            auto due = std::move(state->on_due);
            due();
            if (timer->data != nullptr && !state->on_due) state->on_due = std::move(due);
        },
        static_cast<std::uint64_t>(delay.count()), static_cast<std::uint64_t>(repeat.count()));
}

void Timer::stop() noexcept { uv_timer_stop(state_.get()); }

void Timer::in_background() noexcept { uv_unref(reinterpret_cast<uv_handle_t*>(state_.get())); }

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

}  // namespace coalesce
