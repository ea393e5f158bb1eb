// SPDX-License-Identifier: MIT
#include <coalesce/cluster/records.h>

#include <coalesce/command/canonical.h>

#include <signal.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include <coalesce/command/number.h>
#include <coalesce/io/process_facts.h>

namespace coalesce {
namespace {

constexpr std::size_t offset_bytes = 8;
constexpr std::size_t piece_head_bytes = 5;

template <class Number>
void append_number(std::string& out, Number number) {
    for (std::size_t byte = 0; byte < sizeof number; ++byte) out += static_cast<char>(number >> (8 * byte) & 0xff);
}

template <class Number>
Number number_at(std::string_view text, std::size_t at) {
    Number number = 0;
    for (std::size_t byte = sizeof number; byte-- > 0;)
        number = static_cast<Number>(number << 8 | static_cast<unsigned char>(text[at + byte]));
    return number;
}

struct Piece {
    Stream stream;
    std::string_view bytes;
};

std::string pid_namespace() {
    char text[64];
    const ssize_t got = ::readlink("/proc/self/ns/pid", text, sizeof text);
    return {text, got > 0 ? static_cast<std::size_t>(got) : 0};
}

}  // namespace

ChunkText::ChunkText(std::uint64_t offset) { append_number(text_, offset); }

bool ChunkText::empty() const noexcept { return text_.size() == offset_bytes; }
bool ChunkText::full() const noexcept { return text_.size() + piece_head_bytes >= chunk_text_max; }

std::size_t ChunkText::add(Stream stream, std::string_view bytes) {
    if (full()) return 0;
    bytes = bytes.substr(0, chunk_text_max - text_.size() - piece_head_bytes);
    text_ += static_cast<char>(stream);
    append_number(text_, static_cast<std::uint32_t>(bytes.size()));
    text_ += bytes;
    return bytes.size();
}

std::uint64_t begin_of_chunk(std::string_view text) {
    return text.size() < offset_bytes ? 0 : number_at<std::uint64_t>(text, 0);
}

std::optional<std::uint64_t> read_chunk(std::string_view text, std::uint64_t offset,
                                        const std::function<void(Stream, std::string_view)>& on_piece) {
    if (text.size() <= offset_bytes || begin_of_chunk(text) != offset) return std::nullopt;
    std::vector<Piece> pieces;
    std::uint64_t length = 0;
    for (std::size_t at = offset_bytes; at < text.size();) {
        if (text.size() - at < piece_head_bytes) return std::nullopt;
        const auto stream = static_cast<unsigned char>(text[at]);
        const auto size = number_at<std::uint32_t>(text, at + 1);
        at += piece_head_bytes;
        if (stream > 1 || size == 0 || size > text.size() - at) return std::nullopt;
        pieces.push_back({static_cast<Stream>(stream), text.substr(at, size)});
        at += size;
        length += size;
    }
    for (const Piece& piece : pieces) on_piece(piece.stream, piece.bytes);
    return length;
}

std::string EndRecord::text() const {
    std::string text;
    append_field(text, 'k', std::to_string(static_cast<int>(outcome.kind)));
    append_field(text, 'c', std::to_string(outcome.code));
    append_field(text, 'd', outcome.core_dumped ? "1" : "0");
    append_field(text, 'r', outcome.reason);
    for (const std::uint64_t size : sizes) append_field(text, 's', std::to_string(size));
    append_field(text, 'n', std::to_string(attempts));
    append_field(text, 't', std::to_string(duration.count()));
    append_field(text, 'a', for_all ? "1" : "0");
    return text;
}

std::optional<EndRecord> EndRecord::of(std::string_view text) {
    EndRecord record;
    int kind = 0;
    std::int64_t duration = 0;
    std::size_t size = 0;
    while (!text.empty()) {
        const auto field = take_field(text);
        if (!field) return std::nullopt;
        bool good = true;
        switch (field->tag) {
            case 'k':
                good =
                    read_whole_number(field->bytes, kind) && kind >= 0 && kind <= static_cast<int>(Outcome::Kind::lost);
                record.outcome.kind = static_cast<Outcome::Kind>(kind);
                break;
            case 'c':
                good = read_whole_number(field->bytes, record.outcome.code);
                break;
            case 'd':
                record.outcome.core_dumped = field->bytes == "1";
                break;
            case 'r':
                record.outcome.reason = field->bytes;
                break;
            case 's':
                good = size < record.sizes.size() && read_whole_number(field->bytes, record.sizes[size]);
                ++size;
                break;
            case 'n':
                good = read_whole_number(field->bytes, record.attempts);
                break;
            case 't':
                good = read_whole_number(field->bytes, duration) && duration >= 0;
                record.duration = std::chrono::milliseconds(duration);
                break;
            case 'a':
                record.for_all = field->bytes == "1";
                break;
            default:
                break;  // of a later version
        }
        if (!good) return std::nullopt;
    }
    if (size != record.sizes.size()) return std::nullopt;
    return record;
}

ProcessName ProcessName::of(std::int64_t pid) {
    const auto facts = ProcessFacts::of(static_cast<pid_t>(pid));
    return {pid, facts ? facts->started_ms : 0};
}

bool ProcessName::alive() const {
    const auto facts = ProcessFacts::of(static_cast<pid_t>(pid));
    // Of another user's it may be hidden whether it is the same one: rather alive than buried.
    if (!facts) return ::kill(static_cast<pid_t>(pid), 0) == 0 || errno == EPERM;
    return facts->alive() && facts->started_ms == started_ms;
}

std::string RunInfo::text() const {
    std::string text;
    append_field(text, 'h', host);
    append_field(text, 'b', boot);
    append_field(text, 'n', pid_namespace);
    for (const ProcessName& process : {leader, guard})
        append_field(text, 'p', std::to_string(process.pid) + " " + std::to_string(process.started_ms));
    append_field(text, 't', title);
    append_field(text, 'd', parts);
    return text;
}

std::optional<RunInfo> RunInfo::of(std::string_view text) {
    RunInfo info;
    std::size_t process = 0;
    while (!text.empty()) {
        const auto field = take_field(text);
        if (!field) return std::nullopt;
        switch (field->tag) {
            case 'h':
                info.host = field->bytes;
                break;
            case 'b':
                info.boot = field->bytes;
                break;
            case 'n':
                info.pid_namespace = field->bytes;
                break;
            case 't':
                info.title = field->bytes;
                break;
            case 'd':
                info.parts = field->bytes;
                break;
            case 'p': {
                ProcessName& into = process++ == 0 ? info.leader : info.guard;
                const std::size_t space = std::min(field->bytes.find(' '), field->bytes.size());
                if (!read_whole_number(field->bytes.substr(0, space), into.pid) ||
                    !read_whole_number(field->bytes.substr(std::min(space + 1, field->bytes.size())), into.started_ms))
                    return std::nullopt;
                break;
            }
            default:
                break;  // of a later version
        }
    }
    return info;
}

RunInfo RunInfo::own(const std::string& host, std::int64_t guard_pid, std::string_view title, std::string_view parts) {
    return {.host = host,
            .boot = boot_id(),
            .pid_namespace = coalesce::pid_namespace(),
            .leader = ProcessName::of(::getpid()),
            .guard = ProcessName::of(guard_pid),
            .title = std::string(title),
            .parts = std::string(parts)};
}

// A guard that was replaced since is not in the info; but then its leader was alive. Two machines that go on from one
// image of memory have one boot; where they were given a name each, that tells them apart.
bool RunInfo::dead_here() const {
    return host == own_host() && !boot.empty() && boot == boot_id() && !pid_namespace.empty() &&
           pid_namespace == coalesce::pid_namespace() && !leader.alive() && !guard.alive();
}

std::string own_host() {
    utsname names{};
    return ::uname(&names) == 0 ? names.nodename : "localhost";
}

}  // namespace coalesce
