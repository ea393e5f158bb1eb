// SPDX-License-Identifier: MIT
// Guard: the process beside a batch or a server that ends what they leave behind (SPEC F13).
//
// A command dies with its parent, but what it has started itself does not. So before
// there is a loop, the owner forks a guard: one a process, never one a run. They share a
// page with a line for each run; the child writes itself into it before it executes
// anything, and the line is cleared when the run is over. The guard waits for the end of
// a pipe, which nobody but the owner holds, and then ends whoever is in the page: also
// where the owner was killed, or stopped existing in any other way. It has no other
// descriptor, hears no signal and is in a session of its own; an owner that ends in good
// order ends it first.
//
// It kills nobody but who was recorded: the process that began before it wrote itself
// down, and the members of its session; where that process has gone, so that nothing but
// a number is left, only members whose environment has the owner's mark. What it may not
// signal, or what will not end, it leaves.
//
// A run may have a deadline, which its owner has to put off again and again (a lease that is
// renewed): once it has passed, the guard ends that run's group, whatever has become of the
// owner, which may be stopped, stuck or cut off. It is counted in the time since boot, so also
// while the machine sleeps. The guard has a timer from the first deadline on.
#pragma once

#include <coalesce/command/result.h>

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <coalesce/io/descriptor.h>
#include <coalesce/io/loop.h>
#include <coalesce/io/watch.h>

namespace coalesce {

class Loop;

class Guard {
  public:
    /// Forks the guard. Call it before there are a loop and threads.
    static Result<std::unique_ptr<Guard>> start();
    /// Ends the guard, and nothing else.
    ~Guard();
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

    /// A line of the page.
    struct Line {
        std::atomic<std::int32_t> group;      // 0: none; written last
        std::atomic<std::int32_t> session;    // the group leader's
        std::atomic<std::int64_t> at_ms;      // since boot: by then the number was the group's
        std::atomic<std::uint32_t> deadline;  // its number; 0: none
        /// In the child, as the leader of its group, before it executes anything.
        void enter() noexcept;
    };

    /// A run's hold on a line, which is cleared with it. Empty where the page is full: that
    /// run is not guarded.
    class Place {
      public:
        Place() = default;
        Place(Place&& other) noexcept;
        Place& operator=(Place&& other) noexcept;
        ~Place() { clear(); }
        void clear() noexcept;
        [[nodiscard]] Line* line() const noexcept { return line_; }

      private:
        friend class Guard;
        Guard* guard_ = nullptr;
        Line* line_ = nullptr;
    };
    /// `deadline` is the number of one that holds for the run, or 0.
    [[nodiscard]] Place reserve(std::uint32_t deadline = 0);

    /// When the guard ends the runs that have its number. Empty where the page is full.
    class Deadline {
      public:
        Deadline() = default;
        Deadline(Deadline&& other) noexcept;
        Deadline& operator=(Deadline&& other) noexcept;
        ~Deadline();
        /// Never 0, unless it is empty.
        [[nodiscard]] std::uint32_t number() const noexcept { return number_; }
        /// Since boot. Put off, it costs no more than a store.
        void set(std::chrono::milliseconds at) noexcept;
        /// There is none any more.
        void clear() noexcept;

      private:
        friend class Guard;
        Guard* guard_ = nullptr;
        std::uint32_t number_ = 0;
    };
    [[nodiscard]] Deadline reserve_deadline();

    /// What the environment of every guarded process has: "COALESCE_GUARD=…".
    [[nodiscard]] const char* mark() const noexcept { return mark_.c_str(); }

    /// Ends the guard, and nothing else: of whoever is about to end without being destroyed.
    void dismiss() noexcept;
    /// The guard's own process.
    [[nodiscard]] pid_t pid() const noexcept { return pid_; }

    /// While held, a guard that has died is replaced at once.
    class Watched {
      public:
        Watched(Loop& loop, Guard& guard);
        Watched(const Watched&) = delete;
        Watched& operator=(const Watched&) = delete;

      private:
        void watch();
        void replace();
        Loop& loop_;
        Guard& guard_;
        Descriptor pidfd_;
        Timer again_;
        Watch watch_;
    };

  private:
    struct Page;
    explicit Guard(Page* page);
    Result<> fork_guard();
    [[noreturn]] void keep_watch(int pipe) const noexcept;
    void end_groups(bool overdue_only) const;
    [[nodiscard]] std::int64_t next_deadline() const noexcept;
    void wake() const noexcept;

    Page* page_;
    std::string mark_;
    std::vector<std::uint32_t> free_;  // lines below page_->lines that nobody holds
    std::vector<std::uint32_t> free_deadlines_;
    Descriptor pipe_;  // our end; a byte tells of a deadline that comes sooner than the others
    pid_t pid_ = -1;
};

}  // namespace coalesce
