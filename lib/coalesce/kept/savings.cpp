// SPDX-License-Identifier: MIT
#include <coalesce/kept/savings.h>

#include <coalesce/io/descriptor.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <ctime>
#include <limits>
#include <optional>

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

Savings sum_in(int file) noexcept {
    char text[bytes_max];
    const ssize_t got = ::pread(file, text, sizeof text - 1, 0);
    if (got <= 0 || text[got - 1] != '\n') return {};  // the space in a format stands for none, too
    text[got] = '\0';
    std::uint64_t runs = 0;
    std::uint64_t joins = 0;
    std::int64_t nanoseconds = 0;
    std::int64_t since = 0;
    int end = 0;
    if (std::sscanf(text, "runs %" SCNu64 " joins %" SCNu64 " nanoseconds %" SCNd64 " since %" SCNd64 "\n%n", &runs,
                    &joins, &nanoseconds, &since, &end) != 4 ||
        end != got || nanoseconds < 0 || nanoseconds > std::numeric_limits<std::int64_t>::max() / 2 || since < 0)
        return {};
    return {.runs = runs, .joins = joins, .time = std::chrono::nanoseconds(nanoseconds), .since = since};
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
    const int length = std::snprintf(text, sizeof text,
                                     "runs %" PRIu64 " joins %" PRIu64 " nanoseconds %" PRId64 " since %" PRId64 "\n",
                                     sum.runs, sum.joins, static_cast<std::int64_t>(sum.time.count()), sum.since);
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
