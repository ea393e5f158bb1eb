// SPDX-License-Identifier: MIT
// ReadySet: the descriptors of one loop that somebody waits for.
//
// An epoll set of our own, which libuv watches as one descriptor. Given each
// descriptor itself (uv_poll_t), libuv puts it into its set, takes it out again to
// see that this works, makes it non-blocking, and takes it out once more: with the
// end that is six system calls for each, where two are enough, and a command has
// three. It would also set O_NONBLOCK on an open file that other processes share
// with us (our standard input or output), and so break `cat` in the same pipeline.
#pragma once

#include <coalesce/flight/unique_function.h>

#include <sys/epoll.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include <coalesce/io/descriptor.h>
#include <coalesce/io/handle.h>

namespace coalesce {

class ReadySet {
  public:
    struct Interest {
        ReadySet& set;
        int fd = -1;
        UniqueFunction<void()> on_ready;
        std::uint32_t events = 0;
        bool active = false;
        bool in_set = false;         // the kernel's; not so while there is no memory for it
        bool in_background = false;  // does not keep the loop running
    };

    /// Throws std::system_error when no set can be had.
    explicit ReadySet(uv_loop_t* loop);
    /// Aborts when an interest is left: its owner has outlived the loop.
    ~ReadySet();
    ReadySet(const ReadySet&) = delete;
    ReadySet& operator=(const ReadySet&) = delete;

    /// Calls `on_ready` on every turn in which one of the EPOLL… `events` holds, and on
    /// error and hang-up. False, with errno, for what cannot be watched: a regular file.
    /// Active interests keep the loop running.
    bool add(Interest& interest, std::uint32_t events) noexcept;
    /// Adds it anew, or waits for other events. It was watched before, so it can be: where
    /// the kernel has no memory for it, that is tried again until it has.
    void resume(Interest& interest, std::uint32_t events) noexcept;
    void remove(Interest& interest) noexcept;
    /// Removes and deletes it, if its on_ready is on the stack once that has returned.
    void discard(std::unique_ptr<Interest> interest) noexcept;

  private:
    static constexpr std::size_t ready_at_once = 256;
    void dispatch() noexcept;
    bool put(Interest& interest) noexcept;
    void activate(Interest& interest) noexcept;
    void try_again() noexcept;

    Descriptor epoll_;
    Handle<uv_poll_t> poll_;
    Handle<uv_timer_t> again_;
    std::vector<Interest*> wanting_;  // active, and not in the set
    std::size_t active_ = 0;
    std::array<epoll_event, ready_at_once> ready_{};
    std::size_t ready_count_ = 0;
    std::size_t next_ = 0;
    Interest* current_ = nullptr;
    std::unique_ptr<Interest> doomed_;
};

}  // namespace coalesce
