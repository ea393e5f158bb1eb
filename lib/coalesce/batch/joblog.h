// SPDX-License-Identifier: MIT
// Joblog: GNU parallel's account of jobs, a row each, written and read (SPEC B5).
//
// Nine columns between tabs. The command is told by its title, so that none breaks its
// row or steers the terminal that shows it. A run that we ended ourselves, because of a
// signal or --halt, has the exit value -1: it has not said how it would have ended, and
// --resume runs it again.
#pragma once

#include <coalesce/command/result.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <coalesce/batch/record.h>

namespace coalesce {

inline constexpr std::string_view joblog_head =
    "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n";

/// The row, with its newline.
[[nodiscard]] std::string joblog_row(const RequestRecord& record);

/// What an earlier batch with the same input has done, by its joblog, or GNU parallel's.
class EarlierJobs {
  public:
    enum class Skip { done, succeeded };  ///< --resume; --resume-failed

    /// Reads a joblog. One that is not there, or empty, has nothing; what is no joblog
    /// is an error that names the line.
    static Result<EarlierJobs> read(const std::string& path, Skip skip);

    enum class Verdict { to_run, to_skip, another_command };
    /// What becomes of the command with this number in the input.
    [[nodiscard]] Verdict look_up(std::uint64_t sequence, std::string_view command) const;
    /// The command that the joblog has with that number.
    [[nodiscard]] std::string command_of(std::uint64_t sequence) const;

  private:
    // A row is remembered by a hash of its command, and where it stands: an account of a
    // million jobs may be a hundred megabytes.
    struct Row {
        std::uint64_t sequence;
        std::uint64_t command;
        std::uint64_t at;
        bool skip;
    };
    std::vector<Row> rows_;  // by sequence
    std::string path_;
};

}  // namespace coalesce
