// SPDX-License-Identifier: MIT
// Outlet: writing to a descriptor that other processes share, without blocking the loop.
//
// Our standard output may be a pipe, a terminal, a file or a socket, and O_NONBLOCK
// set on it would be set for everyone who shares it. So pipes and terminals are
// reopened through /proc (an open file of our own, non-blocking), sockets are
// written with MSG_DONTWAIT, and regular files are written as they are. Where a
// pipe cannot be reopened, it is written in pieces that poll() promised to take.
// Extents that lie in a file go out by sendfile, in the kernel, where the other
// side allows (not: files, some terminals).
#pragma once

#include <coalesce/command/result.h>
#include <coalesce/flight/unique_function.h>

#include <memory>
#include <string>
#include <string_view>

#include <coalesce/io/store.h>
#include <coalesce/io/watch.h>

namespace coalesce {

class Loop;

class Outlet {
  public:
    /// Watches over `fd`, which stays the caller's. `name` is for messages: "standard output".
    Outlet(Loop& loop, int fd, std::string name);

    /// Writes what fits now and says how much that was; 0 means: not now, call wait().
    /// EPIPE and every other refusal come back as an Error that names the outlet.
    Result<std::size_t> write(std::string_view bytes);
    /// The same for an extent of a spool, wherever it lies.
    Result<std::size_t> write(const Extent& extent);
    /// Calls `on_writable` once, when it is worth trying again.
    void wait(UniqueFunction<void()> on_writable);

    [[nodiscard]] int fd() const noexcept { return own_ ? own_.get() : shared_; }

  private:
    enum class Kind { plain, reopened, socket, cautious };
    Result<std::size_t> send_file(const Extent& extent);
    [[nodiscard]] std::size_t safe_length(std::size_t wanted) const noexcept;
    Error refusal() const;
    void widen_pipe() noexcept;

    Loop& loop_;
    const int shared_;
    const std::string name_;
    Descriptor own_;
    Kind kind_ = Kind::plain;
    bool can_send_file_ = true;
    bool widened_ = false;
    Watch watch_;
    UniqueFunction<void()> on_writable_;
};

}  // namespace coalesce
