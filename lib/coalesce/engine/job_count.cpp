// SPDX-License-Identifier: MIT
#include <coalesce/engine/job_count.h>

#include <sched.h>

#include <algorithm>
#include <limits>

#include <coalesce/command/command.h>
#include <coalesce/command/number.h>

namespace coalesce {
namespace {

constexpr std::uint64_t most = std::numeric_limits<unsigned>::max();
constexpr std::uint64_t percent_scale = 1'000'000;  // more digits than a processor count needs

}  // namespace

unsigned available_processors() {
    cpu_set_t set;
    return ::sched_getaffinity(0, sizeof set, &set) == 0 ? static_cast<unsigned>(CPU_COUNT(&set)) : 1;
}

Result<unsigned> parse_job_count(std::string_view text, unsigned processors) {
    const Error wrong{{}, display_word(text) + " is not a number of jobs: use one such as 8, 50%, +2 or -1"};
    const char sign = !text.empty() && (text.front() == '+' || text.front() == '-') ? text.front() : '\0';
    const auto number = split_decimal(text.substr(sign == '\0' ? 0 : 1));
    if (!number || number->whole.empty()) return wrong;
    if (number->unit == "%" && sign == '\0') {
        const auto percent = scaled(*number, percent_scale, most * percent_scale, Rounding::up);
        if (!percent || *percent > std::numeric_limits<std::uint64_t>::max() / std::max(processors, 1U)) return wrong;
        constexpr std::uint64_t hundred = 100 * percent_scale;
        const std::uint64_t jobs = *percent * processors / hundred + (*percent * processors % hundred != 0 ? 1 : 0);
        if (jobs > most) return wrong;
        return static_cast<unsigned>(std::max<std::uint64_t>(jobs, 1));
    }
    const auto count = scaled(*number, 1, most, Rounding::down);
    if (!number->unit.empty() || !number->fraction.empty() || !count) return wrong;
    if (sign == '\0') return static_cast<unsigned>(*count);
    if (sign == '-') return static_cast<unsigned>(processors - std::min<std::uint64_t>(processors - 1, *count));
    if (*count > most - processors) return wrong;
    return static_cast<unsigned>(processors + *count);
}

}  // namespace coalesce
