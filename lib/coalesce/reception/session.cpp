// SPDX-License-Identifier: MIT
#include <coalesce/reception/session.h>

#include <poll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include <coalesce/io/loop.h>

namespace coalesce {
namespace {

constexpr std::uint64_t most_at_once = 1 << 20;
constexpr std::chrono::milliseconds until_there_is_room{50};

// Unread answers after which a client's further requests are left in its socket.
constexpr std::size_t unsent_bytes_max = 256 * 1024;
constexpr std::size_t unsent_answers_max = 1024;

}  // namespace

Session::Session(Loop& loop, Descriptor connection, Events events)
    : loop_(loop), connection_(std::move(connection)), events_(std::move(events)) {
    auto watch = Watch::start(loop, connection_.get(), Readiness::readable, [this] { ready(); });
    if (watch)
        watch_ = std::move(*watch);
    else
        loop.post([this] { go(); });
}

void Session::ready() {
    const std::uint64_t taken_before = taken_;
    if (blocked_ && !again_) {
        blocked_ = false;
        flush();
        if (!gone() && !blocked_ && events_.on_room) events_.on_room();
    }
    hears_it_out_ = taken_ > taken_before;  // it reads, if slowly, and may want to leave what is too much for it
    hear();
    hears_it_out_ = false;
    if (gone()) return;
    if (input_ended_) {  // half-closed: only a full close shows from here on
        pollfd state{.fd = connection_.get(), .events = 0, .revents = 0};
        if (::poll(&state, 1, 0) == 1 && (state.revents & (POLLHUP | POLLERR)) != 0) return go();
    }
    watch_again();
}

void Session::hear() {
    if (!gone() && !incoming_.looked_through() && !congested()) take_lines();  // what had to wait
    if (!gone() && !input_ended_ && !congested()) read();
}

// What is yet to be answered will be an answer unread.
bool Session::congested() {
    return blocked_ && !hears_it_out_ &&
           (out_.size() + lines_.size() > unsent_bytes_max ||
            unread() + handovers_.size() + (events_.unanswered ? events_.unanswered() : 0) > unsent_answers_max);
}

// What was left for another turn may be taken yet.
bool Session::full() const {
    pollfd state{.fd = connection_.get(), .events = POLLOUT, .revents = 0};
    return blocked_ && ::poll(&state, 1, 0) == 0;
}

// One read a turn: a flood from one client leaves the others their turn.
void Session::read() {
    const auto block = loop_.read_buffer();
    const ssize_t got = ::recv(connection_.get(), block.data(), block.size(), MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || (errno == EAGAIN && !unread_))) return;
    if (got < 0) return go();
    if (got > 0 && finishing_) return;  // nobody looks at it any more
    if (got > 0) {
        incoming_.add({block.data(), static_cast<std::size_t>(got)});
        return take_lines();
    }
    input_ended_ = true;
    if (const auto rest = incoming_.last(); rest && !finishing_) events_.on_line(rest->text, rest->too_long);
    if (!gone_ && events_.on_input_end) events_.on_input_end();
}

void Session::take_lines() {
    while (!gone_ && !finishing_ && !congested()) {
        const auto line = incoming_.next();
        if (!line) return;
        events_.on_line(line->text, line->too_long);
    }
}

// It reads no more. What it had said before that is in the socket, and may be that its run is to go on without it
// (SPEC F5, T8): who hears that only if no output came in between hears it by chance.
void Session::stop_sending() {
    if (gone()) return;
    if (finishing_ || input_ended_) return go();
    unread_ = true;
    blocked_ = false;
    again_.reset();
    watch_.reset();
    hear_the_rest();
}

// A read a turn, until there is nothing more.
void Session::hear_the_rest() {
    loop_.post([this, alive = alive_] {
        if (!*alive || gone_) return;
        take_lines();
        if (!gone_) read();
        if (input_ended_) go();
        if (!gone_) hear_the_rest();
    });
}

// Readiness that nothing is done about would be reported for ever.
void Session::watch_again() {
    Readiness wanted = input_ended_ ? Readiness::hangup : Readiness::readable;
    if (blocked_ && !again_) wanted = input_ended_ || congested() ? Readiness::writable : Readiness::either;
    if (!watch_) return;
    if (again_ && congested()) return watch_.stop();
    watch_.resume(wanted);
}

// Thousands may get the same answer at once: what the connection takes at once is
// copied nowhere.
void Session::send(std::string_view line, Descriptor file) {
    if (gone()) return;
    const bool next = !file && lines_.empty() && out_.empty() && handovers_.empty() && !inside_message_;
    if (next && !flushing_ && !blocked_) {
        push(line);
        if (gone()) return;
        out_ = line;
        if (blocked_) return watch_again();
    } else {
        lines_ += line;
    }
    if (file) handovers_.emplace_back(std::exchange(lines_, {}), std::move(file));
    flush();
}

void Session::send(std::unique_ptr<Rendering> rendering) {
    if (gone()) return;
    with_news_.push_back(std::move(rendering));
    flush();
}

// Each of a thousand renderings of one run has its news at once: one flush for all of them will do.
void Session::wake(const Rendering& rendering) {
    if (gone()) return;
    if (auto found = without_news_.extract(&rendering)) with_news_.push_back(std::move(found.mapped()));
    if (std::exchange(woken_, true)) return;
    loop_.post([this, alive = alive_] {
        if (!*alive) return;
        woken_ = false;
        flush();
    });
}

// The descriptor travels with the first byte of its text. False: not now.
bool Session::hand_over() {
    auto& [text, file] = handovers_.front();
    iovec bytes{.iov_base = text.data(), .iov_len = text.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
    msghdr message{};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* const header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    const int number = file.get();
    std::memcpy(CMSG_DATA(header), &number, sizeof number);
    ssize_t sent = 0;
    do sent = ::sendmsg(connection_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    if (sent < 0 && errno == EAGAIN) {
        blocked_ = true;
        return false;
    }
    // Too many descriptors are on their way to others, or there is no memory: that passes (SPEC F14).
    if (sent < 0 && (errno == ETOOMANYREFS || errno == ENOBUFS || errno == ENOMEM)) {
        try_again_later();
        return false;
    }
    if (sent <= 0) {
        stop_sending();
        return false;
    }
    out_ = text.substr(static_cast<std::size_t>(sent));
    handovers_.pop_front();
    return true;
}

// The connection would take more, so it is not asked.
void Session::try_again_later() {
    blocked_ = true;
    again_.emplace(loop_);
    again_->start(until_there_is_room, [this] {
        again_.reset();
        ready();
    });
}

void Session::flush() {
    if (flushing_ || blocked_ || gone()) return;  // a rendering's own news come here again
    flushing_ = true;
    const bool all = flush_text() && flush_renderings();
    flushing_ = false;
    if (gone()) return;
    if (finishing_ && all && idle()) return go();
    watch_again();
}

// Leaves in `rest` what was not taken: the other side takes no more now, or is gone.
void Session::push(std::string_view& rest) {
    while (!rest.empty()) {
        const ssize_t sent = ::send(connection_.get(), rest.data(), rest.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0) {
            taken_ += static_cast<std::uint64_t>(sent);
            rest.remove_prefix(static_cast<std::size_t>(sent));
        } else if (errno == EAGAIN) {
            blocked_ = true;
            return;
        } else if (errno != EINTR) {
            return stop_sending();
        }
    }
}

// False: the other side takes no more now, or is gone.
bool Session::flush_text() {
    while (true) {
        if (!out_.empty()) {
            std::string_view rest = out_;
            push(rest);
            if (gone()) return false;
            out_.erase(0, out_.size() - rest.size());
            if (blocked_) return false;
        }
        if (inside_message_) return true;
        if (!handovers_.empty()) {
            if (!hand_over()) return false;
        } else if (!lines_.empty()) {
            out_ = std::exchange(lines_, {});
        } else {
            return true;
        }
    }
}

// Each rendering with news in turn, a message at a time.
bool Session::flush_renderings() {
    std::uint64_t budget = most_at_once;
    while (!with_news_.empty()) {
        Rendering& rendering = *with_news_.front();
        const auto piece = rendering.next();
        if (!piece) {
            inside_message_ = false;
            let_rest();
            if (!flush_text()) return false;
            continue;
        }
        if (budget == 0) {  // enough for one turn
            blocked_ = true;
            return false;
        }
        const ssize_t sent = send_piece(piece->extent);
        if (sent < 0 && errno == EINTR) continue;
        // Nothing of a file is what is no longer there: an end, never a gap.
        if (sent == 0 || (sent < 0 && errno != EAGAIN)) {
            stop_sending();
            return false;
        }
        if (sent < 0) {
            blocked_ = true;
            return false;
        }
        taken_ += static_cast<std::uint64_t>(sent);
        rendering.advance(static_cast<std::uint64_t>(sent));
        budget -= std::min(budget, static_cast<std::uint64_t>(sent));
        inside_message_ = !rendering.between_messages();
        if (!inside_message_) {
            pass_the_turn();
            if (!flush_text()) return false;
        }
    }
    return true;
}

void Session::pass_the_turn() {
    with_news_.push_back(std::move(with_news_.front()));
    with_news_.pop_front();
}

// The first has given all it had. The end of one that is finished may bring news.
void Session::let_rest() {
    auto rendering = std::move(with_news_.front());
    with_news_.pop_front();
    if (!rendering->finished()) without_news_.emplace(rendering.get(), std::move(rendering));
}

ssize_t Session::send_piece(const Extent& extent) {
    if (extent.file < 0)
        return ::send(connection_.get(), extent.bytes.data(), extent.bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    const std::size_t length = static_cast<std::size_t>(std::min(extent.length, most_at_once));
    if (can_send_file_) {
        off_t offset = static_cast<off_t>(extent.offset);
        const ssize_t sent = ::sendfile(connection_.get(), extent.file, &offset, length);
        if (sent >= 0 || (errno != ENOSYS && errno != EINVAL && errno != EPERM)) return sent;
        can_send_file_ = false;  // by a filter, or the file system that the file is on
    }
    const auto buffer = loop_.read_buffer();
    const ssize_t got =
        ::pread(extent.file, buffer.data(), std::min(length, buffer.size()), static_cast<off_t>(extent.offset));
    if (got <= 0) return got;
    return ::send(connection_.get(), buffer.data(), static_cast<std::size_t>(got), MSG_DONTWAIT | MSG_NOSIGNAL);
}

void Session::finish() {
    if (gone_) return;
    if (unread_) return go();
    finishing_ = true;
    flush();
}

void Session::go() {
    if (std::exchange(gone_, true)) return;
    watch_.reset();
    again_.reset();
    connection_.reset();
    if (!with_news_.empty() || !without_news_.empty())  // one may be on the stack
        loop_.post([doomed = std::exchange(with_news_, {}), resting = std::exchange(without_news_, {})] {});
    loop_.post(std::move(events_.on_gone));
}

}  // namespace coalesce
