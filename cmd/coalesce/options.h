// SPDX-License-Identifier: MIT
// Every subcommand's options: what they put where. Their words are in the definitions
// (options.cpp), and only the subcommand that was named has one built.
#pragma once

#include <coalesce/batch/batch.h>
#include <coalesce/kept/tree_state.h>
#include <coalesce/meeting/requester.h>
#include <coalesce/serve/server.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "command_line.h"
#include "obeyed_rules.h"
#include "own_terminal.h"

namespace coalesce {

/// With whom a command shares beyond this machine.
struct TypedSharing {
    std::string url;  ///< of --cluster
    std::string scope;
    bool off = false;
    bool ignore_platform = false;
};

/// What was typed after `run` or `key`, before it is a command with a key.
struct TypedCommand {
    RunOptions run;
    std::optional<std::string> line;  ///< of -c
    bool standard_input = false;
    TypedTerminal terminal;
    Wish wish;
    std::string cache_directory;  ///< empty: the user's own
    TypedSharing sharing;
    std::vector<Dependency> dependencies;
    std::string depends_from;  ///< path of a list; "-" is standard input
    std::vector<std::string> words;
    ObeyedRules ruled;  ///< what the user's rules have added
};

/// What was typed after `rules`.
struct TypedRules {
    std::optional<std::string> line;  ///< of -c
    std::vector<std::string> words;
    ObeyedRules ruled;
};

/// What was typed after `cache`.
struct TypedCache {
    std::string operation;  ///< empty: none was named
    TypedCommand command;   ///< its words are ids, too
    bool json = false;
    bool output = false;
    std::optional<std::uint64_t> max_size;  ///< unset: as it is
    std::optional<std::uint64_t> max_entry;
    std::optional<std::uint64_t> max_results;
};

struct TypedBatch {
    BatchOptions options;
    std::string input = "-";  ///< path
    std::string format = "text";
    TypedSharing sharing;
    bool tag = false;
    TypedTerminal terminal;
    ObeyedRules ruled;
};

/// What was typed after `status`, `cancel` or `stats`.
struct TypedQuestion {
    std::string socket;
    std::string engine;  ///< of --cluster
    std::string place;
    std::string cache_directory;  ///< of stats; empty: the user's own
    bool json = false;
    bool watch = false;
    bool openmetrics = false;
    ObeyedRules ruled;
    std::vector<std::string> ids;
};

struct TypedServe {
    ServerOptions options;
    TypedSharing sharing;
    std::string place;
    ObeyedRules ruled;
};

/// What was typed after `cluster`.
struct TypedCluster {
    std::string operation;
    std::string url;
};

/// Each reads the options of a subcommand; argv[0] is its name. Returns an exit status
/// when that is the end of it: --help was given, or a mistake that has been explained. What the
/// user's rules say of the command is obeyed then.
[[nodiscard]] std::optional<int> read_run(int argc, char** argv, TypedCommand& typed);
[[nodiscard]] std::optional<int> read_batch(int argc, char** argv, TypedBatch& typed);
[[nodiscard]] std::optional<int> read_key(int argc, char** argv, TypedCommand& typed);
[[nodiscard]] std::optional<int> read_status(int argc, char** argv, TypedQuestion& typed);
[[nodiscard]] std::optional<int> read_cancel(int argc, char** argv, TypedQuestion& typed);
[[nodiscard]] std::optional<int> read_stats(int argc, char** argv, TypedQuestion& typed);
[[nodiscard]] std::optional<int> read_cache(int argc, char** argv, TypedCache& typed);
[[nodiscard]] std::optional<int> read_cluster(int argc, char** argv, TypedCluster& typed);
[[nodiscard]] std::optional<int> read_rules_question(int argc, char** argv, TypedRules& typed);
[[nodiscard]] std::optional<int> read_serve(int argc, char** argv, TypedServe& typed);

/// The same command line once more, with what rules say of some of its commands. What a batch cannot do for a single
/// command (files that it depends on, and so what is kept) is left out, and said to `on_left_out`.
[[nodiscard]] Result<> read_batch_with(const std::vector<const CommandRule*>& rules, int argc, char** argv,
                                       TypedBatch& typed, const std::function<void(const std::string&)>& on_left_out);

/// The words of all subcommands, in the order in which they are told.
[[nodiscard]] std::vector<CommandText> command_texts();

}  // namespace coalesce
