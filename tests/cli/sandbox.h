// SPDX-License-Identifier: MIT
// Sandbox: a fresh directory and a fresh environment, in which the real program is run.
//
// Tests see only what a user sees: exit status, bytes, files. How often a command
// ran is counted by what it left behind. Nothing sleeps: commands are held on a
// Gate, and tell by another one that they have begun. A wait that would never end
// fails its test after a while; ctest's timeout stands behind it.
#pragma once

#include <coalesce/io/descriptor.h>

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../tested_program.h"

namespace coalesce {

/// How a program ended, and what it said.
struct Ended {
    int exit = -1;   ///< its exit status; -1 when a signal ended it
    int signal = 0;  ///< the signal that ended it
    std::string out;
    std::string err;
};

/// A named pipe that the test holds open, so that neither side waits to open it.
/// Held on one, a command says `read x <NAME`; to say it has begun, `echo x >NAME`.
class Gate {
  public:
    explicit Gate(std::string path);
    /// Lets `count` commands go that wait here, or will.
    void open(int count = 1);
    /// The next line that a command wrote here.
    std::string await();
    /// Whether a command has written here and nobody has read it.
    [[nodiscard]] bool written() const;
    /// Where it is, for a command line.
    [[nodiscard]] const std::string& path() const noexcept { return path_; }

  private:
    std::string path_;
    Descriptor both_ends_;
};

/// What to start, and with what around it.
struct How {
    std::vector<std::string> args;
    /// Fed to standard input, which then ends. Absent: the input stays open, see Running::send.
    std::optional<std::string> input;
    int stdin_fd = -1;  ///< instead of the pipe to the test; stays the test's
    int stdout_fd = -1;
    int stderr_fd = -1;
    std::vector<int> closed;         ///< of 0, 1 and 2
    std::vector<int> ignored;        ///< signals
    std::vector<std::string> env;    ///< "NAME=value" beside the sandbox's own
    std::function<void()> in_child;  ///< last thing before exec
    std::string program;             ///< empty: coalesce
};

/// A program that runs.
class Running {
  public:
    Running(pid_t pid, Descriptor in, Descriptor out, Descriptor err);
    Running(Running&& other) noexcept;
    ~Running();

    [[nodiscard]] pid_t pid() const noexcept { return pid_; }
    void send(std::string_view text);
    void end_input() { in_.reset(); }
    [[nodiscard]] int input_fd() const noexcept { return in_.get(); }
    /// Reads standard output up to the first `count` bytes or lines not read yet.
    std::string read_bytes(std::size_t count);
    std::string read_line();
    /// The same of standard error.
    std::string read_error_line();
    /// Waits until standard error holds `word`; returns all read so far.
    std::string read_error_until(std::string_view word);
    void stop_reading() { out_.reset(); }
    void signal(int number) const;
    /// Most memory resident at once so far. What wait4() tells counts the test's own
    /// memory as well, from before exec.
    [[nodiscard]] long peak_kib() const;
    /// Ends the input, and collects all that comes.
    Ended wait();

  private:
    std::string take_line(Descriptor& from, std::string& rest);

    pid_t pid_;
    Descriptor in_;
    Descriptor out_;
    Descriptor err_;
    std::string out_rest_;  // read, not handed out
    std::string err_rest_;
};

class Sandbox {
  public:
    Sandbox();
    ~Sandbox();
    Sandbox(const Sandbox&) = delete;
    Sandbox& operator=(const Sandbox&) = delete;

    [[nodiscard]] const std::string& directory() const noexcept { return directory_; }
    [[nodiscard]] std::string path(const std::string& name) const { return directory_ + "/" + name; }
    void write(const std::string& name, std::string_view text) const;
    /// An executable script; begins with "#!/bin/sh" unless it says otherwise.
    std::string script(const std::string& name, std::string_view text) const;
    [[nodiscard]] std::string read(const std::string& name) const;  ///< empty if there is none
    [[nodiscard]] bool exists(const std::string& name) const;
    /// Lines in a file that commands append to: how often something was run.
    [[nodiscard]] std::size_t lines(const std::string& name) const;
    [[nodiscard]] Gate gate(const std::string& name) const { return Gate(path(name)); }
    /// A file system of `kib` KiB at `name`; false where that is not permitted.
    bool mount_small_disk(const std::string& name, unsigned kib);

    /// A copy of the program that other users can reach, in a directory that they can write.
    [[nodiscard]] std::string program_for_all() const;

    Running start(How how) const;
    Ended run(How how) const { return start(std::move(how)).wait(); }
    /// The common case: options, and lines.
    Ended batch(std::vector<std::string> args, std::string input) const;

    std::vector<std::string> environment;  ///< may be changed

  private:
    std::string directory_;
    std::vector<std::string> mounted_;
};

/// `text` that many times.
std::string repeated(std::string_view text, std::size_t times);
/// Its lines in byte order: what does not depend on who was faster.
std::vector<std::string> sorted_lines(std::string_view text);
/// A descriptor to a new file, a terminal's two ends …
Descriptor open_file(const std::string& path, int flags);
struct Terminal {
    Descriptor master;
    Descriptor slave;
};
Terminal open_terminal(int columns);
/// All that a descriptor gives until its end, or `until` is seen.
std::string read_all(int fd, std::string_view until = {});
/// Asks again and again until it is so.
void wait_until(const std::function<bool()>& is_so);
/// Whether that process waits for something.
bool asleep(pid_t pid);
/// How many children it has.
std::size_t children_of(pid_t pid);
/// Whether it waits for something and has so many children then.
bool rests(pid_t pid, std::size_t children);
/// Whether that process is there (a zombie is not).
bool alive(pid_t pid);
/// Waits for its end.
void await_death(pid_t pid);

}  // namespace coalesce
