#include <coalesce/service/session.h>

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include <coalesce/io/loop.h>
#include <coalesce/service/request.h>

namespace coalesce {

Session::Session(Loop& loop, Descriptor connection, Events events)
    : connection_(std::move(connection)), events_(std::move(events)) {
    auto watch = Watch::create(loop, connection_.get(), [this] { ready(); });
    if (watch) {
        watch_ = std::move(*watch);
        watch_.start(Readiness::readable);
    } else {
        loop.post([this] { go(); });
    }
}

Session::~Session() { gone_ = true; }

void Session::ready() {
    if (!out_.empty()) flush();
    if (!gone_ && !input_ended_) read();
    if (!gone_ && input_ended_) {  // half-closed: only a full close shows from here on
        pollfd state{.fd = connection_.get(), .events = 0, .revents = 0};
        if (::poll(&state, 1, 0) == 1 && (state.revents & (POLLHUP | POLLERR)) != 0) go();
    }
}

void Session::read() {
    char block[16384];
    const ssize_t got = ::recv(connection_.get(), block, sizeof block, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got < 0) return go();
    if (got == 0) {
        input_ended_ = true;
        if (!in_.empty()) events_.on_line(std::exchange(in_, {}));
        if (!gone_) watch_again();
        return;
    }
    in_.append(block, static_cast<std::size_t>(got));
    std::size_t begin = 0;
    while (!gone_) {
        const std::size_t end = in_.find('\n', begin);
        if (end == std::string::npos) break;
        events_.on_line(std::string_view(in_).substr(begin, end - begin));
        begin = end + 1;
    }
    in_.erase(0, begin);
    if (in_.size() > request_bytes_max) go();
}

// Once the input has ended, readiness to read would be reported for ever.
void Session::watch_again() {
    watch_.stop();
    if (!out_.empty())
        watch_.start(input_ended_ ? Readiness::writable : Readiness::either);
    else
        watch_.start(input_ended_ ? Readiness::hangup : Readiness::readable);
}

void Session::send(const std::string& line, int file) {
    if (gone_) return;
    out_ += line;
    if (file < 0) return flush();
    iovec bytes{.iov_base = out_.data(), .iov_len = out_.size()};
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
    std::memcpy(CMSG_DATA(header), &file, sizeof file);
    ssize_t sent = -1;
    do {
        sent = ::sendmsg(connection_.get(), &message, MSG_NOSIGNAL);  // a requester reads at once: it has nothing else to do
    } while (sent < 0 && errno == EINTR);
    if (sent != static_cast<ssize_t>(out_.size())) return go();
    out_.clear();
}

void Session::flush() {
    while (!out_.empty()) {
        const ssize_t sent = ::send(connection_.get(), out_.data(), out_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent < 0 && errno == EAGAIN) return watch_again();
        if (sent < 0) return go();
        out_.erase(0, static_cast<std::size_t>(sent));
    }
    if (finishing_) return go();
    watch_again();
}

void Session::finish() {
    if (gone_) return;
    finishing_ = true;
    flush();
}

void Session::go() {
    if (std::exchange(gone_, true)) return;
    watch_.reset();
    connection_.reset();
    events_.on_gone();
}

}  // namespace coalesce
