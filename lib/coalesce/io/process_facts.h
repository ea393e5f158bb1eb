// SPDX-License-Identifier: MIT
// Process facts: what /proc tells of one process, and of the sessions above it.
//
// Every command has a session of its own, so whatever it starts can be told by that,
// whatever environment it has. The walk upwards takes one step a session rather than one a
// process: most of the processes between a terminal and a command are in one session, and
// each step reads a file. It ends where a parent is gone, is not ours to see, or is another
// pid namespace's; nobody is found on it who is not there.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace coalesce {

struct ProcessFacts {
    pid_t pid = 0;
    std::string name;  ///< as in /proc/PID/comm
    char state = 0;
    pid_t parent = 0;
    pid_t session = 0;
    long long started_ms = 0;  ///< since boot, as this process sees it

    static std::optional<ProcessFacts> of(pid_t pid);
    /// A zombie runs nothing; where no init reaps, it stays for ever.
    [[nodiscard]] bool alive() const noexcept { return state != 'Z' && state != 'X'; }
};

/// The name of this boot of the machine, as the kernel writes it; empty: it is not told. Read once.
[[nodiscard]] const std::string& boot_id();

/// The leaders of the sessions that `process` runs in, that of its own first. Where one has gone (a command on
/// a terminal of ours never had another, see spawn.h), whoever has a parent outside of the session stands for it.
[[nodiscard]] std::vector<ProcessFacts> session_leaders_above(pid_t process);

/// The entries of a process's environment as it was at its start; none where they are not ours to see.
[[nodiscard]] std::vector<std::string> environment_of(pid_t pid);

/// Whether a process group is one of zombies, as far as /proc shows its members; to a signal it is there all the same.
[[nodiscard]] bool has_only_zombies(pid_t group);

/// KILL to every process of which `is_one` is true. Each is looked at again through its
/// pidfd, where there are pidfds, so that between the look and the signal its number
/// cannot have passed on. Whether any was told; what we may not signal was not. Waits for nothing.
bool kill_each(const std::function<bool(pid_t)>& is_one);

}  // namespace coalesce
