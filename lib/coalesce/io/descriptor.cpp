// SPDX-License-Identifier: MIT
// The limit of descriptors, and closing what nobody is to inherit: by close_range where there is one (Linux 5.9; some
// filters refuse it), else one by one, as /proc lists them or, without /proc, up to the
// limit, if that is a number one can count to.
#include <coalesce/io/descriptor.h>

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace coalesce {
namespace {

// Runs in a child that shares its parent's memory: no allocation, no sanitizer's bookkeeping.
#define RUNS_IN_THE_CHILD __attribute__((no_sanitize("address", "undefined", "thread")))

constexpr int worth_counting_to = 1 << 20;

// What getdents64 gives; the C library declares none.
struct Entry {
    std::uint64_t inode;
    std::int64_t offset;
    unsigned short length;
    unsigned char type;
    char name[1];
};

RUNS_IN_THE_CHILD bool is_kept(int fd, const int* kept, std::size_t count) noexcept {
    for (std::size_t i = 0; i < count; ++i)
        if (kept[i] == fd) return true;
    return false;
}

RUNS_IN_THE_CHILD bool close_ranges(const int* kept, std::size_t count) noexcept {
    unsigned next = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const auto number = static_cast<unsigned>(kept[i]);
        if (number > next && syscall(SYS_close_range, next, number - 1, 0U) != 0) return false;
        next = number + 1;
    }
    return syscall(SYS_close_range, next, ~0U, 0U) == 0;
}

// The directory itself needs a number: at the limit, one that is to go makes room for it.
RUNS_IN_THE_CHILD int open_list(const int* kept, std::size_t count) noexcept {
    int list = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int fd = 0; list < 0 && errno == EMFILE && fd < worth_counting_to; ++fd) {
        if (is_kept(fd, kept, count) || close(fd) != 0) continue;
        list = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    return list;
}

RUNS_IN_THE_CHILD bool close_listed(const int* kept, std::size_t count) noexcept {
    const int list = open_list(kept, count);
    if (list < 0) return false;
    alignas(Entry) char block[1024];
    long got = 0;
    while ((got = syscall(SYS_getdents64, list, block, sizeof block)) > 0) {
        for (long at = 0; at < got;) {
            const auto* entry = reinterpret_cast<const Entry*>(block + at);
            at += entry->length;
            int fd = 0;
            const char* digit = entry->name;
            for (; *digit >= '0' && *digit <= '9'; ++digit) fd = fd * 10 + (*digit - '0');
            if (digit != entry->name && fd != list && !is_kept(fd, kept, count)) close(fd);
        }
    }
    const int error = errno;
    if (!is_kept(list, kept, count)) close(list);
    errno = error;
    return got == 0;
}

RUNS_IN_THE_CHILD bool close_by_counting(const int* kept, std::size_t count) noexcept {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return false;
    if (limit.rlim_max > worth_counting_to) {
        errno = ENOSYS;
        return false;
    }
    for (int fd = 0; fd < static_cast<int>(limit.rlim_max); ++fd)
        if (!is_kept(fd, kept, count)) close(fd);
    return true;
}

}  // namespace

rlimit raise_descriptor_limit() noexcept {
    rlimit before{};
    if (::getrlimit(RLIMIT_NOFILE, &before) != 0) return before;
    const rlimit most{.rlim_cur = before.rlim_max, .rlim_max = before.rlim_max};
    if (before.rlim_cur != most.rlim_cur) ::setrlimit(RLIMIT_NOFILE, &most);
    return before;
}

RUNS_IN_THE_CHILD bool close_all_but(std::span<const int> kept) noexcept {
    const int* const first = kept.data();
    const std::size_t count = kept.size();
    return close_ranges(first, count) || close_listed(first, count) || close_by_counting(first, count);
}

}  // namespace coalesce
