// Ledger: the accounts of a batch on disk: joblog, report and timeline page.
//
// Each request is written when it has ended, with one write, so that what has
// finished survives whatever comes. A file that cannot be opened is known before
// anything runs; one that cannot be written later (full disk) is reported once,
// the batch goes on, and failed() tells.
#pragma once

#include <coalesce/command/result.h>

#include <optional>
#include <string>

#include <coalesce/io/descriptor.h>
#include <coalesce/service/record.h>
#include <coalesce/service/timeline_html.h>

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
    [[nodiscard]] bool wanted() const noexcept { return joblog_ || report_ || page_; }
    [[nodiscard]] bool wants_key() const noexcept { return static_cast<bool>(report_); }

    /// Writes one request down. `key` is its hash, for the report.
    void add(const RequestRecord& record, const std::string& key);
    void finish(const BatchSummary& summary);
    [[nodiscard]] bool failed() const noexcept { return failed_; }

  private:
    void write(Descriptor& file, const std::string& path, const std::string& line);
    void complain(const Error& error);

    Paths paths_;
    Descriptor joblog_;
    Descriptor report_;
    std::optional<TimelinePage> page_;
    bool failed_ = false;
};

}  // namespace coalesce
