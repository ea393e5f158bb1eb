// SPDX-License-Identifier: MIT
#include <coalesce/kept/moment.h>

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string_view>

#include <coalesce/io/descriptor.h>

namespace coalesce {
namespace {

std::int64_t nanoseconds_of(clockid_t clock) {
    timespec time{};
    ::clock_gettime(clock, &time);
    return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

// "f3b1c2d4-…": 32 hexadecimal digits and four dashes. Anything else is not known.
BootId read_boot_id() {
    const Descriptor file(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
    char text[64];
    const ssize_t got = file ? ::read(file.get(), text, sizeof text) : -1;
    BootId id{};
    std::size_t digits = 0;
    for (ssize_t at = 0; at < got; ++at) {
        static constexpr std::string_view hexadecimal = "0123456789abcdef";
        const std::size_t value = hexadecimal.find(text[at]);
        if (value == std::string_view::npos) continue;
        if (digits == 2 * id.size()) return {};
        id[digits / 2] = static_cast<unsigned char>(id[digits / 2] << 4 | value);
        ++digits;
    }
    return digits == 2 * id.size() ? id : BootId{};
}

}  // namespace

const BootId& own_boot() {
    static const BootId id = read_boot_id();
    return id;
}

Moment now() {
    return {.wall_ns = nanoseconds_of(CLOCK_REALTIME), .boot_ns = nanoseconds_of(CLOCK_BOOTTIME), .boot = own_boot()};
}

std::optional<std::chrono::nanoseconds> age_of(const Moment& then, const Moment& now) noexcept {
    std::int64_t age = now.wall_ns - then.wall_ns;
    if (age < 0) return std::nullopt;
    if (then.boot == now.boot && now.boot != BootId{}) {
        const std::int64_t since_boot = now.boot_ns - then.boot_ns;
        if (since_boot < 0) return std::nullopt;
        age = std::max(age, since_boot);
    }
    return std::chrono::nanoseconds(age);
}

}  // namespace coalesce
