// SPDX-License-Identifier: MIT
#include <coalesce/meeting/flight_record.h>

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include <coalesce/command/number.h>
#include <coalesce/io/descriptor.h>
#include <coalesce/io/process_facts.h>

namespace coalesce {
namespace {

constexpr std::size_t record_bytes_max = 160;
constexpr int base =
    16;  // so that a record is shorter than 60 bytes: several file systems hold such a link in its inode
constexpr std::size_t most_behind_numbering = 2 * (1 + 9) + 1 + 17 + 1;  // two of a process, a time, an end
constexpr pid_t largest_pid = 1 << 22;                                   // the kernel's own bound

// The kernel's name for the first time namespace, which is ahead of nothing.
constexpr std::string_view machines_time = "time:[4026531834]";

std::string_view read_some(const char* path, char* into, std::size_t size) {
    const Descriptor file(::open(path, O_RDONLY | O_CLOEXEC));
    const ssize_t got = file ? ::read(file.get(), into, size) : -1;
    return {into, got > 0 ? static_cast<std::size_t>(got) : 0};
}

std::string_view link_text(const char* path, char* into, std::size_t size) {
    const ssize_t got = ::readlink(path, into, size);
    return {into, got > 0 ? static_cast<std::size_t>(got) : 0};
}

long long milliseconds_of(long long seconds, long long nanoseconds) { return seconds * 1000 + nanoseconds / 1'000'000; }

long long ahead_ms_in(const char* time_space) {
    char text[256];
    const std::string_view space = link_text(time_space, text, sizeof text);
    if (space.empty() || space == machines_time) return 0;
    const std::string offsets(read_some("/proc/self/timens_offsets", text, sizeof text));
    const std::size_t at = offsets.find("boottime");
    long long seconds = 0;
    long long nanoseconds = 0;
    if (at == std::string::npos || std::sscanf(offsets.c_str() + at, "boottime %lld %lld", &seconds, &nanoseconds) != 2)
        return 0;
    return milliseconds_of(seconds, nanoseconds);
}

}  // namespace

std::optional<Numbering> Numbering::own() { return told_by("/proc/self/ns/pid", "/proc/self/ns/time"); }

std::optional<Numbering> Numbering::of_children() {
    return told_by("/proc/self/ns/pid_for_children", "/proc/self/ns/time_for_children");
}

std::optional<Numbering> Numbering::told_by(const char* pid_space, const char* time_space) {
    char text[64];
    Numbering numbering;
    numbering.text_ = boot_id();
    std::erase(numbering.text_, '-');
    if (numbering.text_.empty()) return std::nullopt;
    constexpr std::string_view before = "pid:[";
    const std::string_view space = link_text(pid_space, text, sizeof text);
    unsigned inode = 0;
    if (!space.starts_with(before) || !space.ends_with(']') ||
        !read_whole_number(space.substr(before.size(), space.size() - before.size() - 1), inode))
        return std::nullopt;
    *std::to_chars(text, text + sizeof text, inode, base).ptr = '\0';
    numbering.text_.append("/").append(text);
    numbering.ahead_ms_ = ahead_ms_in(time_space);
    return numbering;
}

bool Numbering::shown_by_proc() noexcept {
    char text[32] = {};
    const std::string_view self = link_text("/proc/self", text, sizeof text - 1);
    return !self.empty() && std::atoi(text) == ::getpid();
}

FlightRecorder::FlightRecorder(int directory, std::string name, std::optional<Numbering> numbering)
    : directory_(directory), name_(std::move(name)), numbering_(std::move(numbering)) {}

void FlightRecorder::record_this_process() const noexcept {
    if (!numbering_) return;
    timespec now{};
    ::clock_gettime(CLOCK_BOOTTIME, &now);
    const int pid = ::getpid();
    const int session = ::getsid(0);  // 0 where who made it is outside this namespace, 1 its init: nobody's of ours
    const std::string& numbering = numbering_->text();
    char text[record_bytes_max];
    if (numbering.size() + most_behind_numbering > sizeof text) return;
    char* end = std::copy(numbering.begin(), numbering.end(), text);
    const auto add = [&end](char separator, auto number) {
        *end++ = separator;
        end = std::to_chars(end, end + 2 * sizeof number + 1, number, base).ptr;
    };
    add('/', pid);
    if (session != pid && session > 1) add('.', session);
    add('/', milliseconds_of(now.tv_sec, now.tv_nsec) - numbering_->ahead_ms());
    *end = '\0';
    if (::symlinkat(text, directory_, name_.c_str()) == 0 || errno != EEXIST) return;
    ::unlinkat(directory_, name_.c_str(), 0);  // of an earlier run of this flight, which is over
    ::symlinkat(text, directory_, name_.c_str());
}

std::optional<FlightRecord> FlightRecord::read(int directory, const char* name) {
    char text[record_bytes_max];
    const ssize_t got = ::readlinkat(directory, name, text, sizeof text);
    if (got <= 0 || static_cast<std::size_t>(got) == sizeof text) return std::nullopt;
    const std::string_view all(text, static_cast<std::size_t>(got));
    const std::size_t before_time = all.rfind('/');
    const std::size_t before_pid = before_time == 0 ? before_time : all.rfind('/', before_time - 1);
    if (before_time == std::string_view::npos || before_pid == std::string_view::npos) return std::nullopt;
    const char* const end = all.data() + all.size();
    const char* const pid_end = all.data() + before_time;
    FlightRecord record;
    record.numbering = all.substr(0, before_pid);
    const char* after_pid = std::from_chars(all.data() + before_pid + 1, pid_end, record.pid, base).ptr;
    record.session = record.pid;
    if (after_pid != pid_end && *after_pid == '.')
        after_pid = std::from_chars(after_pid + 1, pid_end, record.session, base).ptr;
    const auto is_pid = [](pid_t pid) { return pid > 1 && pid <= largest_pid; };
    if (after_pid != pid_end || std::from_chars(pid_end + 1, end, record.at_ms, base).ptr != end ||
        !is_pid(record.pid) || !is_pid(record.session))
        return std::nullopt;
    return record;
}

// A start is told in ticks, rounded down: the recorded process's is never after its record.
bool is_recorded(const FlightRecord& record, const ProcessFacts& facts, const Numbering& own) noexcept {
    return record.numbering == own.text() && facts.started_ms - own.ahead_ms() <= record.at_ms;
}

}  // namespace coalesce
