// SPDX-License-Identifier: MIT
// How a record becomes a line: JSON that is also safe inside a script element.
// Every "<" is written \u003c, so no text can end the element or begin a comment
// in it, and what is no UTF-8 is written as a lone surrogate, U+DC00 + byte, which
// no UTF-8 can mean: the page shows such a byte as \xff instead of a guess.
#include <coalesce/batch/timeline_html.h>

#include <algorithm>
#include <cstdio>
#include <random>
#include <utility>

#include <coalesce/command/utf8.h>
#include <coalesce/protocol/answer.h>
#include <coalesce/protocol/message.h>

namespace coalesce {
namespace {

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

std::string script_string(std::string_view text) {
    std::string out;
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
    return out += '"';
}

// How it ended: the protocol's word, where that has one.
std::string_view kind_of(const Outcome& outcome) {
    const std::string_view code = code_of(outcome);
    if (!code.empty()) return code;
    return outcome.kind == Outcome::Kind::signalled ? "signalled" : "exited";
}

// One JSON object, its members in a fixed order. A member that has its usual
// value is left out: most requests of a large batch are plain successes.
std::string line_of(const RequestRecord& record, bool with_command) {
    Message line;
    const auto number = [&line](const char* name, std::uint64_t value) {
        line.number(name, static_cast<std::int64_t>(value));
    };
    number("n", record.sequence);
    number("run", record.run);
    if (record.joined) line.flag("joined", true);
    const auto waited = std::chrono::duration_cast<std::chrono::system_clock::duration>(record.waited);
    if (record.requesters > 1) number("requesters", record.requesters);
    // What had been kept ran at another time, which is not on this line.
    const bool ran = !record.kept;
    line.seconds("asked", record.requested.time_since_epoch())
        .seconds("started", ran ? record.started.time_since_epoch() : std::chrono::nanoseconds(0))
        .seconds("ended", (ran ? record.ended : record.requested + waited).time_since_epoch())
        .seconds("waited", record.waited)
        .seconds("ran", ran ? record.run_time : std::chrono::nanoseconds(0));
    if (record.kept) line.seconds("kept", record.kept->age);
    if (record.stdout_bytes > 0) number("stdout", record.stdout_bytes);
    if (record.stderr_bytes > 0) number("stderr", record.stderr_bytes);
    if (record.attempts > 1) number("attempts", record.attempts);
    line.number("status", record.outcome.status());
    if (!record.outcome.success())
        line.raw("kind", script_string(kind_of(record.outcome)))
            .raw("result", script_string(record.outcome.describe()));
    if (!record.id.empty()) line.raw("id", script_string(record.id));
    if (with_command) line.raw("command", script_string(record.command));
    return line.line();
}

void append_row(std::string& out, std::string_view name, std::string_view value) {
    ((((out += "<tr><th scope=\"row\">") += name) += "</th><td class=\"number\">") += value) += "</td></tr>\n";
}

// The sums once more as a plain table: for a reader without scripts, whom the style puts it on top for.
std::string closing(const BatchSummary& summary) {
    const auto in_seconds = [](std::chrono::nanoseconds time) {
        std::string seconds = json_seconds(std::chrono::duration_cast<std::chrono::microseconds>(time));
        seconds.resize(seconds.size() - 3);  // milliseconds will do
        return seconds + " s";
    };
    std::string out = "</script>\n<section class=\"closing\">\n<h2>Summary</h2>\n<table>\n";
    append_row(out, "Requests", std::to_string(summary.requests));
    append_row(out, "Runs", std::to_string(summary.runs));
    append_row(out, "Shared", std::to_string(summary.shared));
    if (summary.kept > 0) append_row(out, "Kept", std::to_string(summary.kept));
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

Result<TimelinePage> TimelinePage::begin(AccountFile file) {
    if (auto wrote = file.begin(AccountFile::Begin::anew, head()); !wrote) return wrote.error();
    return TimelinePage(std::move(file));
}

// A flight that lands answers all its requesters in a row, so comparing with the
// last record alone spares a thousand copies of one command and needs no table.
Result<> TimelinePage::add(const RequestRecord& record) {
    const bool repeated = record.run == last_run_ && record.command == last_command_;
    auto wrote = file_.add(line_of(record, !repeated));
    if (wrote && !repeated) {
        last_run_ = record.run;
        last_command_.assign(record.command, 0, text_bytes_max);
    }
    return wrote;
}

Result<> TimelinePage::finish(const BatchSummary& summary) {
    std::string sums = Message()
                           .number("requests", static_cast<std::int64_t>(summary.requests))
                           .number("runs", static_cast<std::int64_t>(summary.runs))
                           .number("shared", static_cast<std::int64_t>(summary.shared))
                           .number("failed", static_cast<std::int64_t>(summary.failed))
                           .seconds("wall", summary.wall)
                           .seconds("saved", summary.saved)
                           .line();
    sums.pop_back();
    auto wrote = file_.add(Message().raw("summary", sums).line() + closing(summary));
    auto closed = file_.close();
    return wrote ? closed : wrote;
}

}  // namespace coalesce
