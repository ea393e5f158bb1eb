// SPDX-License-Identifier: MIT
// FlightRecord: which process a flight runs, so that it can be told from any other (SPEC F13).
//
// A number alone names nobody: it is given to somebody else after its process has gone,
// after a restart, and in every pid namespace anew. So beside it stand the boot's id,
// the pid namespace, and a time since boot at which the number was our process's: a
// process that began later is another. It is kept as the text of a symbolic link, which is
// made in one call and is there whole or not at all; a file takes three, and a socket's
// own times, where it stood before, are what cleaners of old files go by.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>

#include <coalesce/io/process_facts.h>

namespace coalesce {

/// What a process's numbers mean: those of two processes can be compared where these are equal.
class Numbering {
  public:
    /// This process's; nothing where there is no /proc to tell it.
    static std::optional<Numbering> own();
    /// The same of the processes that this one forks. To look at it here is cheaper: what /proc has of a process is
    /// made when it is first asked for.
    static std::optional<Numbering> of_children();

    [[nodiscard]] const std::string& text() const noexcept { return text_; }
    /// Milliseconds that the process's clocks and /proc show above those of the machine
    /// (a time namespace's).
    [[nodiscard]] long long ahead_ms() const noexcept { return ahead_ms_; }
    /// /proc shows the numbers of this process's own namespace.
    [[nodiscard]] static bool shown_by_proc() noexcept;

  private:
    static std::optional<Numbering> told_by(const char* pid_space, const char* time_space);

    std::string text_;  // the boot's id and the namespace's inode
    long long ahead_ms_ = 0;
};

/// Writes records for one flight, from a child between fork and exec: allocates nothing.
class FlightRecorder {
  public:
    /// In `directory`, under `name`. Where the numbering of this process, whose child it is, is not known nothing is
    /// recorded: nobody could make use of it.
    FlightRecorder(int directory, std::string name, std::optional<Numbering> numbering);
    /// Records the calling process, in place of whatever was recorded there.
    void record_this_process() const noexcept;

  private:
    int directory_;
    std::string name_;
    std::optional<Numbering> numbering_;
};

struct FlightRecord {
    pid_t pid = 0;
    pid_t session = 0;  ///< the same, unless another has made it
    std::string numbering;
    long long at_ms = 0;  ///< of the machine's clock since boot: by then `pid` was the flight's

    /// What stands in `directory` under `name`; nothing where that is no record.
    static std::optional<FlightRecord> read(int directory, const char* name);
};

/// Whether the process with these facts is the recorded one, alive or not, given that it
/// has its number, in this process's numbering.
[[nodiscard]] bool is_recorded(const FlightRecord& record, const ProcessFacts& facts, const Numbering& own) noexcept;

}  // namespace coalesce
