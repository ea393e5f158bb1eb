// SPDX-License-Identifier: MIT
// Ledger: the accounts of a batch on disk: joblog, report and timeline page.
//
// Each request is written when it has ended, with one write. A file that cannot be
// opened, or that would destroy the input or another of them, is known before anything
// runs and before anything is overwritten; one that cannot be written later (full disk)
// is reported once, the batch goes on, and failed() tells.
#pragma once

#include <coalesce/command/result.h>
#include <coalesce/flight/unique_function.h>

#include <optional>
#include <string>

#include <coalesce/batch/account_file.h>
#include <coalesce/batch/record.h>
#include <coalesce/batch/timeline_html.h>

namespace coalesce {

class Ledger {
  public:
    struct Paths {
        std::string joblog;
        std::string report;
        std::string html;
        bool joblog_goes_on = false;  ///< behind what is in it
        int input_fd = -1;            ///< what the batch reads, which none of them may be
    };
    static Result<Ledger> open(const Paths& paths);

    /// Whether anything is kept: records need not be made otherwise.
    [[nodiscard]] bool wanted() const noexcept { return joblog_.file || report_.file || page_.has_value(); }
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
        AccountFile file;
        bool told = false;  // that it cannot be written
    };
    void check(bool& told, const Result<>& done);

    Account joblog_;
    Account report_;
    std::optional<TimelinePage> page_;
    bool page_told_ = false;
    bool failed_ = false;
    UniqueFunction<void(const std::string&)> on_complaint_;
};

}  // namespace coalesce
