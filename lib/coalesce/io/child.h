// SPDX-License-Identifier: MIT
// Child: one running process, its output, and its end.
//
// Its output comes through two pipes or, where it is to have one, through a pseudo-terminal, all on stdout.
// It promises every byte that the process wrote, in the order in which it was
// read, and then exactly one end. The end is SPEC F8's: the process has exited
// and both pipes are at end of file; where a grandchild holds a pipe open, once
// the pipes have been idle for 200 ms after the exit. A process that is told to
// stop gets TERM, and KILL after the grace period; both go to its whole process
// group, and what is left of the group is killed before the process is reaped,
// while its number cannot yet belong to anyone else. 200 ms after a KILL it is
// over, whoever outside the group still holds a pipe or writes into it.
#pragma once

#include <coalesce/command/outcome.h>
#include <coalesce/flight/unique_function.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include <coalesce/io/descriptor.h>
#include <coalesce/io/spawn.h>
#include <coalesce/io/stream.h>
#include <coalesce/io/watch.h>

namespace coalesce {

class Loop;

class Child {
  public:
    struct Events {
        UniqueFunction<void(Stream, std::span<const char>)> on_output;
        /// Called once, last. The child may be destroyed from here.
        UniqueFunction<void(Outcome)> on_ended;
    };

    /// Starts `program`, whose three descriptors are filled in here: the input is
    /// `standard_input`, or /dev/null when that is empty. A refusal is reported as
    /// an Outcome that names the culprit; then no event follows.
    struct Start {
        std::unique_ptr<Child> child;  ///< null when it could not be started
        Started::Step failed = Started::Step::none;
        int error = 0;
    };
    static Start start(Loop& loop, Program program, const Descriptor& standard_input, Events events);

    /// The same in two steps, for a process that has no loop yet: what is launched
    /// runs while the loop is made, and must then be adopted.
    struct Launched {
        Started started;
        std::array<Descriptor, 2> outputs;  ///< the read ends, by stream; a terminal has one
        Guard::Place guarded;
    };
    static Launched launch(Program program, const Descriptor& standard_input);
    static Start adopt(Loop& loop, Launched launched, Events events);

    ~Child();
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;

    [[nodiscard]] pid_t pid() const noexcept { return pid_; }

    /// TERM to the process group now, KILL after `grace`. Asking again may bring
    /// the KILL forward, and never puts it off.
    void terminate(std::chrono::milliseconds grace);
    /// Sends `number` to the process group, as a terminal would; after TERM, INT and HUP
    /// CONT, since a stopped process cannot act on them.
    void signal(int number) noexcept;

    /// Backpressure: a paused child is not read from, so it blocks once its pipe is full.
    /// A killed one cannot be paused any more.
    void pause() noexcept;
    void resume();

  private:
    struct Pipe {
        Descriptor read_end;
        Watch watch;  // declared after the descriptor: it must stop watching first
        std::uint64_t read_bytes = 0;
        bool open() const noexcept { return static_cast<bool>(read_end); }
        void close() noexcept {
            watch.reset();
            read_end.reset();
        }
    };

    Child(Loop& loop, Started started, Events events);
    void watch_pipes();
    bool take(Stream stream);
    void read(Stream stream);
    bool read_rest();
    void watch_exit();
    void on_exit();
    [[nodiscard]] std::optional<Outcome> outcome_now(bool keep);
    void settle();
    void after_silence();
    void land();
    [[nodiscard]] bool pipes_open() const noexcept;

    Loop& loop_;
    const pid_t pid_;
    Descriptor pidfd_;
    Guard::Place guarded_;  // until it is reaped
    Watch exit_watch_;
    std::array<Pipe, 2> pipes_;
    Timer unwatched_;                 // until the pipes are watched
    std::optional<Timer> exit_poll_;  // where the exit cannot be watched
    std::optional<Timer> silence_;    // after the exit, while the pipes may be idle
    Events events_;
    std::optional<Outcome> outcome_;
    bool reaped_ = false;
    bool paused_ = false;
    bool terminating_ = false;
    bool killed_ = false;
    bool draining_killed_ = false;
    std::optional<Timer> grace_;
};

}  // namespace coalesce
