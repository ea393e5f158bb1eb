// SPDX-License-Identifier: MIT
#include <coalesce/kept/verdict.h>

namespace coalesce {

Verdict judge(const Wish& wish, const KeptTimes& times, const Moment& now) noexcept {
    const auto age = age_of(times.ended, now);
    const auto start_age = age_of(times.started, now);
    if (!wish.reads() || !age || !start_age) return {};
    if (wish.ttl && *age > *wish.ttl) return {};
    if (wish.max_age && *start_age > *wish.max_age) return {};
    if (times.failed && (!wish.keep_failures || *age > *wish.keep_failures)) return {};
    return {.serve = true, .refresh = wish.stale && *age > *wish.stale, .age = *age};
}

bool may_join(const Wish& wish, const Moment& started, const Moment& now) noexcept {
    if (wish.fresh) return false;
    if (!wish.max_age) return true;
    const auto age = age_of(started, now);
    return age && *age <= *wish.max_age;
}

bool may_join(const Wish& wish, std::chrono::system_clock::time_point started, const Moment& now) noexcept {
    const auto wall = std::chrono::nanoseconds(started.time_since_epoch());
    return may_join(wish, Moment{.wall_ns = wall.count()}, now);
}

bool may_join(const Wish& wish, const Run* run, const Moment& now) noexcept {
    if (wish.fresh) return false;
    return run == nullptr || !run->spool || may_join(wish, run->started, now);
}

}  // namespace coalesce
