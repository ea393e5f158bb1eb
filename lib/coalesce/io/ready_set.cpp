// SPDX-License-Identifier: MIT
#include <coalesce/io/ready_set.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <system_error>
#include <utility>

namespace coalesce {
namespace {

constexpr std::uint64_t again_after_ms = 5;

uv_handle_t* base_of(uv_poll_t* poll) { return reinterpret_cast<uv_handle_t*>(poll); }

}  // namespace

ReadySet::ReadySet(uv_loop_t* loop)
    : epoll_(::epoll_create1(EPOLL_CLOEXEC)), poll_(new uv_poll_t{}), again_(new uv_timer_t{}) {
    uv_timer_init(loop, again_.get());
    again_->data = this;
    const int refused = epoll_ ? uv_poll_init(loop, poll_.get(), epoll_.get()) : -errno;
    if (refused != 0) throw std::system_error(-refused, std::system_category(), "cannot make an event loop");
    poll_->data = this;
    uv_poll_start(poll_.get(), UV_READABLE, [](uv_poll_t* poll, int, int) {
        if (auto* set = static_cast<ReadySet*>(poll->data)) set->dispatch();
    });
    uv_unref(base_of(poll_.get()));
}

ReadySet::~ReadySet() {
    if (active_ != 0) std::abort();
}

bool ReadySet::put(Interest& interest) noexcept {
    epoll_event event{.events = interest.events, .data = {.ptr = &interest}};
    if (::epoll_ctl(epoll_.get(), interest.in_set ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, interest.fd, &event) != 0)
        return false;
    interest.in_set = true;
    return true;
}

void ReadySet::activate(Interest& interest) noexcept {
    if (!std::exchange(interest.active, true) && !interest.in_background && ++active_ == 1)
        uv_ref(base_of(poll_.get()));
}

bool ReadySet::add(Interest& interest, std::uint32_t events) noexcept {
    interest.events = events;
    if (!put(interest)) return false;
    activate(interest);
    return true;
}

void ReadySet::resume(Interest& interest, std::uint32_t events) noexcept {
    interest.events = events;
    activate(interest);
    const bool wanting = std::find(wanting_.begin(), wanting_.end(), &interest) != wanting_.end();
    if (wanting || put(interest)) return;
    wanting_.push_back(&interest);
    uv_timer_start(
        again_.get(),
        [](uv_timer_t* timer) {
            if (auto* set = static_cast<ReadySet*>(timer->data)) set->try_again();
        },
        again_after_ms, again_after_ms);
}

void ReadySet::try_again() noexcept {
    std::erase_if(wanting_, [this](Interest* interest) { return put(*interest); });
    if (wanting_.empty()) uv_timer_stop(again_.get());
}

// Explicitly, before its owner closes the descriptor: a copy of it in another
// process would keep it in the set, and tell us of it for ever.
void ReadySet::remove(Interest& interest) noexcept {
    if (!std::exchange(interest.active, false)) return;
    if (!wanting_.empty()) std::erase(wanting_, &interest);
    if (std::exchange(interest.in_set, false)) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, interest.fd, nullptr);
    if (!interest.in_background && --active_ == 0) uv_unref(base_of(poll_.get()));
    for (std::size_t i = next_; i < ready_count_; ++i)
        if (ready_[i].data.ptr == &interest) ready_[i].data.ptr = nullptr;
}

void ReadySet::discard(std::unique_ptr<Interest> interest) noexcept {
    remove(*interest);
    if (interest.get() == current_) doomed_ = std::move(interest);
}

void ReadySet::dispatch() noexcept {
    const int count = ::epoll_wait(epoll_.get(), ready_.data(), static_cast<int>(ready_.size()), 0);
    ready_count_ = static_cast<std::size_t>(std::max(count, 0));
    for (next_ = 0; next_ < ready_count_;) {
        current_ = static_cast<Interest*>(ready_[next_++].data.ptr);
        if (current_ == nullptr) continue;  // removed by one before it
        current_->on_ready();
        current_ = nullptr;
        doomed_.reset();
    }
    ready_count_ = next_ = 0;
}

}  // namespace coalesce
