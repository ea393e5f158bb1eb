// SPDX-License-Identifier: MIT
#include <coalesce/serve/server_socket.h>

#include <fcntl.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>

namespace coalesce {
namespace {

constexpr int first_passed_descriptor = 3;
constexpr int backlog = 4096;

bool passed_by_service_manager() {
    const char* const pid = std::getenv("LISTEN_PID");
    const char* const count = std::getenv("LISTEN_FDS");
    return pid != nullptr && count != nullptr && std::atoi(pid) == ::getpid() && std::atoi(count) >= 1;
}

// Through the directory's descriptor: a socket's own path may be 107 bytes long.
sockaddr_un address_of(int directory, const std::string& name) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", directory, name.c_str());
    return address;
}

// Nothing where it cannot be told, with errno: not to be able to ask is not to be told
// that nobody is there.
std::optional<bool> somebody_answers(const sockaddr_un& address) {
    const Descriptor probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!probe) return std::nullopt;
    if (::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return true;
    if (errno == EAGAIN) return true;  // its queue is full
    return errno == ENOENT || errno == ECONNREFUSED ? std::optional(false) : std::nullopt;
}

// The number of the socket of that name; 0: there is none.
ino_t socket_at(int directory, const std::string& name) {
    struct stat info {};
    return ::fstatat(directory, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(info.st_mode) ? info.st_ino
                                                                                                         : 0;
}

int socket_option(int fd, int option) {
    int value = -1;
    socklen_t length = sizeof value;
    return ::getsockopt(fd, SOL_SOCKET, option, &value, &length) == 0 ? value : -1;
}

bool listens(int fd) {
    return socket_option(fd, SO_DOMAIN) == AF_UNIX && socket_option(fd, SO_TYPE) == SOCK_STREAM &&
           socket_option(fd, SO_ACCEPTCONN) == 1;
}

std::string name_of(int fd) {
    sockaddr_un address{};
    socklen_t length = sizeof address;
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0 || address.sun_path[0] == '\0')
        return "the socket that was passed";
    return address.sun_path;
}

}  // namespace

Result<ServerSocket> ServerSocket::open(const std::string& path, mode_t mode) {
    ServerSocket socket;
    socket.path_ = path;
    if (passed_by_service_manager()) {
        if (!listens(first_passed_descriptor))
            return Error{std::make_error_code(std::errc::not_a_socket),
                         "listen on the descriptor that LISTEN_FDS names, which is no listening unix stream socket"};
        socket.listener_ = Descriptor(first_passed_descriptor);
        socket.path_ = name_of(first_passed_descriptor);
        ::fcntl(socket.fd(), F_SETFD, FD_CLOEXEC);
        ::fcntl(socket.fd(), F_SETFL, ::fcntl(socket.fd(), F_GETFL) | O_NONBLOCK);
        return socket;
    }
    const std::size_t slash = path.rfind('/');
    const std::string parent = slash == std::string::npos ? "." : path.substr(0, std::max<std::size_t>(slash, 1));
    socket.name_ = slash == std::string::npos ? path : path.substr(slash + 1);
    if (socket.name_.empty() || socket.name_.size() > 80)
        return Error{std::make_error_code(std::errc::filename_too_long), "listen on " + path};
    socket.directory_ = Descriptor(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!socket.directory_ || ::flock(socket.directory_.get(), LOCK_EX) != 0)
        return system_error_now("listen on " + path + ", in " + parent);
    const sockaddr_un address = address_of(socket.directory_.get(), socket.name_);
    socket.listener_ = Descriptor(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const std::optional<bool> answered = socket.listener_ ? somebody_answers(address) : std::nullopt;
    if (answered != false) {
        const int error = answered ? EADDRINUSE : errno;
        ::flock(socket.directory_.get(), LOCK_UN);
        return system_error_of(error, "listen on " + path + (answered ? ", where a server answers" : ""));
    }
    if (socket_at(socket.directory_.get(), socket.name_) != 0)
        ::unlinkat(socket.directory_.get(), socket.name_.c_str(), 0);
    const mode_t before = ::umask(0777 & ~mode);
    const int bound = ::bind(socket.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
    const int error = errno;
    ::umask(before);
    const bool listening = bound == 0 && ::listen(socket.fd(), backlog) == 0;
    if (listening) socket.inode_ = socket_at(socket.directory_.get(), socket.name_);
    ::flock(socket.directory_.get(), LOCK_UN);
    if (!listening) return system_error_of(bound == 0 ? errno : error, "listen on " + path);
    return socket;
}

void ServerSocket::close() noexcept {
    if (listener_ && !name_.empty()) {
        ::flock(directory_.get(), LOCK_EX);
        if (socket_at(directory_.get(), name_) == inode_)  // or somebody has put another there
            ::unlinkat(directory_.get(), name_.c_str(), 0);
        ::flock(directory_.get(), LOCK_UN);
    }
    listener_.reset();
}

// The protocol of sd_notify(3): a datagram to the socket in NOTIFY_SOCKET.
void notify_service_manager(const char* state) noexcept {
    const char* const path = std::getenv("NOTIFY_SOCKET");
    if (path == nullptr || (path[0] != '/' && path[0] != '@')) return;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::size_t length = std::strlen(path);
    if (length >= sizeof address.sun_path) return;
    std::memcpy(address.sun_path, path, length);
    if (path[0] == '@') address.sun_path[0] = '\0';  // an abstract one
    const Descriptor socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ::sendto(socket.get(), state, std::strlen(state), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address),
             static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length));
}

}  // namespace coalesce
