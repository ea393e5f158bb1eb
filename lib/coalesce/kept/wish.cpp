// SPDX-License-Identifier: MIT
#include <coalesce/kept/wish.h>

#include <algorithm>

namespace coalesce {
namespace {

void take_longer(std::optional<std::chrono::milliseconds>& time, std::optional<std::chrono::milliseconds> other) {
    if (other && (!time || *time < *other)) time = other;
}

void take_shorter(std::optional<std::chrono::milliseconds>& time, std::optional<std::chrono::milliseconds> other) {
    if (other && (!time || *time > *other)) time = other;
}

}  // namespace

Result<> check(Wish& wish) {
    if (wish.ttl && wish.ttl->count() == 0) wish.ttl.reset();
    if (wish.keep_failures && wish.keep_failures->count() == 0) wish.keep_failures.reset();
    const auto refused = [](const char* why) { return Error{{}, why}; };
    if (wish.stale && !wish.ttl) return refused("--stale needs --ttl: how long a result may be served at all");
    if (wish.stale && *wish.stale >= *wish.ttl) return refused("--stale must be shorter than --ttl");
    if (wish.warm && !wish.ttl) return refused("--warm needs --ttl: how long the result is to be kept");
    if (wish.keep_failures && !wish.ttl) return refused("--keep-failures needs --ttl");
    return {};
}

void widen(Wish& wish, const Wish& other) noexcept {
    take_longer(wish.ttl, other.ttl);
    take_longer(wish.keep_failures, other.keep_failures);
}

void narrow(Wish& wish, const Wish& other) noexcept {
    wish.fresh = wish.fresh || !other.reads();
    take_shorter(wish.ttl, other.ttl);
    take_shorter(wish.max_age, other.max_age);
    take_shorter(wish.stale, other.stale);
    if (!other.keep_failures) wish.keep_failures.reset();
    if (wish.keep_failures) take_shorter(wish.keep_failures, other.keep_failures);
}

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

}  // namespace coalesce
