// SPDX-License-Identifier: MIT
#include <coalesce/meeting/connection.h>

#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace coalesce {

void Connection::send(std::string_view text) {
    out_ += text;
    flush();
}

void Connection::flush() {
    std::size_t done = 0;
    while (done < out_.size()) {
        const ssize_t sent = ::send(socket_.get(), out_.data() + done, out_.size() - done, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent >= 0) {
            done += static_cast<std::size_t>(sent);
        } else if (errno == EAGAIN) {
            break;
        } else if (errno != EINTR) {  // its death shows at the next read
            reset_ = true;
            done = out_.size();
        }
    }
    out_.erase(0, done);
}

bool Connection::unread() const noexcept {
    int bytes = 0;
    return unsent() || (::ioctl(socket_.get(), SIOCOUTQ, &bytes) == 0 && bytes > 0);
}

bool Connection::receive() {
    char block[1024];  // as the supervisor's messages are short, and more stack would be one more page
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    iovec bytes{.iov_base = block, .iov_len = sizeof block};
    msghdr message{};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) return true;
    if (got < 0) reset_ = true;
    if (got <= 0) return false;
    if (const cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr && header->cmsg_type == SCM_RIGHTS) {
        int file = -1;
        std::memcpy(&file, CMSG_DATA(header), sizeof file);
        file_ = Descriptor(file);
    }
    incoming_.add({block, static_cast<std::size_t>(got)});
    return true;
}

std::optional<std::string> Connection::next_line() {
    const auto line = incoming_.next();
    return line ? std::optional(std::string(line->text)) : std::nullopt;
}

}  // namespace coalesce
