// SPDX-License-Identifier: MIT
#include <coalesce/batch/ledger.h>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

#include <coalesce/protocol/json_text.h>

namespace coalesce {
namespace {

constexpr std::string_view joblog_head = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n";

// How much was written; errno says why it was not all.
std::size_t write_some(int file, std::string_view text) {
    std::size_t done = 0;
    while (done < text.size()) {
        const ssize_t wrote = ::write(file, text.data() + done, text.size() - done);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) break;
        done += static_cast<std::size_t>(wrote);
    }
    return done;
}

Result<Descriptor> create(const std::string& path, std::string_view head) {
    Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC | O_NOCTTY, 0666));
    if (!file) return system_error_now("open " + path);
    if (write_some(file.get(), head) < head.size()) return system_error_now("write " + path);
    return file;
}

double seconds(std::chrono::nanoseconds duration) { return std::chrono::duration<double>(duration).count(); }
double seconds_since_epoch(std::chrono::system_clock::time_point time) { return seconds(time.time_since_epoch()); }

// GNU parallel's columns, with its widths. A tab or newline inside the command
// would look like a column or a job, so they are shown as a space.
std::string joblog_line(const RequestRecord& record) {
    const Outcome& outcome = record.outcome;
    const bool signalled = outcome.kind == Outcome::Kind::signalled;
    std::string command = record.command;
    for (char& byte : command)
        if (byte == '\n' || byte == '\t') byte = ' ';
    return fmt::format("{}\t:\t{:.3f}\t{:10.3f}\t0\t{}\t{}\t{}\t{}\n", record.sequence,
                       seconds_since_epoch(record.started), seconds(record.run_time), record.stdout_bytes,
                       signalled ? 0 : outcome.status(), signalled ? outcome.code : 0, command);
}

std::string report_line(const RequestRecord& record, const std::string& key) {
    const Outcome& outcome = record.outcome;
    std::string line = fmt::format(R"({{"sequence":{},"run":{},"key":"{}")", record.sequence, record.run, key);
    if (!record.id.empty()) line += ",\"id\":" + record.id;
    line += ",\"command\":";
    append_json_string(line, record.command);
    if (outcome.kind == Outcome::Kind::signalled)
        line += fmt::format(R"(,"signal":{})", outcome.code);
    else
        line += fmt::format(R"(,"exit":{})", outcome.status());
    if (!outcome.success()) {
        line += ",\"end\":";
        append_json_string(line, outcome.describe());
    }
    line += fmt::format(
        R"(,"joined":{},"requesters":{},"attempts":{},"requested":{:.6f},"started":{:.6f},"waited":{:.6f},"run_time":{:.6f},"stdout_bytes":{},"stderr_bytes":{}}})",
        record.joined, record.requesters, record.attempts, seconds_since_epoch(record.requested),
        seconds_since_epoch(record.started), seconds(record.waited), seconds(record.run_time), record.stdout_bytes,
        record.stderr_bytes);
    line += '\n';
    return line;
}

}  // namespace

Result<Ledger> Ledger::open(const Paths& paths) {
    Ledger ledger;
    if (!paths.joblog.empty()) {
        auto file = create(paths.joblog, joblog_head);
        if (!file) return file.error();
        ledger.joblog_ = {std::move(*file), paths.joblog};
    }
    if (!paths.report.empty()) {
        auto file = create(paths.report, {});
        if (!file) return file.error();
        ledger.report_ = {std::move(*file), paths.report};
    }
    if (!paths.html.empty()) {
        auto page = TimelinePage::create(paths.html);
        if (!page) return page.error();
        ledger.page_.emplace(std::move(*page));
    }
    return ledger;
}

void Ledger::add(const RequestRecord& record, const std::string& key) {
    if (joblog_.file) write(joblog_, joblog_line(record));
    if (report_.file) write(report_, report_line(record, key));
    if (page_) check_page(page_->add(record));
}

void Ledger::finish(const BatchSummary& summary) {
    if (page_) check_page(page_->finish(summary));
}

void Ledger::write(Account& account, std::string line) {
    if (account.cut) line.insert(0, 1, '\n');  // or it would end the line that found no room
    const std::size_t wrote = write_some(account.file.get(), line);
    account.cut = wrote > 0 ? wrote < line.size() : account.cut;
    if (wrote < line.size()) complain(account.told, system_error_now("write " + account.path));
}

void Ledger::check_page(const Result<>& done) {
    if (!done) complain(page_told_, done.error());
}

void Ledger::complain(bool& told, const Error& error) {
    failed_ = true;
    if (std::exchange(told, true)) return;
    const std::string sentence = "cannot " + error.message();
    if (on_complaint_)
        on_complaint_(sentence);
    else
        std::fprintf(stderr, "coalesce: %s\n", sentence.c_str());
}

}  // namespace coalesce
