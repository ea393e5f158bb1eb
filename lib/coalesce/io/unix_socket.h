// SPDX-License-Identifier: MIT
// UnixAddress: where a unix socket is, whatever the length of its path.
//
// The kernel takes 107 bytes. A path that fits is used as it is: it works without
// /proc, and /proc/net/unix shows it, by which cleaners of /tmp tell a socket that is in
// use. A longer one is reached through its directory's descriptor; only its name
// must fit then. Whoever binds, connects or looks asks here, so that a path that one of
// them can use, all can.
#pragma once

#include <coalesce/command/result.h>

#include <sys/socket.h>
#include <sys/un.h>

#include <string>

#include <coalesce/io/descriptor.h>

namespace coalesce {

class UnixAddress {
  public:
    /// The address of the socket at `path`. Refused where it is too long and its directory
    /// cannot be opened, or its name alone is too long.
    static Result<UnixAddress> of(const std::string& path);

    [[nodiscard]] const sockaddr* get() const noexcept { return reinterpret_cast<const sockaddr*>(&address_); }
    [[nodiscard]] socklen_t length() const noexcept { return sizeof address_; }

  private:
    UnixAddress() = default;
    sockaddr_un address_{};
    Descriptor directory_;  // while the address goes through it
};

/// A connection to whoever listens at `path`, non-blocking. Where its queue is full the code is
/// EAGAIN: nothing tells when there is room again.
Result<Descriptor> connect_to(const std::string& path);

/// A connected pair of stream sockets, close-on-exec.
struct SocketPair {
    Descriptor one;
    Descriptor other;
};
Result<SocketPair> connected_pair();

}  // namespace coalesce
