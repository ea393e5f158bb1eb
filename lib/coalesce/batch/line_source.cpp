// SPDX-License-Identifier: MIT
#include <coalesce/batch/line_source.h>

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include <coalesce/io/loop.h>

namespace coalesce {
namespace {

constexpr std::size_t block_bytes = 64 * 1024;
constexpr std::size_t shown_of_a_long_line = 60;

}  // namespace

LineSource::LineSource(Loop& loop, int fd, char delimiter, std::size_t line_bytes_max, Events events)
    : loop_(loop), fd_(fd), delimiter_(delimiter), line_bytes_max_(line_bytes_max), events_(std::move(events)) {
    auto watch = Watch::start(loop, fd, Readiness::readable, [this] { turn(true); });
    if (!watch) return;  // a file: always readable, read a block a turn
    watch_ = std::move(*watch);
    watch_.stop();  // until resume()
}

LineSource::~LineSource() { *self_ = nullptr; }

void LineSource::resume() {
    if (stopped_ || !paused_) return;
    paused_ = false;
    // What is in the buffer already would not wake a watch.
    if (watch_ && begin_ == buffer_.size() && !at_end_)
        watch_.resume(Readiness::readable);
    else
        schedule();
}

void LineSource::pause() noexcept {
    paused_ = true;
    watch_.stop();
}

void LineSource::stop() noexcept {
    stopped_ = true;
    pause();
}

void LineSource::schedule() {
    if (scheduled_) return;
    scheduled_ = true;
    loop_.post([self = self_] {
        LineSource* source = *self;
        if (source == nullptr) return;
        source->scheduled_ = false;
        source->turn(!source->watch_);
    });
}

// `readable`: a read will not block. After a pause there may be lines in the buffer
// and nothing to be had from the input (tests/cli: "lines read after a pause").
void LineSource::turn(bool readable) {
    if (paused_ || stopped_) return;
    hand_out_lines();
    if (paused_ || stopped_) return;
    if (!at_end_ && readable) {
        if (!fill()) return;
        hand_out_lines();
        if (paused_ || stopped_) return;
    }
    if (at_end_) return finish(std::move(error_));
    if (watch_)
        watch_.resume(Readiness::readable);
    else
        schedule();
}

// False: nothing to be had now.
bool LineSource::fill() {
    buffer_.erase(0, begin_);
    scanned_ -= begin_;
    begin_ = 0;
    const std::size_t had = buffer_.size();
    buffer_.resize(had + block_bytes);
    const ssize_t got = ::read(fd_, buffer_.data() + had, block_bytes);
    buffer_.resize(had + (got > 0 ? static_cast<std::size_t>(got) : 0));
    if (got > 0) return true;
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {  // somebody else made it non-blocking
        if (watch_)
            watch_.resume(Readiness::readable);
        else
            schedule();
        return false;
    }
    at_end_ = true;
    if (got < 0) error_ = system_error_now("read");
    return true;
}

void LineSource::hand_out_lines() {
    while (!paused_ && !stopped_) {
        const char* const start = buffer_.data() + begin_;
        const auto* found =
            static_cast<const char*>(std::memchr(buffer_.data() + scanned_, delimiter_, buffer_.size() - scanned_));
        const std::size_t length = static_cast<std::size_t>((found ? found : buffer_.data() + buffer_.size()) - start);
        const bool last = found == nullptr && at_end_ && !error_;
        if (!found && !last) {
            scanned_ = buffer_.size();
            if (length <= line_bytes_max_ && !skipping_) return;
        } else if (last && length == 0 && !skipping_) {
            return;  // the input ended with a delimiter
        }
        const bool too_long = length > line_bytes_max_;
        const std::string_view text(start, too_long ? std::min(length, shown_of_a_long_line) : length);
        const bool was_skipping = std::exchange(skipping_, found == nullptr && !last);
        begin_ += length + (found ? 1 : 0);
        scanned_ = begin_;
        if (!was_skipping) events_.on_line({text, ++number_, too_long});
        if (!found) return;
    }
}

void LineSource::finish(std::optional<Error> error) {
    stopped_ = true;
    watch_.stop();
    events_.on_end(std::move(error));
}

}  // namespace coalesce
