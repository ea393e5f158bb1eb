// SPDX-License-Identifier: MIT
// How a record becomes a line: JSON that is also safe inside a script element.
// Every "<" is written \u003c, so no text can end the element or begin a comment
// in it, and what is no UTF-8 is written as a lone surrogate, U+DC00 + byte, which
// no UTF-8 can mean: the page shows such a byte as \xff instead of a guess.
#include <coalesce/batch/timeline_html.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <utility>

#include <coalesce/command/utf8.h>

namespace coalesce {
namespace {

using std::chrono::duration_cast;
using std::chrono::microseconds;

constexpr std::string_view page =
#include "timeline_page.inc"
    ;
constexpr std::string_view records_mark = "%records%\n";
constexpr std::string_view nonce_mark = "%nonce%";
static_assert(page.find(records_mark) != page.npos && page.find(nonce_mark) != page.npos);

// An input line may have 8 MiB; nobody reads that in a browser, and a page of them would not open.
constexpr std::size_t text_bytes_max = 8192;

void append_escape(std::string& out, unsigned code) {
    constexpr std::string_view digits = "0123456789abcdef";
    out += "\\u";
    for (const unsigned shift : {12U, 8U, 4U, 0U}) out += digits[(code >> shift) & 0xfU];
}

// JSON's own escapes, and those that HTML and JavaScript would need: < > & and
// the two line separators that a line-wise reader might take for line ends.
void append_sequence(std::string& out, std::string_view sequence) {
    if (sequence == "\u2028") return append_escape(out, 0x2028);
    if (sequence == "\u2029") return append_escape(out, 0x2029);
    const char c = sequence[0];
    if (sequence.size() > 1) {
        out += sequence;
    } else if (c == '"' || c == '\\') {
        (out += '\\') += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '<' || c == '>' || c == '&') {
        append_escape(out, static_cast<unsigned char>(c));
    } else {
        out += c;
    }
}

void append_quoted(std::string& out, std::string_view text) {
    const std::size_t all = text.size();
    out += '"';
    while (!text.empty() && all - text.size() < text_bytes_max) {
        const std::size_t bytes = first_character(text).length;
        if (bytes == 0)
            append_escape(out, 0xdc00U + static_cast<unsigned char>(text[0]));
        else
            append_sequence(out, text.substr(0, bytes));
        text.remove_prefix(std::max<std::size_t>(bytes, 1));
    }
    if (!text.empty()) out += "\u2026 (" + std::to_string(all) + " bytes)";
    out += '"';
}

void append_number(std::string& out, std::uint64_t number) {
    char digits[24];
    out.append(digits, std::to_chars(digits, digits + sizeof(digits), number).ptr);
}

// Seconds to the microsecond, written from integers: a double would lose the last digits of a date.
void append_seconds(std::string& out, std::chrono::nanoseconds time) {
    const std::int64_t micros = duration_cast<microseconds>(time).count();
    char text[32];
    const int length = std::snprintf(text, sizeof(text), "%s%" PRId64 ".%06" PRId64, micros < 0 ? "-" : "",
                                     std::abs(micros / 1'000'000), std::abs(micros % 1'000'000));
    out.append(text, static_cast<std::size_t>(length));
}

std::string_view name(Outcome::Kind kind) {
    switch (kind) {
        case Outcome::Kind::exited:
            return "exited";
        case Outcome::Kind::signalled:
            return "signalled";
        case Outcome::Kind::timed_out:
            return "timed_out";
        case Outcome::Kind::not_started:
            return "not_started";
        case Outcome::Kind::refused:
            return "refused";
        case Outcome::Kind::cancelled:
            return "cancelled";
        case Outcome::Kind::lost:
            break;
    }
    return "lost";
}

// One JSON object, its members in a fixed order. A member that has its usual
// value is left out: most requests of a large batch are plain successes.
class Line {
  public:
    explicit Line(std::string& out) : out_(out) {
        out_.clear();
        out_ += '{';
    }
    Line& number(std::string_view key, std::uint64_t value) { return append_number(member(key), value), *this; }
    Line& seconds(std::string_view key, std::chrono::nanoseconds value) {
        return append_seconds(member(key), value), *this;
    }
    Line& moment(std::string_view key, std::chrono::system_clock::time_point value) {
        return seconds(key, value.time_since_epoch());
    }
    Line& text(std::string_view key, std::string_view value) { return append_quoted(member(key), value), *this; }
    Line& yes(std::string_view key) { return member(key) += "true", *this; }
    void end() { out_ += "}\n"; }

  private:
    std::string& member(std::string_view key) {
        if (out_.size() > 1) out_ += ',';
        return ((out_ += '"') += key) += "\":";
    }

    std::string& out_;
};

void describe(Line& line, const Outcome& outcome) {
    line.number("status", static_cast<std::uint64_t>(outcome.status()));
    if (outcome.success()) return;
    line.text("kind", name(outcome.kind)).text("result", outcome.describe());
}

void describe(Line& line, const RequestRecord& record, bool with_command) {
    line.number("n", record.sequence).number("run", record.run);
    if (record.joined) line.yes("joined");
    if (record.requesters > 1) line.number("requesters", record.requesters);
    line.moment("asked", record.requested).moment("started", record.started).moment("ended", record.ended);
    line.seconds("waited", record.waited).seconds("ran", record.run_time);
    if (record.stdout_bytes) line.number("stdout", record.stdout_bytes);
    if (record.stderr_bytes) line.number("stderr", record.stderr_bytes);
    if (record.attempts > 1) line.number("attempts", record.attempts);
    describe(line, record.outcome);
    if (!record.id.empty()) line.text("id", record.id);
    if (with_command) line.text("command", record.command);
}

void append_row(std::string& out, std::string_view name, std::string_view value) {
    ((((out += "<tr><th scope=\"row\">") += name) += "</th><td class=\"number\">") += value) += "</td></tr>\n";
}

// The sums once more as a plain table: for a reader without scripts, whom the style puts it on top for.
std::string closing(const BatchSummary& summary) {
    std::string seconds;
    const auto in_seconds = [&](std::chrono::nanoseconds time) {
        seconds.clear();
        append_seconds(seconds, time);
        seconds.resize(seconds.size() - 3);  // milliseconds will do
        return seconds += " s";
    };
    std::string out = "</script>\n<section class=\"closing\">\n<h2>Summary</h2>\n<table>\n";
    append_row(out, "Requests", std::to_string(summary.requests));
    append_row(out, "Runs", std::to_string(summary.runs));
    append_row(out, "Shared", std::to_string(summary.shared));
    append_row(out, "Failed", std::to_string(summary.failed));
    append_row(out, "Wall time", in_seconds(summary.wall));
    append_row(out, "Saved", in_seconds(summary.saved));
    return out += "</table>\n</section>\n</body>\n</html>\n";
}

// The page's policy admits the style and the script that carry this word. It is
// new for each page: what a command holds was written before it was drawn.
std::string nonce() {
    std::random_device device;
    std::string word;
    for (int i = 0; i < 4; ++i) {
        char digits[16];
        std::snprintf(digits, sizeof(digits), "%08x", static_cast<unsigned>(device()));
        word += digits;
    }
    return word;
}

std::string head() {
    std::string text(page.substr(0, page.find(records_mark)));
    const std::string word = nonce();
    for (auto at = text.find(nonce_mark); at != text.npos; at = text.find(nonce_mark, at + word.size()))
        text.replace(at, nonce_mark.size(), word);
    return text;
}

}  // namespace

Result<TimelinePage> TimelinePage::create(const std::string& path) {
    int file = -1;
    do file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
    while (file < 0 && errno == EINTR);
    if (file < 0) return system_error_now("write the timeline to " + path);
    TimelinePage made(file, path);
    if (auto wrote = made.append(head()); !wrote) return wrote.error();
    return made;
}

TimelinePage::TimelinePage(int file, std::string path) : file_(file), path_(std::move(path)) {}

TimelinePage::TimelinePage(TimelinePage&& other) noexcept
    : file_(std::exchange(other.file_, -1)),
      path_(std::move(other.path_)),
      line_(std::move(other.line_)),
      line_is_cut_(other.line_is_cut_),
      last_run_(other.last_run_),
      last_command_(std::move(other.last_command_)) {}

TimelinePage& TimelinePage::operator=(TimelinePage&& other) noexcept {
    if (this == &other) return *this;
    close();
    file_ = std::exchange(other.file_, -1);
    path_ = std::move(other.path_);
    line_ = std::move(other.line_);
    line_is_cut_ = other.line_is_cut_;
    last_run_ = other.last_run_;
    last_command_ = std::move(other.last_command_);
    return *this;
}

TimelinePage::~TimelinePage() { close(); }

void TimelinePage::close() noexcept {
    if (file_ >= 0) ::close(std::exchange(file_, -1));
}

// A flight that lands answers all its requesters in a row, so comparing with the
// last record alone spares a thousand copies of one command and needs no table.
Result<> TimelinePage::add(const RequestRecord& record) {
    const bool repeated = record.run == last_run_ && record.command == last_command_;
    Line line(line_);
    describe(line, record, !repeated);
    line.end();
    auto wrote = append(line_);
    if (wrote && !repeated) {
        last_run_ = record.run;
        last_command_.assign(record.command, 0, text_bytes_max);
    }
    return wrote;
}

Result<> TimelinePage::finish(const BatchSummary& summary) {
    line_ = "{\"summary\":";
    std::string sums;
    Line(sums)
        .number("requests", summary.requests)
        .number("runs", summary.runs)
        .number("shared", summary.shared)
        .number("failed", summary.failed)
        .seconds("wall", summary.wall)
        .seconds("saved", summary.saved)
        .end();
    sums.pop_back();
    ((line_ += sums) += "}\n") += closing(summary);
    auto wrote = append(line_);
    const int file = std::exchange(file_, -1);
    if (::close(file) != 0 && wrote) return system_error_now("write the timeline to " + path_);  // NFS says it here
    return wrote;
}

// A line that was cut is ended before the next one, and the page skips what it
// cannot read: whole or not at all, as far as the reader is concerned.
Result<> TimelinePage::append(std::string_view text) {
    if (line_is_cut_) {
        if (auto mended = write(std::string_view("\n")); !mended) return mended;
        line_is_cut_ = false;
    }
    return write(text);
}

Result<> TimelinePage::write(std::string_view text) {
    for (std::size_t done = 0; done < text.size();) {
        const ssize_t wrote = ::write(file_, text.data() + done, text.size() - done);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) {
            line_is_cut_ = line_is_cut_ || done > 0;
            return system_error_now("write the timeline to " + path_);
        }
        done += static_cast<std::size_t>(wrote);
    }
    return {};
}

}  // namespace coalesce
