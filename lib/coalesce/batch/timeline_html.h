// SPDX-License-Identifier: MIT
// TimelinePage: a batch as one HTML page that is written while the batch runs.
//
// The page opens from disk with no network, whatever the commands in it hold.
// It is written as records come and never kept: memory stays flat for a million
// requests, and what has ended is in the file when add() returns, so that a page
// whose batch was killed still shows it. A template filled in at the end would
// have been shorter and would have promised neither. What the page looks like is
// timeline_page.html's; this writes its records.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include <coalesce/command/result.h>
#include <coalesce/batch/account_file.h>
#include <coalesce/batch/record.h>

namespace coalesce {

class TimelinePage {
  public:
    /// Empties the file and writes the page's head, so that one that cannot be written is
    /// known before anything runs.
    static Result<TimelinePage> begin(AccountFile file);

    /// Appends one line. After an error the page is still sound and later
    /// records are still taken: a disk may get room again.
    Result<> add(const RequestRecord& record);

    /// Writes the sums and ends the page; nothing can be added after it.
    Result<> finish(const BatchSummary& summary);

  private:
    explicit TimelinePage(AccountFile file) : file_(std::move(file)) {}

    AccountFile file_;
    std::uint64_t last_run_ = 0;  // whoever shared it says its command no second time
    std::string last_command_;
};

}  // namespace coalesce
