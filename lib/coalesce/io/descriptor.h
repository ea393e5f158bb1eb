// SPDX-License-Identifier: MIT
// Descriptor: sole ownership of a file descriptor.
//
// Closes on destruction. A descriptor that an event loop watches is not closed
// through this alone: the watcher goes first (see Watch), or epoll keeps
// reporting a number that now belongs to someone else.
#pragma once

#include <sys/resource.h>
#include <unistd.h>

#include <span>
#include <utility>

namespace coalesce {

class Descriptor {
  public:
    Descriptor() = default;
    explicit Descriptor(int fd) noexcept : fd_(fd) {}
    Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        if (this != &other) {
            reset();
            fd_ = std::exchange(other.fd_, -1);
        }
        return *this;
    }
    ~Descriptor() { reset(); }

    [[nodiscard]] int get() const noexcept { return fd_; }
    explicit operator bool() const noexcept { return fd_ >= 0; }
    [[nodiscard]] int release() noexcept { return std::exchange(fd_, -1); }
    void reset() noexcept {
        if (fd_ >= 0) ::close(std::exchange(fd_, -1));
    }

  private:
    int fd_ = -1;
};

/// Lifts the limit of open descriptors as far as it goes. Returns the one that was, which a child is
/// to have again; where it cannot be lifted, it stays.
rlimit raise_descriptor_limit() noexcept;

/// Closes every descriptor of this process but those of `kept`, which ascend. For a child
/// before it executes: it neither allocates nor locks. False, with errno, where the kernel
/// does not tell which there are; then some may be open still.
[[nodiscard]] bool close_all_but(std::span<const int> kept) noexcept;

}  // namespace coalesce
