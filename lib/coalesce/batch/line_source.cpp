// SPDX-License-Identifier: MIT
#include <coalesce/batch/line_source.h>

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <utility>

#include <coalesce/io/loop.h>

namespace coalesce {
namespace {

constexpr std::size_t block_bytes = 64 * 1024;
constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";  // an editor put it there

}  // namespace

LineSource::LineSource(Loop& loop, int fd, char delimiter, std::size_t line_bytes_max, Events events)
    : loop_(loop), fd_(fd), events_(std::move(events)), lines_(delimiter, line_bytes_max) {
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
    if (watch_ && lines_.looked_through() && !at_end_)
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
    const std::span<char> room = lines_.room(block_bytes);
    const ssize_t got = ::read(fd_, room.data(), room.size());
    const int error = errno;
    lines_.taken(static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    if (got > 0) return true;
    if (got < 0 && (error == EAGAIN || error == EINTR)) {  // somebody else made it non-blocking
        if (watch_)
            watch_.resume(Readiness::readable);
        else
            schedule();
        return false;
    }
    at_end_ = true;
    if (got < 0) error_ = system_error_of(error, "read");
    return true;
}

void LineSource::hand_out_lines() {
    while (!paused_ && !stopped_) {
        auto line = lines_.next();
        if (!line && at_end_ && !error_) line = lines_.last();
        if (!line) return;
        if (++number_ == 1 && line->text.starts_with(byte_order_mark)) line->text.remove_prefix(byte_order_mark.size());
        events_.on_line({line->text, number_, line->too_long});
    }
}

void LineSource::finish(std::optional<Error> error) {
    stopped_ = true;
    watch_.stop();
    events_.on_end(std::move(error));
}

}  // namespace coalesce
