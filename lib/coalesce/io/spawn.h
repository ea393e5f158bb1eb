// SPDX-License-Identifier: MIT
// spawn: starts a program in a session and a process group of its own, which it leads both.
//
// But a program whose outputs are a terminal must not lead the session, or the terminal would become its
// controlling one as soon as somebody opened it by name: then a process between it and us makes
// the session, and is gone when it has executed. It is our child all the same.
//
// The child gets descriptors 0, 1 and 2 and no other, default signal handling,
// an empty signal mask, and is killed when this thread's process dies
// (PR_SET_PDEATHSIG; SPEC F13). Its parent is suspended until it has called
// exec, as with vfork: nothing of the parent's memory is copied, so the cost
// does not grow with it (uv_spawn of libuv 1.44 forks: 2 times slower at small
// size, 11 times at 200 MB). No shell stands in between, and a failure comes
// back with the errno of the step that failed. What an old kernel or a filter refuses
// (close_range, a pidfd) is had by other means, or the start is refused. A process that comes to ignore a
// real-time signal after it has started its first child leaves it ignored in later ones.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <coalesce/command/terminal_size.h>
#include <coalesce/io/descriptor.h>
#include <coalesce/io/guard.h>

namespace coalesce {

/// Called in the child, before it executes the program: on the parent's memory, so
/// it must neither allocate nor lock.
struct ChildHook {
    void (*call)(const void* argument) noexcept = nullptr;
    const void* argument = nullptr;
};

/// What the processes of a run are known by.
struct ProcessMark {
    ChildHook hook;                     ///< writes the first of them down
    const char* environment = nullptr;  ///< "NAME=value", which all of them have
};

/// What to start. The vectors and strings must outlive the call, no longer.
struct Program {
    const std::vector<std::string>& argv;
    const std::vector<std::string>& env;  ///< "NAME=value"; PATH in here finds argv[0]
    const char* path = nullptr;           ///< the file to execute; null: look argv[0] up as execvp does
    /// Whether Started::file is told. It costs two system calls, as what was looked for is then executed where it
    /// was found. Not together with a directory.
    bool looks = false;
    const char* directory = nullptr;  ///< null: this process's own
    mode_t umask = 022;
    std::optional<TerminalSize> terminal;  ///< its outputs are to be one; for who makes those, and then sets the next
    bool leads_session = true;             ///< false: who made its session is gone
    int standard_input = -1;
    int standard_output = -1;
    int standard_error = -1;
    ChildHook hook;
    ProcessMark mark;                   ///< beside the guard's
    Guard* guard = nullptr;             ///< whose mark goes into the environment
    std::uint32_t guard_deadline = 0;   ///< the number of the one that holds for it; 0: none
    Guard::Line* guard_line = nullptr;  ///< into which the child writes itself
};

/// How a start ended: a process, or the step that failed and why.
struct Started {
    pid_t pid = -1;
    /// Readable once the process has exited; close-on-exec. None where the kernel has none.
    Descriptor pidfd;
    std::optional<struct stat> file;  ///< what it executes, as it lay there before; a link to us: what that executes
    enum class Step { none, spawn, input, terminal, descriptors, directory, execute } failed = Step::none;
    int error = 0;  ///< errno of that step
};

[[nodiscard]] Started spawn(const Program& program);

}  // namespace coalesce
