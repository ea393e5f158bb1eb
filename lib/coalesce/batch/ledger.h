// SPDX-License-Identifier: MIT
// Ledger: the accounts of a batch on disk: joblog, report and timeline page.
//
// Each request is written when it has ended, with one write, so that what has
// finished survives whatever comes. A file that cannot be opened is known before
// anything runs; one that cannot be written later (full disk) is reported once,
// the batch goes on, and failed() tells. A disk may get room again: a line that was
// cut is ended before the next.
#pragma once

#include <coalesce/command/result.h>
#include <coalesce/flight/unique_function.h>

#include <optional>
#include <string>

#include <coalesce/io/descriptor.h>
#include <coalesce/batch/record.h>
#include <coalesce/batch/timeline_html.h>

namespace coalesce {

class Ledger {
  public:
    struct Paths {
        std::string joblog;
        std::string report;
        std::string html;
    };
    static Result<Ledger> open(const Paths& paths);

    /// Whether anything is kept: records need not be made otherwise.
    [[nodiscard]] bool wanted() const noexcept { return joblog_.file || report_.file || page_; }
    [[nodiscard]] bool wants_key() const noexcept { return static_cast<bool>(report_.file); }
    /// Where complaints go instead of plainly to stderr, without prefix and newline.
    void on_complaint(UniqueFunction<void(const std::string&)> on_complaint) {
        on_complaint_ = std::move(on_complaint);
    }

    /// Writes one request down. `key` is its hash, for the report.
    void add(const RequestRecord& record, const std::string& key);
    void finish(const BatchSummary& summary);
    [[nodiscard]] bool failed() const noexcept { return failed_; }

  private:
    struct Account {
        Descriptor file;
        std::string path;
        bool cut = false;   // its last line found no room for its end
        bool told = false;  // that it cannot be written
    };
    void write(Account& account, std::string line);
    void check_page(const Result<>& done);
    void complain(bool& told, const Error& error);

    Account joblog_;
    Account report_;
    std::optional<TimelinePage> page_;
    bool page_told_ = false;
    bool failed_ = false;
    UniqueFunction<void(const std::string&)> on_complaint_;
};

}  // namespace coalesce
