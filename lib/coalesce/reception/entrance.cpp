// SPDX-License-Identifier: MIT
#include <coalesce/reception/entrance.h>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>

namespace coalesce {
namespace {

constexpr int at_a_time = 64;  // so that a flood of connections leaves those inside their turn
constexpr std::chrono::milliseconds until_there_is_room{50};

Descriptor accept_one(int listener) {
    return Descriptor(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

Descriptor spare_descriptor() { return Descriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

}  // namespace

Entrance::Entrance(Loop& loop, Events events) : loop_(loop), events_(std::move(events)) {
    if (events_.turn_away) spare_ = spare_descriptor();
}

Result<> Entrance::open(int listener) {
    auto watch = Watch::start(loop_, listener, Readiness::readable, [this, listener] { take_in(listener); });
    if (!watch) return watch.error();
    listeners_.emplace_back(listener, std::move(*watch));
    return {};
}

void Entrance::close() {
    closing_ = true;
    for (const auto& [listener, watch] : listeners_) take_in(listener);
    later_.reset();
    listeners_.clear();
}

void Entrance::take_in(int listener) {
    for (int i = 0; (closing_ || i < at_a_time) && !later_; ++i) {
        const bool room = events_.has_room();
        if (!room && !events_.turn_away) return take_in_later();
        Descriptor connection = accept_one(listener);
        if (!connection && errno == EAGAIN) return;
        if (!connection && (errno == EINTR || errno == ECONNABORTED)) continue;
        if (!connection) {
            short_of(listener, errno);
        } else if (!room) {
            events_.turn_away(std::move(connection), 0);
        } else {
            ucred peer{};
            socklen_t length = sizeof peer;
            if (::getsockopt(connection.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0)
                events_.on_arrival(std::move(connection), peer);
        }
    }
}

// With the spare descriptor, so that whoever cannot be served hears why.
void Entrance::short_of(int listener, int error) {
    Descriptor connection;
    if (spare_) {
        spare_.reset();
        connection = accept_one(listener);
    }
    if (!connection) take_in_later();
    if (!events_.turn_away) return;
    events_.turn_away(std::move(connection), error);
    spare_ = spare_descriptor();
}

// Without our being told of those who wait for ever.
void Entrance::take_in_later() {
    for (auto& [listener, watch] : listeners_) watch.stop();
    later_.emplace(loop_);
    later_->start(until_there_is_room, [this] {
        later_.reset();
        for (auto& [listener, watch] : listeners_) watch.resume(Readiness::readable);
    });
}

}  // namespace coalesce
