// SPDX-License-Identifier: MIT
#include <coalesce/command/wish.h>

#include <string>

namespace coalesce {
namespace {

void take_longer(std::optional<std::chrono::milliseconds>& time, std::optional<std::chrono::milliseconds> other) {
    if (other && (!time || *time < *other)) time = other;
}

void take_shorter(std::optional<std::chrono::milliseconds>& time, std::optional<std::chrono::milliseconds> other) {
    if (other && (!time || *time > *other)) time = other;
}

struct Names {
    const char* ttl;
    const char* stale;
    const char* keep_failures;
    const char* warm;
};
constexpr Names options{"--ttl", "--stale", "--keep-failures", "--warm"};
constexpr Names fields{"\"ttl\"", "\"stale\"", "\"keep_failures\"", "\"warm\""};

}  // namespace

Result<> check(Wish& wish, WishWords words) {
    if (wish.ttl && wish.ttl->count() == 0) wish.ttl.reset();
    if (wish.keep_failures && wish.keep_failures->count() == 0) wish.keep_failures.reset();
    const Names& names = words == WishWords::options ? options : fields;
    const auto needs_ttl = [&names](const char* name, const char* why) {
        return Error{{}, std::string(name) + " needs " + names.ttl + why};
    };
    if (wish.stale && !wish.ttl) return needs_ttl(names.stale, ": how long a result may be served at all");
    if (wish.stale && *wish.stale >= *wish.ttl)
        return Error{{}, std::string(names.stale) + " must be shorter than " + names.ttl};
    if (wish.warm && !wish.ttl) return needs_ttl(names.warm, ": how long the result is to be kept");
    if (wish.keep_failures && !wish.ttl) return needs_ttl(names.keep_failures, "");
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

}  // namespace coalesce
