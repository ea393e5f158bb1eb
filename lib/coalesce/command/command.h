// SPDX-License-Identifier: MIT
// Command: what is to be run, with everything a child inherits besides its argv.
//
// It is a value: it owns its bytes, knows no process, and says nothing about
// when or how it runs. Many commands (each line of a batch) share one
// Surroundings, so a million lines carry one environment. What makes two
// commands the same is key.h's business.
#pragma once

#include <sys/types.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <coalesce/command/identity.h>
#include <coalesce/command/result.h>
#include <coalesce/command/terminal_size.h>

namespace coalesce {

/// What a child inherits besides its argv.
struct Surroundings {
    std::string cwd;               ///< absolute and physical: what getcwd() says, not $PWD; see own_surroundings()
    std::vector<std::string> env;  ///< "NAME=value", in the order given, duplicates and all
    mode_t umask = 022;
    std::optional<DirectoryIdentity> directory = {};  ///< what cwd leads to
    std::string identity = {};  ///< of the process that will run commands: own_identity(), where a key is made
    std::optional<TerminalSize> terminal = {};  ///< its outputs are one; nothing: they are pipes

    bool operator==(const Surroundings&) const = default;
};

/// One command. `stdin_bytes` absent means /dev/null; so does what a user gives as no bytes,
/// and it is for who makes a Command to say so: zero bytes here are a file of no length.
struct Command {
    std::vector<std::string> argv;
    std::shared_ptr<const Surroundings> surroundings;
    std::optional<std::string> stdin_bytes;
};

/// This process's own directory, environment and umask, without its identity, which takes
/// longer than all of them. A directory that has no path, as one that was deleted, is named
/// as the kernel shows it, which leads nowhere. Unless the umask is known it is read by setting
/// it and setting it back: then call this before there are threads.
[[nodiscard]] Result<Surroundings> own_surroundings(std::optional<mode_t> known_umask = {});

/// Its outputs are to be a terminal of that size, and its environment says so.
void give_terminal(Surroundings& surroundings, TerminalSize size);

/// argv as one line for logs and status that can be pasted into a shell: words
/// are quoted where needed, control characters and bytes that are not UTF-8
/// escaped in $'…' style. It never contains a newline or an escape sequence.
[[nodiscard]] std::string display(const std::vector<std::string>& argv);

/// One word, quoted the same way (as an argument, not as a command's name).
[[nodiscard]] std::string display_word(std::string_view word);

/// The name of an environment entry: what stands before its first '='.
/// An entry without '=' is all name.
[[nodiscard]] std::string_view env_name(std::string_view entry);

/// The value of the first entry of that name, as getenv() finds it.
[[nodiscard]] std::optional<std::string_view> env_value(const std::vector<std::string>& env, std::string_view name);

/// Replaces every entry of that name by one, in the place of the first, or adds it.
void set_env(std::vector<std::string>& env, std::string_view name, std::string_view value);

}  // namespace coalesce
