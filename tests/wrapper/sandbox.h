// SPDX-License-Identifier: MIT
// Sandbox: a fresh directory, meeting place and environment for one test of the
// real binary, and the promise that nothing is left behind.
//
// The test process adopts the orphans of what it starts (supervisors, and what their
// commands leave), so its destructor can wait for the end of every process instead
// of looking for them: a test that leaves one runs into ctest's TIMEOUT. A report of
// a sanitizer, which a supervisor could print nowhere, is a failure. Nothing here
// sleeps: commands are held on a Gate, which is a FIFO.
#pragma once

#include <sys/types.h>
#include <unistd.h>

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "../tested_program.h"

/// The two ends of a pipe, each closed once.
struct Ends {
    int reader = -1;
    int writer = -1;
    Ends() = default;
    ~Ends() {
        close_reader();
        close_writer();
    }
    Ends(const Ends&) = delete;
    Ends& operator=(const Ends&) = delete;
    void close_reader() {
        if (reader >= 0) ::close(reader), reader = -1;
    }
    void close_writer() {
        if (writer >= 0) ::close(writer), writer = -1;
    }
};

/// How a process ended: as a shell would put it in $?, with what it wrote.
struct Ended {
    int status = -1;  ///< 128+N when it died of signal N
    int signal = 0;   ///< which it died of itself
    std::string out;
    std::string err;
};

class Process {
  public:
    Process(pid_t pid, std::string out, std::string err) : pid_(pid), out_(std::move(out)), err_(std::move(err)) {}
    [[nodiscard]] pid_t pid() const { return pid_; }
    void kill(int number) const;
    /// Waits for its end.
    Ended wait();
    /// What it has written so far.
    [[nodiscard]] std::string out() const;
    [[nodiscard]] std::string err() const;

  private:
    pid_t pid_;
    std::string out_;  // files
    std::string err_;
};

struct Flight {
    std::string id, state;
    pid_t pid = 0;
    pid_t supervisor = 0;
    int requesters = 0;
    long long output = 0;
};

class Sandbox {
  public:
    Sandbox();
    ~Sandbox();
    Sandbox(const Sandbox&) = delete;
    Sandbox& operator=(const Sandbox&) = delete;

    struct Setting {
        std::vector<std::string> env;         ///< added, NAME=value
        std::string directory = {};           ///< below the sandbox
        std::string standard_input = {};      ///< a file
        int standard_output = -1;             ///< a descriptor, in place of a file
        std::function<void()> in_child = {};  ///< before exec
    };
    Process start(const std::vector<std::string>& argv, const Setting& setting);
    Process start(const std::vector<std::string>& argv) { return start(argv, {}); }
    /// coalesce run WORDS…
    Process request(std::vector<std::string> words, const Setting& setting);
    Process request(std::vector<std::string> words) { return request(std::move(words), {}); }
    /// A script of sh, in which $C is the program.
    Ended script(const std::string& text) { return start({"/bin/sh", "-c", text}).wait(); }
    Ended run(std::vector<std::string> words) { return request(std::move(words)).wait(); }
    Ended run(std::vector<std::string> words, const Setting& setting) {
        return request(std::move(words), setting).wait();
    }
    Ended coalesce(std::vector<std::string> words);

    /// What `coalesce status --json` says.
    std::vector<Flight> flights();
    /// Looks at the flights until `wanted` is true of them.
    std::vector<Flight> until(const std::function<bool(const std::vector<Flight>&)>& wanted);
    /// Waits until the one flight has this many requesters.
    Flight until_requesters(int count);

    [[nodiscard]] std::string path(std::string_view name) const { return directory_ + "/" + std::string(name); }
    [[nodiscard]] std::string place() const { return path("runtime/coalesce"); }
    [[nodiscard]] std::string read(std::string_view name) const;
    [[nodiscard]] int lines_of(std::string_view name) const;
    void write(std::string_view name, std::string_view text) const;
    /// Whether file systems can be mounted, in a namespace of one's own.
    [[nodiscard]] bool may_mount() { return script("unshare -m mount -t tmpfs none /mnt").status == 0; }
    /// Lets the user nobody make its meeting place here; gives a copy of the program that it can run.
    [[nodiscard]] std::string open_to_nobody() const;
    /// Names in the meeting place, but for the sum of what was saved: that may stay, as
    /// one small file (checked here).
    [[nodiscard]] std::vector<std::string> left_in_place() const;
    /// Waits until no process that was started here is left.
    void wait_for_all();

    std::map<std::string, std::string> env;

  private:
    std::string directory_;
    int started_ = 0;
};

/// A FIFO that holds a command: `cat NAME` in it waits until the gate is opened. For
/// one run: a second one could be let in by the writer that the first still sees.
class Gate {
  public:
    Gate(Sandbox& sandbox, const std::string& name);
    ~Gate() { open(); }
    Gate(const Gate&) = delete;
    Gate& operator=(const Gate&) = delete;
    /// Waits until a command is held.
    void wait_for_command();
    /// Lets it go.
    void open();

  private:
    std::string path_;
    int fd_ = -1;
};

/// For tests that run as root: a user that is bound by limits and modes.
inline constexpr uid_t nobody = 65534;
/// In a child, before exec.
void become_nobody();
[[nodiscard]] std::string read_file(const std::string& path);
/// Returns when that process is stopped.
void until_stopped(pid_t pid);
/// Returns when that process waits for something, or has ended.
void until_waits(pid_t pid);
/// Returns when that child, or orphan, has died, and leaves the zombie.
void until_dead(pid_t pid);
