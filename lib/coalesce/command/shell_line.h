// SPDX-License-Identifier: MIT
// Shell line: does this line need a shell, or can it be executed directly?
//
// B1 lets a line that has no shell syntax skip the shell, at half the cost, if
// nobody can tell: same exit status, same bytes. Everything here answers
// "certainly the same" or "ask the shell"; doubt is never an error. The line is
// read by a tokenizer that knows the few bytes that are never special, not by a
// search for bytes that are. What a shell does to the environment of its
// children is done here too, as dash 0.5.12 does it (measured, see
// env_as_shell_would), because a program can print its environment.
//
// A caller goes direct when, in this order: shell_is_understood(shell) and
// !shell_may_interfere(env), both once; plain_words(line); find_program for a
// first word without a slash; env_as_shell_would, once; and the exec succeeds
// (if it fails, with ENOEXEC or otherwise, the shell runs the line and says so
// in its own words). argv[0] stays the word as written. A program that a signal
// kills is reported through end_as_shell_would: dash stays its parent, writes
// "Terminated" or the like to stderr and exits with 128+N.
//
// What cannot be made the same: executed directly the program itself leads its session
// and has another parent. Programs known to act on that go to the shell; one that calls
// setpgid() on itself is told EPERM, and one that kills its own group kills no shell.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <coalesce/command/command.h>
#include <coalesce/command/outcome.h>

namespace coalesce {

/// The argv with which this shell runs the line, and by which requests for it are known as the same. A line that the
/// shell would take as its own options stands behind a "--".
[[nodiscard]] std::vector<std::string> argv_of_line(std::string_view shell, std::string_view line);
[[nodiscard]] bool reads_as_options(std::string_view line);

/// The argv, if and only if `sh -c LINE` would certainly do nothing but execute exactly it.
[[nodiscard]] std::optional<std::vector<std::string>> plain_words(std::string_view line);

/// Is this shell one whose treatment of the environment is known here? True for
/// dash under any name (/bin/sh on Debian), found by following symbolic links.
[[nodiscard]] bool shell_is_understood(const std::string& shell);

/// Would a shell started in this environment do more than run the line? True
/// when PATH is missing or has an element that is empty, relative or holds '%',
/// when a variable steers a shell (SHELLOPTS, BASH_ENV …), or when the shell
/// changes a variable in a way that cannot be reproduced (PPID, OPTIND …).
[[nodiscard]] bool shell_may_interfere(const std::vector<std::string>& env);

/// Where the shell would find this slashless word: the first regular file on
/// `path` that this process may execute. Nothing when there is none, and when a
/// candidate before it is there but is no executable regular file: then the
/// shell must speak for itself.
[[nodiscard]] std::optional<std::string> find_program(std::string_view word, std::string_view path);

/// The environment that a child of the shell would see, in the shell's order.
/// Names that are no shell names are dropped, of duplicates the last stands,
/// PWD is there and names the directory. Nothing when it cannot be told (the
/// directory has no name); then ask the shell.
[[nodiscard]] std::optional<std::vector<std::string>> env_as_shell_would(const Surroundings& surroundings);

/// How a run ends when the shell is the program's parent.
struct ShellEnd {
    Outcome outcome;
    std::string notice;  ///< what the shell adds to stderr, after all that the program wrote
};

/// What the shell makes of its program's end: death by a signal becomes exit 128+N and
/// a notice on stderr (none for INT and PIPE). Every other outcome stays as it is.
[[nodiscard]] ShellEnd end_as_shell_would(const Outcome& program);

}  // namespace coalesce
