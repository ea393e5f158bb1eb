// SPDX-License-Identifier: MIT
#include <coalesce/batch/joblog.h>

#include <signal.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <functional>
#include <optional>

#include <coalesce/command/number.h>
#include <coalesce/command/title.h>
#include <coalesce/protocol/format.h>

namespace coalesce {
namespace {

double seconds(std::chrono::nanoseconds duration) { return std::chrono::duration<double>(duration).count(); }

struct ReadRow {
    std::uint64_t sequence = 0;
    int exit = -1;
    int signal = 0;
    std::string_view command;
};

enum class Line { row, cut, other };

// A row that was cut, by a full disk or a crash, has not all columns: as if it were not there.
Line read_row(std::string_view line, ReadRow& row) {
    std::array<std::string_view, 8> columns;
    std::string_view rest = line;
    for (std::string_view& column : columns) {
        const std::size_t tab = rest.find('\t');
        column = rest.substr(0, tab);
        if (&column == &columns.front() && !read_whole_number(column, row.sequence)) return Line::other;
        if (tab == std::string_view::npos) return Line::cut;
        rest.remove_prefix(tab + 1);
    }
    if (!read_whole_number(columns[6], row.exit) || !read_whole_number(columns[7], row.signal)) return Line::other;
    row.command = rest;
    return Line::row;
}

std::uint64_t hash_of(std::string_view command) { return std::hash<std::string_view>{}(command); }

// GNU parallel leaves all as it is but newlines, which it writes as NUL.
std::string as_parallel_has_it(std::string_view command) {
    std::string text(command);
    std::replace(text.begin(), text.end(), '\n', '\0');
    return text;
}

}  // namespace

std::string joblog_row(const RequestRecord& record) {
    const Outcome& outcome = record.outcome;
    const bool ended_by_us = outcome.withdrawn();
    const bool signalled = outcome.kind == Outcome::Kind::signalled;
    const int exit = ended_by_us ? -1 : signalled ? 0 : outcome.status();
    const int signal = ended_by_us ? SIGTERM : signalled ? outcome.code : 0;
    // What was kept was served when it was asked for, in no time.
    const auto started = record.kept ? record.requested : record.started;
    const auto ran = record.kept ? std::chrono::nanoseconds(0) : record.run_time;
    return formatted("{}\t:\t{:.3f}\t{:10.3f}\t0\t{}\t{}\t{}\t{}\n", record.sequence,
                     seconds(started.time_since_epoch()), seconds(ran), record.stdout_bytes, exit, signal,
                     title(record.command));
}

Result<EarlierJobs> EarlierJobs::read(const std::string& path, Skip skip) {
    EarlierJobs jobs;
    jobs.path_ = path;
    std::ifstream file(path, std::ios::binary);
    if (!file) {
        if (errno == ENOENT) return jobs;
        return system_error_now("read the joblog " + path);
    }
    std::string line;
    std::uint64_t at = 0;
    for (std::uint64_t number = 1; std::getline(file, line); ++number) {
        const bool whole = !file.eof();  // the last one may have been cut inside its command
        ReadRow row;
        if (whole && !(number == 1 && line + "\n" == joblog_head)) {
            const Line is = read_row(line, row);
            if (is == Line::other)
                return Error{{}, formatted("resume by {}: its line {} is not a joblog's", path, number)};
            const bool done = skip == Skip::done ? row.exit >= 0 : row.exit == 0 && row.signal == 0;
            if (is == Line::row) jobs.rows_.push_back({row.sequence, hash_of(row.command), at, done});
        }
        at += line.size() + 1;
    }
    if (file.bad()) return system_error_now("read the joblog " + path);
    std::stable_sort(jobs.rows_.begin(), jobs.rows_.end(),
                     [](const Row& a, const Row& b) { return a.sequence < b.sequence; });
    return jobs;
}

// A number may be there several times: where a joblog was appended to, and where what had
// failed was run again.
EarlierJobs::Verdict EarlierJobs::look_up(std::uint64_t sequence, std::string_view command) const {
    auto row = std::lower_bound(rows_.begin(), rows_.end(), sequence,
                                [](const Row& a, std::uint64_t wanted) { return a.sequence < wanted; });
    if (row == rows_.end() || row->sequence != sequence) return Verdict::to_run;
    const std::uint64_t ours = hash_of(title(command));
    const std::uint64_t parallels = hash_of(as_parallel_has_it(command));
    Verdict verdict = Verdict::another_command;
    for (; row != rows_.end() && row->sequence == sequence; ++row) {
        if (row->command != ours && row->command != parallels) continue;
        if (row->skip) return Verdict::to_skip;
        verdict = Verdict::to_run;
    }
    return verdict;
}

std::string EarlierJobs::command_of(std::uint64_t sequence) const {
    const auto after = std::upper_bound(rows_.begin(), rows_.end(), sequence,
                                        [](std::uint64_t wanted, const Row& a) { return wanted < a.sequence; });
    if (after == rows_.begin()) return {};
    std::ifstream file(path_, std::ios::binary);
    file.seekg(static_cast<std::streamoff>(std::prev(after)->at));
    std::string line;
    ReadRow row;
    if (!std::getline(file, line) || read_row(line, row) != Line::row) return {};
    return std::string(row.command);
}

}  // namespace coalesce
