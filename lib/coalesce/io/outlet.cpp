// SPDX-License-Identifier: MIT
#include <coalesce/io/outlet.h>

#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include <coalesce/io/loop.h>

namespace coalesce {
namespace {

constexpr std::size_t most_at_once = 1 << 20;  // so that a fast file does not hold the loop

// Somebody else's doing, or the disk's. Never a gap.
Error shorter_than_recorded() {
    return system_error_of(EIO, "read the kept output back, which is shorter than it was");
}

}  // namespace

Outlet::Outlet(Loop& loop, int fd, std::string name) : loop_(loop), shared_(fd), name_(std::move(name)) {
    struct stat info {};
    if (::fstat(fd, &info) != 0) return;  // closed: the first write will say so
    if (S_ISSOCK(info.st_mode)) {
        kind_ = Kind::socket;
        can_send_file_ = false;  // sendfile has no MSG_DONTWAIT
    } else if (S_ISFIFO(info.st_mode) || ::isatty(fd) != 0) {
        const std::string self = "/proc/self/fd/" + std::to_string(fd);
        own_ = Descriptor(::open(self.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY));
        kind_ = own_ ? Kind::reopened : Kind::cautious;
        if (!own_) can_send_file_ = false;
    } else if (S_ISREG(info.st_mode) || S_ISBLK(info.st_mode)) {
        // sendfile moves a file's position without taking its lock: what another
        // process that shares this `>file` writes meanwhile would be overwritten.
        can_send_file_ = false;
    }
}

Error Outlet::refusal() const { return system_error_now("write to " + name_); }

// A blocking pipe that polls writable takes PIPE_BUF bytes without blocking, and
// promises no more than that.
std::size_t Outlet::safe_length(std::size_t wanted) const noexcept {
    if (kind_ != Kind::cautious) return std::min(wanted, most_at_once);
    pollfd ready{.fd = shared_, .events = POLLOUT, .revents = 0};
    if (::poll(&ready, 1, 0) != 1) return 0;
    return std::min<std::size_t>(wanted, PIPE_BUF);
}

Result<std::size_t> Outlet::write(std::string_view bytes) {
    const std::size_t length = safe_length(bytes.size());
    if (length == 0) return std::size_t{0};
    const ssize_t wrote = kind_ == Kind::socket ? ::send(shared_, bytes.data(), length, MSG_DONTWAIT | MSG_NOSIGNAL)
                                                : ::write(fd(), bytes.data(), length);
    if (wrote >= 0) return static_cast<std::size_t>(wrote);
    if (errno == EAGAIN || errno == EINTR) return std::size_t{0};
    return refusal();
}

Result<std::size_t> Outlet::write(const Extent& extent) {
    if (extent.file < 0) return write(extent.bytes);
    if (can_send_file_) return send_file(extent);
    const auto buffer = loop_.read_buffer();
    const std::size_t length = static_cast<std::size_t>(std::min<std::uint64_t>(extent.length, buffer.size()));
    const ssize_t got = ::pread(extent.file, buffer.data(), length, static_cast<off_t>(extent.offset));
    if (got == 0) return shorter_than_recorded();
    if (got < 0) return system_error_now("read the kept output back");
    return write(std::string_view(buffer.data(), static_cast<std::size_t>(got)));
}

Result<std::size_t> Outlet::send_file(const Extent& extent) {
    if (!widened_ && extent.length >= most_at_once) widen_pipe();
    off_t offset = static_cast<off_t>(extent.offset);
    const ssize_t sent = ::sendfile(fd(), extent.file, &offset,
                                    static_cast<std::size_t>(std::min<std::uint64_t>(extent.length, most_at_once)));
    if (sent == 0) return shorter_than_recorded();
    if (sent > 0) return static_cast<std::size_t>(sent);
    if (errno == EAGAIN || errno == EINTR) return std::size_t{0};
    if (errno == EINVAL || errno == ENOSYS || errno == EPERM) {
        can_send_file_ = false;
        return write(extent);
    }
    return refusal();
}

// Measured: 2.2 times the rate when much goes through. Refused past the user's
// pipe quota, and then nothing is lost.
void Outlet::widen_pipe() noexcept {
    widened_ = true;
    if (kind_ == Kind::reopened) ::fcntl(fd(), F_SETPIPE_SZ, 1 << 20);
}

void Outlet::wait(UniqueFunction<void()> on_writable) {
    on_writable_ = std::move(on_writable);
    if (watch_) return watch_.resume(Readiness::writable);
    auto watch = Watch::start(loop_, fd(), Readiness::writable, [this] {
        watch_.stop();
        std::exchange(on_writable_, {})();
    });
    if (watch)
        watch_ = std::move(*watch);
    else  // never full for long (a file): the next turn will do
        loop_.post([this] { std::exchange(on_writable_, {})(); });
}

}  // namespace coalesce
