// SPDX-License-Identifier: MIT
#include <coalesce/serve/server_socket.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include <coalesce/io/process_facts.h>
#include <coalesce/io/unix_socket.h>

namespace coalesce {
namespace {

constexpr int first_passed_descriptor = 3;
constexpr int backlog = 4096;

// How many descriptors the service manager passed to this process.
int passed_by_service_manager() {
    const char* const pid = std::getenv("LISTEN_PID");
    const char* const count = std::getenv("LISTEN_FDS");
    if (pid == nullptr || count == nullptr || std::atoi(pid) != ::getpid()) return 0;
    return std::max(std::atoi(count), 0);
}

// Whether the process that made the other end listen is gone, or waits for somebody to reap it.
bool is_orphaned(const Descriptor& connection) {
    ucred listener{};
    socklen_t length = sizeof listener;
    if (::getsockopt(connection.get(), SOL_SOCKET, SO_PEERCRED, &listener, &length) != 0 || listener.pid <= 0)
        return false;
    if (::kill(listener.pid, 0) != 0 && errno == ESRCH) return true;
    const auto facts = ProcessFacts::of(listener.pid);
    return facts && !facts->alive();
}

enum class Answers : std::uint8_t {
    nobody,
    somebody,
    an_orphan,  ///< what a killed server was just about to start has its socket for a moment
    unknown,    ///< with errno: not to be able to ask is not to be told that nobody is there
};

Answers who_answers(const UnixAddress& address) {
    const Descriptor probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!probe) return Answers::unknown;
    if (::connect(probe.get(), address.get(), address.length()) == 0)
        return is_orphaned(probe) ? Answers::an_orphan : Answers::somebody;
    if (errno == EAGAIN) return Answers::somebody;  // its queue is full
    return errno == ENOENT || errno == ECONNREFUSED ? Answers::nobody : Answers::unknown;
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

// Of a directory that others may read, anybody can hold the lock for as long as they like.
Result<> lock(int directory, const std::string& path) {
    using namespace std::chrono;
    constexpr seconds longest{5};
    const auto begun = steady_clock::now();
    while (::flock(directory, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) return system_error_now("lock " + path);
        if (steady_clock::now() - begun > longest)
            return system_error_of(EWOULDBLOCK, "lock " + path + ", which another process has locked");
        ::poll(nullptr, 0, 5);
    }
    return {};
}

// Leaves the directory locked. Nobody else is kept from it while an orphan is waited for.
Result<Answers> lock_and_look(int directory, const std::string& path, const UnixAddress& address) {
    using namespace std::chrono;
    constexpr seconds longest{1};
    const auto begun = steady_clock::now();
    while (true) {
        if (auto locked = lock(directory, path); !locked) return locked.error();
        const Answers answers = who_answers(address);
        if (answers != Answers::an_orphan || steady_clock::now() - begun > longest) return answers;
        ::flock(directory, LOCK_UN);
        ::poll(nullptr, 0, 5);
    }
}

}  // namespace

Result<ServerSocket> ServerSocket::open(const std::string& path, mode_t mode) {
    if (const int count = passed_by_service_manager(); count > 0) return passed(count);
    ServerSocket socket;
    if (auto made = socket.make(path, mode); !made) return made.error();
    return socket;
}

Result<ServerSocket> ServerSocket::passed(int count) {
    ServerSocket socket;
    for (int fd = first_passed_descriptor; fd < first_passed_descriptor + count; ++fd) {
        if (!listens(fd))
            return Error{std::make_error_code(std::errc::not_a_socket),
                         "listen on descriptor " + std::to_string(fd) +
                             ", one of those that LISTEN_FDS names, which is no listening unix stream socket"};
        ::fcntl(fd, F_SETFD, FD_CLOEXEC);
        ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
        socket.path_ += (socket.path_.empty() ? "" : ", ") + name_of(fd);
        socket.listeners_.emplace_back(fd);
    }
    return socket;
}

Result<> ServerSocket::make(const std::string& path, mode_t mode) {
    path_ = path;
    const std::size_t slash = path.rfind('/');
    const std::string parent = slash == std::string::npos ? "." : path.substr(0, std::max<std::size_t>(slash, 1));
    name_ = slash == std::string::npos ? path : path.substr(slash + 1);
    if (name_.empty() || name_.size() > 80)
        return Error{std::make_error_code(std::errc::filename_too_long), "listen on " + path};
    directory_ = Descriptor(::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory_) return system_error_now("listen on " + path + ", in " + parent);
    auto address = UnixAddress::of(path);
    if (!address) return system_error_of(address.error().code.value(), "listen on " + path);
    Descriptor listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!listener) return system_error_now("listen on " + path);
    auto answers = lock_and_look(directory_.get(), parent, *address);
    if (!answers) return answers.error();
    if (*answers != Answers::nobody) {
        const bool unknown = *answers == Answers::unknown;
        const int error = unknown ? errno : EADDRINUSE;
        ::flock(directory_.get(), LOCK_UN);
        return system_error_of(error, "listen on " + path + (unknown ? "" : ", where a server answers"));
    }
    if (socket_at(directory_.get(), name_) != 0) ::unlinkat(directory_.get(), name_.c_str(), 0);
    const mode_t before = ::umask(0777 & ~mode);
    const int bound = ::bind(listener.get(), address->get(), address->length());
    const int error = errno;
    ::umask(before);
    const bool listening = bound == 0 && ::listen(listener.get(), backlog) == 0;
    if (listening) inode_ = socket_at(directory_.get(), name_);
    ::flock(directory_.get(), LOCK_UN);
    if (!listening) return system_error_of(bound == 0 ? errno : error, "listen on " + path);
    listeners_.push_back(std::move(listener));
    return {};
}

// While it still listens, so that another server, which looks under the lock, finds that
// somebody answers and puts nothing in its place.
void ServerSocket::unlink() noexcept {
    if (listeners_.empty() || name_.empty()) return;
    if (socket_at(directory_.get(), name_) == inode_)  // or somebody has put another there
        ::unlinkat(directory_.get(), name_.c_str(), 0);
}

}  // namespace coalesce
