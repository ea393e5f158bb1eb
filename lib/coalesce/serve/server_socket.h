// SPDX-License-Identifier: MIT
// The socket a server listens on: ours to make, or systemd's.
#pragma once

#include <coalesce/command/result.h>

#include <sys/types.h>

#include <string>

#include <coalesce/io/descriptor.h>

namespace coalesce {

/// A listening socket that is removed again, unless somebody else made it.
class ServerSocket {
  public:
    /// The socket systemd passed (LISTEN_FDS), or a new one at `path`, of `mode`. A
    /// live socket there is refused, a dead one is replaced, without a race: the
    /// directory is locked meanwhile.
    static Result<ServerSocket> open(const std::string& path, mode_t mode);

    ServerSocket(ServerSocket&&) noexcept = default;
    ServerSocket& operator=(ServerSocket&&) noexcept = default;

    [[nodiscard]] int fd() const noexcept { return listener_.get(); }
    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    /// No new connections; the file is gone.
    void close() noexcept;

  private:
    ServerSocket() = default;
    Descriptor directory_;
    Descriptor listener_;
    std::string path_;
    std::string name_;  // in the directory; empty: not ours
    ino_t inode_ = 0;   // what we made there
};

/// Tells systemd ("READY=1", "WATCHDOG=1"), if it asked to be told.
void notify_service_manager(const char* state) noexcept;

}  // namespace coalesce
