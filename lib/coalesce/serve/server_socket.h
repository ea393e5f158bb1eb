// SPDX-License-Identifier: MIT
// The sockets a server listens on: one of ours to make, or those that systemd passes.
#pragma once

#include <coalesce/command/result.h>

#include <sys/types.h>

#include <string>
#include <vector>

#include <coalesce/io/descriptor.h>

namespace coalesce {

/// Listening sockets; one that was made here is removed again.
class ServerSocket {
  public:
    /// The sockets systemd passed (LISTEN_FDS), or a new one at `path`, of `mode`. A
    /// live socket there is refused, a dead one is replaced, without a race: the
    /// directory is locked meanwhile. Whoever else holds that lock is not waited for
    /// for long.
    static Result<ServerSocket> open(const std::string& path, mode_t mode);

    ServerSocket(ServerSocket&&) noexcept = default;
    ServerSocket& operator=(ServerSocket&&) noexcept = default;

    /// Non-blocking and close-on-exec.
    [[nodiscard]] const std::vector<Descriptor>& listeners() const noexcept { return listeners_; }
    /// For people: where it listens.
    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    /// The file that was made is gone, so that nobody new can connect; who has is still
    /// there to be accepted. Waits for nobody.
    void unlink() noexcept;
    /// No new connections.
    void close() noexcept { listeners_.clear(); }

  private:
    ServerSocket() = default;
    Descriptor directory_;
    static Result<ServerSocket> passed(int count);
    Result<> make(const std::string& path, mode_t mode);
    std::vector<Descriptor> listeners_;
    std::string path_;
    std::string name_;  // in the directory; empty: not ours
    ino_t inode_ = 0;   // what we made there
};

}  // namespace coalesce
