// SPDX-License-Identifier: MIT
// Entrance: takes connections in, for as long as there is room for them (SPEC F14, S9).
//
// Where there is none, for want of descriptors or by the owner's count, whoever comes is
// turned away with the reason, or waits in the socket's queue, as the owner has it; either
// way all is well again once there is room. Who may come in, and as what, is the owner's.
#pragma once

#include <coalesce/command/result.h>
#include <coalesce/flight/unique_function.h>

#include <sys/socket.h>

#include <optional>
#include <utility>
#include <vector>

#include <coalesce/io/descriptor.h>
#include <coalesce/io/watch.h>

namespace coalesce {

class Loop;

class Entrance {
  public:
    struct Events {
        /// Whether one more may come in.
        UniqueFunction<bool()> has_room;
        UniqueFunction<void(Descriptor connection, const ucred& peer)> on_arrival;
        /// Tells whoever cannot come in: `error` is errno, or 0 where has_room said so. There
        /// may be no connection to tell it to. Unset: it waits in the queue.
        UniqueFunction<void(Descriptor connection, int error)> turn_away = {};
    };
    Entrance(Loop& loop, Events events);

    /// Watches one more listening socket, which stays its owner's and open until close().
    Result<> open(int listener);
    /// Whoever has connected already comes in, where there is room, and nobody after that.
    void close();

  private:
    void take_in(int listener);
    void short_of(int listener, int error);
    void take_in_later();

    Loop& loop_;
    Events events_;
    std::vector<std::pair<int, Watch>> listeners_;
    Descriptor spare_;  // closed to accept, where no other is left, whoever is to be turned away
    std::optional<Timer> later_;
    bool closing_ = false;
};

}  // namespace coalesce
