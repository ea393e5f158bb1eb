// SPDX-License-Identifier: MIT
#include <coalesce/kept/moment.h>

#include <time.h>

#include <algorithm>
#include <cstddef>
#include <string_view>

#include <coalesce/io/process_facts.h>

namespace coalesce {
namespace {

std::int64_t read_ns(clockid_t clock) {
    timespec time{};
    ::clock_gettime(clock, &time);
    return nanoseconds_of(time);
}

// "f3b1c2d4-…": 32 hexadecimal digits and four dashes. Anything else is not known.
BootId read_boot_id() {
    BootId id{};
    std::size_t digits = 0;
    for (const char character : boot_id()) {
        static constexpr std::string_view hexadecimal = "0123456789abcdef";
        const std::size_t value = hexadecimal.find(character);
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

Moment now() { return {.wall_ns = read_ns(CLOCK_REALTIME), .boot_ns = read_ns(CLOCK_BOOTTIME), .boot = own_boot()}; }

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
