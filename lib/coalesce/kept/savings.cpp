// SPDX-License-Identifier: MIT
#include <coalesce/kept/savings.h>

#include <coalesce/io/descriptor.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <ctime>
#include <iterator>
#include <limits>
#include <optional>
#include <string_view>
#include <system_error>

namespace coalesce {
namespace {

constexpr int lock_attempts = 100;      // a millisecond apart: nobody is to wait for long for a count
constexpr std::size_t bytes_max = 128;  // four numbers and their names need less

bool lock(int file, int how) noexcept {
    for (int attempt = 0; attempt < lock_attempts; ++attempt) {
        if (::flock(file, how | LOCK_NB) == 0) return true;
        if (errno != EWOULDBLOCK && errno != EINTR) return false;
        ::poll(nullptr, 0, 1);
    }
    return false;
}

// Of a regular file.
std::optional<off_t> size_of(int file) noexcept {
    struct stat info {};
    return ::fstat(file, &info) == 0 && S_ISREG(info.st_mode) ? std::optional(info.st_size) : std::nullopt;
}

// Making one is dearer than opening one, also where it is there.
Descriptor open_or_make(int directory) noexcept {
    constexpr int how = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
    Descriptor file(::openat(directory, savings_file, how));
    if (file || errno != ENOENT) return file;
    file = Descriptor(::openat(directory, savings_file, how | O_CREAT, 0600));
    if (file) ::fchmod(file.get(), 0600);  // the command's umask may have closed it even to its owner
    return file;
}

// Numbers are read and written without the C library's formats: those look at a locale, at the cost of a whole hit.
template <class Number>
bool take(std::string_view& rest, std::string_view name, Number& into) noexcept {
    if (!rest.starts_with(name)) return false;
    const char* const end = rest.data() + rest.size();
    const auto [stopped, error] = std::from_chars(rest.data() + name.size(), end, into);
    rest = {stopped, end};
    return error == std::errc();
}

Savings sum_in(int file) noexcept {
    char text[bytes_max];
    const ssize_t got = ::pread(file, text, sizeof text, 0);
    if (got <= 0) return {};
    Savings sum;
    std::int64_t nanoseconds = 0;
    std::string_view rest(text, static_cast<std::size_t>(got));
    if (!take(rest, "runs ", sum.runs) || !take(rest, " joins ", sum.joins) ||
        !take(rest, " nanoseconds ", nanoseconds) || !take(rest, " since ", sum.since) || rest != "\n" ||
        nanoseconds < 0 || nanoseconds > std::numeric_limits<std::int64_t>::max() / 2 || sum.since < 0)
        return {};
    sum.time = std::chrono::nanoseconds(nanoseconds);
    return sum;
}

std::size_t write(const Savings& sum, char (&text)[bytes_max]) noexcept {
    std::size_t length = 0;
    const auto add = [&](std::string_view name, auto number) {
        length += name.copy(text + length, sizeof text - length);
        length = static_cast<std::size_t>(std::to_chars(text + length, std::end(text), number).ptr - text);
    };
    add("runs ", sum.runs);
    add(" joins ", sum.joins);
    add(" nanoseconds ", std::int64_t{sum.time.count()});
    add(" since ", sum.since);
    return length + std::string_view("\n").copy(text + length, sizeof text - length);
}

}  // namespace

Savings& Savings::operator+=(const Savings& more) noexcept {
    runs += more.runs;
    joins += more.joins;
    time += more.time;
    if (since == 0 || (more.since != 0 && more.since < since)) since = more.since;
    return *this;
}

void add_savings(int directory, const Savings& more) noexcept {
    const Descriptor file = open_or_make(directory);
    if (!file || !lock(file.get(), LOCK_EX)) return;
    const auto size = size_of(file.get());
    if (!size) return;
    Savings sum = sum_in(file.get());
    sum += more;
    if (sum.since == 0) sum.since = std::time(nullptr);
    char text[bytes_max];
    const auto length = static_cast<ssize_t>(write(sum, text));
    // It only grows, so one write replaces it whole; what is longer made no sense.
    if (::pwrite(file.get(), text, static_cast<std::size_t>(length), 0) != length) return;
    if (*size > length && ::ftruncate(file.get(), length) != 0) return;
}  // closing gives the lock back: no child has this descriptor, the command has ended

Savings read_savings(int directory) noexcept {
    const Descriptor file(::openat(directory, savings_file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!file || !size_of(file.get())) return {};
    lock(file.get(), LOCK_SH);  // without it, too, a line is read as it was once
    return sum_in(file.get());
}

}  // namespace coalesce
