// SPDX-License-Identifier: MIT
#include <coalesce/serve/service_manager.h>

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <cstring>

#include <coalesce/io/descriptor.h>

namespace coalesce {
namespace {

using namespace std::chrono;

constexpr milliseconds until_there_is_room{100};

// A datagram to the socket in NOTIFY_SOCKET. False: it should hear of it and could not be
// told, for want of something.
bool tell(const char* state) noexcept {
    const char* const path = std::getenv("NOTIFY_SOCKET");
    if (path == nullptr || (path[0] != '/' && path[0] != '@')) return true;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::size_t length = std::strlen(path);
    if (length >= sizeof address.sun_path) return true;
    std::memcpy(address.sun_path, path, length);
    if (path[0] == '@') address.sun_path[0] = '\0';  // an abstract one
    const Descriptor socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!socket) return false;
    const ssize_t sent =
        ::sendto(socket.get(), state, std::strlen(state), MSG_NOSIGNAL, reinterpret_cast<const sockaddr*>(&address),
                 static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + length));
    return sent >= 0 || (errno != EAGAIN && errno != ENOBUFS && errno != ENOMEM);
}

}  // namespace

void ServiceManager::ready() {
    say_ready();
    const char* const text = std::getenv("WATCHDOG_USEC");
    const auto interval =
        text == nullptr ? milliseconds(0) : duration_cast<milliseconds>(microseconds(std::atoll(text))) / 2;
    if (interval.count() <= 0) return;
    watchdog_.emplace(loop_);
    watchdog_->in_background();
    watchdog_->start(interval, interval, [] { tell("WATCHDOG=1"); });
}

void ServiceManager::say_ready() {
    if (tell("READY=1")) return;
    if (!again_) again_.emplace(loop_);
    again_->start(until_there_is_room, [this] { say_ready(); });
}

void ServiceManager::stopping() {
    again_.reset();
    tell("STOPPING=1");
}

}  // namespace coalesce
