// SPDX-License-Identifier: MIT
// The units of time, their limit, and the two-unit form people read.
#include <coalesce/command/duration.h>

#include <array>
#include <cstdint>

#include <coalesce/command/command.h>
#include <coalesce/command/number.h>

namespace coalesce {
namespace {

struct Unit {
    std::string_view name;
    std::uint64_t ms;
};
constexpr std::uint64_t kSecond = 1000;
constexpr std::uint64_t kMinute = 60 * kSecond;
constexpr std::uint64_t kHour = 60 * kMinute;
constexpr std::uint64_t kDay = 24 * kHour;
constexpr std::array<Unit, 6> kUnits = {
    {{"", kSecond}, {"ms", 1}, {"s", kSecond}, {"m", kMinute}, {"h", kHour}, {"d", kDay}}};
constexpr std::uint64_t kLongest = 36525 * kDay;  // a hundred years; timers of every kind can hold it

Error not_a_duration(std::string_view text) {
    return {{}, display_word(text) + " is not a duration: use a number with ms, s, m, h or d, such as 1.5s"};
}

std::string two_units(std::uint64_t ms, Unit large, Unit small) {
    std::string out = std::to_string(ms / large.ms) + std::string(large.name);
    if (const std::uint64_t rest = ms % large.ms / small.ms; rest != 0)
        out += " " + std::to_string(rest) + std::string(small.name);
    return out;
}

std::string seconds_and_tenth(std::uint64_t ms) {
    std::string out = std::to_string(ms / kSecond);
    if (const std::uint64_t tenth = ms % kSecond / 100; tenth != 0) out += "." + std::to_string(tenth);
    return out + "s";
}

}  // namespace

Result<std::chrono::milliseconds> parse_duration(std::string_view text) {
    const auto number = split_decimal(text);
    if (!number) return not_a_duration(text);
    for (const Unit& unit : kUnits) {
        if (unit.name != number->unit) continue;
        const auto ms = scaled(*number, unit.ms, kLongest, Rounding::up);
        if (!ms) return Error{{}, display_word(text) + " is too long a duration: 100 years are the most"};
        return std::chrono::milliseconds(static_cast<std::chrono::milliseconds::rep>(*ms));
    }
    return not_a_duration(text);
}

std::string format_duration(std::chrono::nanoseconds duration) {
    const auto whole = std::chrono::duration_cast<std::chrono::milliseconds>(duration);
    if (whole.count() < 0) return "-" + format_duration(-whole);
    const auto ms = static_cast<std::uint64_t>(whole.count());
    if (ms == 0) return "0s";
    if (ms < kSecond) return std::to_string(ms) + "ms";
    if (ms < kMinute) return seconds_and_tenth(ms);
    if (ms < kHour) return two_units(ms, {"m", kMinute}, {"s", kSecond});
    if (ms < kDay) return two_units(ms, {"h", kHour}, {"m", kMinute});
    return two_units(ms, {"d", kDay}, {"h", kHour});
}

}  // namespace coalesce
