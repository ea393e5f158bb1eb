// SPDX-License-Identifier: MIT
// CommandRunner: commands of this process, shared by the rules of `coalesce run`.
//
//     CommandRunner runner(loop);
//     RunTicket ticket = runner.run({"make", "docs"});
//
// It makes the keys: equal arguments, directory, environment, umask and identity are one run
// (SPEC K1), and KeyRules say what the options of coalesce(1) say. The surroundings are those
// that this process has when the runner is made. All else is CommandExecutor's.
#pragma once

#include <coalesce/command/command.h>
#include <coalesce/command/key.h>

#include <memory>
#include <string>
#include <vector>

#include <coalesce/engine/command_executor.h>
#include <coalesce/io/stream.h>

namespace coalesce {

class CommandRunner {
  public:
    /// As many runs at a time as there are processors, unless `options` say otherwise. The loop must outlive
    /// it, and it the tickets. Throws std::system_error where this process cannot tell its own directory.
    explicit CommandRunner(Loop& loop, KeyRules rules = {});
    CommandRunner(Loop& loop, KeyRules rules, CommandExecutor::Options options);

    /// Joins the run of this command that is under way, or starts it.
    [[nodiscard]] RunTicket run(std::vector<std::string> argv, JoinOptions options = {});
    /// The same of a line for the shell.
    [[nodiscard]] RunTicket run_line(std::string line, JoinOptions options = {});

    /// To cancel, to count, to hear of starts.
    [[nodiscard]] CommandExecutor& executor() noexcept { return executor_; }

  private:
    RunTicket submit(Job job, JoinOptions options);

    const KeyRules rules_;
    const std::shared_ptr<const Surroundings> surroundings_;
    const std::shared_ptr<const CanonicalSurroundings> canonical_;
    CommandExecutor executor_;
};

/// What a result has recorded of one stream, all of it in memory; empty where the run never started, or where
/// its beginning is not kept any more. Throws std::system_error where the file in which it lies cannot be read.
[[nodiscard]] std::string output_of(const RunResult& result, Stream stream);

}  // namespace coalesce
