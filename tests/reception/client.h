// SPDX-License-Identifier: MIT
// Wire: one connection to a door that does everything a client can do, a little at a time.
//
// What it has to say lies in a buffer of its own and goes out in pieces, what comes is read
// in pieces; it may shut its sending side down or close at any point of either. It knows
// the framing (a line, and in stream mode so many raw bytes) and gives each message away
// whole. What the messages mean is the model's, in door_model.h.
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include <coalesce/io/descriptor.h>
#include <coalesce/protocol/message.h>

namespace coalesce::reception_test {

class Wire {
  public:
    enum class Came { something, nothing_now, end, reset };

    explicit Wire(Descriptor connection) : connection_(std::move(connection)) {
        ::fcntl(connection_.get(), F_SETFL, ::fcntl(connection_.get(), F_GETFL) | O_NONBLOCK);
    }

    [[nodiscard]] int fd() const noexcept { return connection_.get(); }
    [[nodiscard]] std::size_t unsaid() const noexcept { return out_.size(); }
    [[nodiscard]] bool sending() const noexcept { return sending_; }

    void say(std::string_view text) { out_ += text; }

    /// Sends `most` bytes of what there is to say, or fewer.
    void push(std::size_t most) {
        if (out_.empty() || !sending_) return;
        const ssize_t sent =
            ::send(connection_.get(), out_.data(), std::min(most, out_.size()), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent > 0) out_.erase(0, static_cast<std::size_t>(sent));
        if (sent < 0 && errno != EAGAIN) stop_saying();  // it is told why when it reads
    }

    /// Says no more, whatever is left.
    void shut_down() {
        ::shutdown(connection_.get(), SHUT_WR);
        stop_saying();
    }

    /// Reads `most` bytes, or fewer, and calls `take` with each message that is whole.
    template <class Take>
    Came pull(std::size_t most, Take take) {
        char block[65536];
        alignas(cmsghdr) char control[CMSG_SPACE(8 * sizeof(int))];
        iovec bytes{.iov_base = block, .iov_len = std::min(most, sizeof block)};
        msghdr message{};
        message.msg_iov = &bytes;
        message.msg_iovlen = 1;
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        const ssize_t got = ::recvmsg(connection_.get(), &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        if (got < 0) return errno == EAGAIN || errno == EINTR ? Came::nothing_now : Came::reset;
        for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header))
            close_all(*header);
        if (got == 0) return Came::end;
        std::string_view rest(block, static_cast<std::size_t>(got));
        while (!rest.empty()) {
            const std::size_t raw = static_cast<std::size_t>(std::min<std::uint64_t>(raw_, rest.size()));
            raw_ -= raw;
            rest.remove_prefix(raw);
            const std::size_t end = rest.find('\n');
            in_ += rest.substr(0, end);
            if (end == std::string_view::npos) break;
            rest.remove_prefix(end + 1);
            take(std::exchange(in_, {}));
        }
        return Came::something;
    }

    /// The message announced that many raw bytes.
    void expect_raw(std::uint64_t bytes) { raw_ = bytes; }
    /// Whether what has come so far ends a message.
    [[nodiscard]] bool between_messages() const noexcept { return in_.empty() && raw_ == 0; }

  private:
    void stop_saying() {
        sending_ = false;
        out_.clear();
    }
    static void close_all(const cmsghdr& header) {
        if (header.cmsg_type != SCM_RIGHTS) return;
        for (std::size_t at = CMSG_LEN(0); at + sizeof(int) <= header.cmsg_len; at += sizeof(int)) {
            int file = -1;
            std::memcpy(&file, reinterpret_cast<const char*>(&header) + at, sizeof file);
            ::close(file);
        }
    }

    Descriptor connection_;
    std::string out_;
    std::string in_;
    std::uint64_t raw_ = 0;
    bool sending_ = true;
};

inline Descriptor connect_to(const std::string& path) {
    Descriptor connection(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.c_str(), std::min(path.size(), sizeof address.sun_path - 1));
    if (::connect(connection.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        return Descriptor();
    return connection;
}

}  // namespace coalesce::reception_test
