// SPDX-License-Identifier: MIT
// Batch: commands from a stream of lines, each distinct one run once at a time (SPEC B).
//
// Every line is a requester. It joins the flight of an equal line that is queued
// or running, or leads its own; its result is delivered whole, and told to the
// joblog, the report and the timeline. Reading ahead finds duplicates to join and
// is bounded, so memory does not grow with the input.
#pragma once

#include <coalesce/command/key.h>
#include <coalesce/command/result.h>
#include <coalesce/command/wish.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <coalesce/batch/halt.h>
#include <coalesce/batch/joblog.h>
#include <coalesce/cluster/cluster.h>
#include <coalesce/engine/command_executor.h>
#include <coalesce/kept/refreshes.h>
#include <coalesce/kept/store_place.h>
#include <coalesce/protocol/rendering.h>

namespace coalesce {

struct BatchOptions;

/// What holds for one command instead of the batch's own options, as the user's rules say (SPEC Y3): key rules, time
/// limit, grace and wish of these. Null: the batch's own. The command is a line or else argv; `directory` is the one it
/// names, if any. Its answers outlive the batch.
using OptionsFor = std::function<const BatchOptions*(const std::string* line, const std::vector<std::string>& argv,
                                                     const std::string* directory)>;

// NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): in the order of what they mean; there is one
struct BatchOptions {
    enum class Input { lines, json };

    Input input = Input::lines;
    char delimiter = '\n';
    int input_fd = 0;
    std::string input_name = "standard input";
    Format format = Format::text;
    bool keep_order = false;
    bool unique = false;   ///< print a shared result once
    bool once = false;     ///< each distinct line once for the whole input
    bool dry_run = false;  ///< list the distinct commands and their counts
    bool verbose = false;
    std::optional<bool> progress;             ///< unset: when stderr is a terminal and the output goes elsewhere
    Wish wish;                                ///< of what is kept, where a request has none of its own
    std::string cache_directory;              ///< that the user named
    StoreBounds cache_bounds;                 ///< that the user configured
    OptionsFor options_for;                   ///< unset: its own for all commands
    MakeRefreshProgram make_refresh_program;  ///< how a stale result is refreshed
    CommandExecutor::Options executor;
    KeyRules rules;
    std::shared_ptr<const Circle> circle;  ///< of machines that share; null: with nobody
    std::optional<std::chrono::milliseconds> timeout;
    std::chrono::milliseconds grace{10'000};
    unsigned retries = 0;
    std::optional<TerminalSize> terminal;  ///< of every command
    std::optional<RunClass> run_class;     ///< in which every command waits for its turn
    std::optional<HaltRule> halt;
    std::string joblog;
    bool joblog_goes_on = false;              ///< behind what is in it
    std::optional<EarlierJobs::Skip> resume;  ///< skip what the joblog has
    std::string report;
    std::string html;
    bool remembers = true;          ///< how long runs took, and tells it (SPEC H)
    std::size_t read_ahead = 4096;  ///< distinct commands read before their turn
};

/// What became of a batch: the exit status, or the signal to die of as others do
/// (SIGPIPE: the reader went away).
struct BatchEnd {
    int status = 0;
    int die_of = 0;
};

/// Runs a batch to its end. An Error is something that kept it from starting.
Result<BatchEnd> run_batch(BatchOptions options);

}  // namespace coalesce
