// SPDX-License-Identifier: MIT
#include <coalesce/meeting/output_relay.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <coalesce/meeting/attention.h>

namespace coalesce {
namespace {

constexpr std::uint64_t widen_from = 256 * 1024;
constexpr std::uint64_t most_at_once = 8 << 20;
constexpr std::size_t block_bytes = 16 * 1024;  // on the stack, which may be small

// Of a pipe, a connection, and one that was ended before it was read.
bool nobody_reads(int error) { return error == EPIPE || error == ECONNRESET || error == ENOTCONN; }

}  // namespace

template <class Move>
OutputRelay::End OutputRelay::pass_all(int to, std::uint64_t& left, Move move) {
    while (left > 0) {
        if (Attention::called()) return End::interrupted;
        const ssize_t moved = move();
        if (moved < 0 && errno == EINTR) continue;
        if (moved < 0 && errno == EAGAIN) {  // somebody made it non-blocking
            pollfd ready{.fd = to, .events = POLLOUT, .revents = 0};
            Attention::wait({&ready, 1}, -1);
            continue;
        }
        if (moved < 0) {
            error_ = errno;
            refused_by_ = to;
            return nobody_reads(error_) ? End::reader_gone : End::refused;
        }
        if (moved == 0) {  // the file is shorter than promised
            error_ = EIO;
            refused_by_ = to;
            return End::refused;
        }
        passed_[static_cast<std::size_t>(to)] += static_cast<std::uint64_t>(moved);
        left -= static_cast<std::uint64_t>(moved);
    }
    return End::done;
}

OutputRelay::End OutputRelay::pass(int to, int file, Stretch& stretch) {
    if (stretch.length >= widen_from) widen(to);
    return pass_all(to, stretch.length, [&] {
        const ssize_t moved = move(to, file, stretch);
        if (moved > 0) stretch.offset += static_cast<std::uint64_t>(moved);
        return moved;
    });
}

OutputRelay::End OutputRelay::pass(int to, std::string_view& bytes) {
    std::uint64_t left = bytes.size();
    return pass_all(to, left, [&] {
        const ssize_t moved = ::write(to, bytes.data(), bytes.size());
        if (moved > 0) bytes.remove_prefix(static_cast<std::size_t>(moved));
        return moved;
    });
}

void OutputRelay::say(std::string_view text) {
    while (!text.empty()) {
        const ssize_t wrote = ::write(STDERR_FILENO, text.data(), text.size());
        if (wrote > 0) {
            text.remove_prefix(static_cast<std::size_t>(wrote));
        } else if (wrote < 0 && errno == EAGAIN && !Attention::called()) {
            pollfd ready{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
            Attention::wait({&ready, 1}, -1);
        } else if (wrote == 0 || errno != EINTR || Attention::called()) {
            return;
        }
    }
}

ssize_t OutputRelay::move(int to, int file, const Stretch& stretch) {
    if (can_send_file_[static_cast<std::size_t>(to)]) {
        off_t at = static_cast<off_t>(stretch.offset);
        const ssize_t sent =
            ::sendfile(to, file, &at, static_cast<std::size_t>(std::min(stretch.length, most_at_once)));
        if (sent >= 0 || (errno != EINVAL && errno != ENOSYS && errno != EPERM)) return sent;
        can_send_file_[static_cast<std::size_t>(to)] = false;  // a terminal, or a filter
    }
    char block[block_bytes];
    const ssize_t got =
        ::pread(file, block, std::min<std::size_t>(sizeof block, static_cast<std::size_t>(stretch.length)),
                static_cast<off_t>(stretch.offset));
    return got <= 0 ? got : ::write(to, block, static_cast<std::size_t>(got));
}

void OutputRelay::widen(int to) {
    if (std::exchange(widened_[static_cast<std::size_t>(to)], true)) return;
    ::fcntl(to, F_SETPIPE_SZ, 1 << 20);  // refused for what is no pipe, and past the user's quota
}

// sendfile moves a file's position without taking its lock: of two requesters that
// share one `>file`, one would overwrite the other.
bool OutputRelay::takes_sendfile(int to) {
    struct stat info {};
    return ::fstat(to, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode);
}

std::string OutputRelay::refusal() const {
    return std::string("cannot write to standard ") + (refused_by_ == STDOUT_FILENO ? "output" : "error") + ": " +
           std::strerror(error_);
}

}  // namespace coalesce
