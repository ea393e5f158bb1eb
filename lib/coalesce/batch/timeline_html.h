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
#include <string_view>

#include <coalesce/command/result.h>
#include <coalesce/batch/record.h>

namespace coalesce {

class TimelinePage {
  public:
    /// Opens the file, empties it and writes the page's head, so that a bad path
    /// is known before anything runs.
    static Result<TimelinePage> create(const std::string& path);

    TimelinePage(TimelinePage&& other) noexcept;
    TimelinePage& operator=(TimelinePage&& other) noexcept;
    ~TimelinePage();

    /// Appends one line. After an error the page is still sound and later
    /// records are still taken: a disk may get room again.
    Result<> add(const RequestRecord& record);

    /// Writes the sums and ends the page; nothing can be added after it.
    Result<> finish(const BatchSummary& summary);

  private:
    TimelinePage(int file, std::string path);
    Result<> append(std::string_view text);
    Result<> write(std::string_view text);
    void close() noexcept;

    int file_ = -1;
    std::string path_;
    std::string line_;            // reused by every record
    bool line_is_cut_ = false;    // the last write stopped halfway
    std::uint64_t last_run_ = 0;  // whoever shared it says its command no second time
    std::string last_command_;
};

}  // namespace coalesce
