// SPDX-License-Identifier: MIT
#include <coalesce/batch/ledger.h>

#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <tuple>
#include <utility>
#include <vector>

#include <coalesce/batch/joblog.h>
#include <coalesce/protocol/answer.h>
#include <coalesce/protocol/message.h>

namespace coalesce {
namespace {

using std::chrono::nanoseconds;

// Whether what is read would be changed by what is written: the lines that come out would
// be commands (SPEC B5). Only regular files are looked at: whoever writes to the pipe
// or terminal that they read from has a reason.
Result<> check_apart(const std::vector<std::pair<const char*, const AccountFile*>>& accounts, int input) {
    struct stat read {};
    struct stat written {};
    const bool from_file = ::fstat(input, &read) == 0 && S_ISREG(read.st_mode);
    for (const int stream : {STDOUT_FILENO, STDERR_FILENO})
        if (from_file && ::fstat(stream, &written) == 0 && read.st_dev == written.st_dev &&
            read.st_ino == written.st_ino)
            return Error{{},
                         std::string("write to the input: it is also ") +
                             (stream == STDOUT_FILENO ? "standard output" : "standard error")};
    for (auto one = accounts.begin(); one != accounts.end(); ++one) {
        const auto refusal = [&](const std::string& other) {
            return Error{{},
                         std::string("write ") + one->first + " to " + one->second->path() + ": it is also " + other};
        };
        for (auto other = accounts.begin(); other != one; ++other)
            if (one->second->is_file_of(other->second->fd())) return refusal(other->first);
        if (one->second->is_file_of(input)) return refusal("the input");
        if (one->second->is_file_of(STDOUT_FILENO)) return refusal("standard output");
        if (one->second->is_file_of(STDERR_FILENO)) return refusal("standard error");
    }
    return {};
}

std::string report_line(const RequestRecord& record, const std::string& key) {
    const Outcome& outcome = record.outcome;
    Message line;
    line.number("sequence", static_cast<std::int64_t>(record.sequence))
        .number("run", static_cast<std::int64_t>(record.run))
        .text("key", key);
    if (!record.id.empty()) line.raw("id", record.id);
    line.text("command", record.command);
    if (outcome.kind == Outcome::Kind::signalled)
        line.number("signal", outcome.code);
    else
        line.number("exit", outcome.status());
    if (!outcome.success()) line.text("end", outcome.describe());
    if (record.kept) line.raw("kept", kept_facts(*record.kept).object());
    return line.flag("joined", record.joined)
        .number("requesters", static_cast<std::int64_t>(record.requesters))
        .number("attempts", record.attempts)
        .seconds("requested", record.requested.time_since_epoch())
        .seconds("started", record.started.time_since_epoch())
        .seconds("waited", record.waited)
        .seconds("run_time", record.run_time)
        .number("stdout_bytes", static_cast<std::int64_t>(record.stdout_bytes))
        .number("stderr_bytes", static_cast<std::int64_t>(record.stderr_bytes))
        .line();
}

}  // namespace

Result<Ledger> Ledger::open(const Paths& paths) {
    Ledger ledger;
    AccountFile page;
    std::vector<std::pair<const char*, const AccountFile*>> accounts;
    for (const auto& [option, path, file] : {std::tuple{"--joblog", &paths.joblog, &ledger.joblog_.file},
                                             {"--report", &paths.report, &ledger.report_.file},
                                             {"--html", &paths.html, &page}}) {
        if (path->empty()) continue;
        auto opened = AccountFile::open(*path);
        if (!opened) return opened.error();
        *file = std::move(*opened);
        accounts.emplace_back(option, file);
    }
    if (auto apart = check_apart(accounts, paths.input_fd); !apart) return apart.error();
    using Begin = AccountFile::Begin;
    if (ledger.joblog_.file) {
        auto begun = ledger.joblog_.file.begin(paths.joblog_goes_on ? Begin::behind : Begin::anew, joblog_head);
        if (!begun) return begun.error();
    }
    if (ledger.report_.file)
        if (auto begun = ledger.report_.file.begin(Begin::anew, {}); !begun) return begun.error();
    if (page) {
        auto begun = TimelinePage::begin(std::move(page));
        if (!begun) return begun.error();
        ledger.page_.emplace(std::move(*begun));
    }
    return ledger;
}

void Ledger::add(const RequestRecord& record, const std::string& key) {
    // A command that was never started is no job that has been done.
    const bool ran = record.outcome.kind != Outcome::Kind::cancelled || record.started.time_since_epoch().count() != 0;
    if (joblog_.file && ran) check(joblog_.told, joblog_.file.add(joblog_row(record)));
    if (report_.file) check(report_.told, report_.file.add(report_line(record, key)));
    if (page_) check(page_told_, page_->add(record));
}

void Ledger::finish(const BatchSummary& summary) {
    if (page_) check(page_told_, page_->finish(summary));
}

void Ledger::check(bool& told, const Result<>& done) {
    if (done) return;
    failed_ = true;
    if (std::exchange(told, true)) return;
    const std::string sentence = "cannot " + done.error().message();
    if (on_complaint_)
        on_complaint_(sentence);
    else
        std::fprintf(stderr, "coalesce: %s\n", sentence.c_str());
}

}  // namespace coalesce
