// SPDX-License-Identifier: MIT
// What a request asks of what is kept, decided without a clock (SPEC T2–T7, T20).
#include <coalesce/kept/verdict.h>

#include "../catch.h"

using namespace coalesce;
using namespace std::chrono_literals;

namespace {

constexpr std::int64_t second = 1'000'000'000;
constexpr BootId this_boot{1};

Moment at(std::int64_t seconds) {
    return {.wall_ns = (1'700'000'000 + seconds) * second, .boot_ns = (5'000 + seconds) * second, .boot = this_boot};
}

KeptTimes ran(std::int64_t from, std::int64_t to, bool failed = false) {
    return {.started = at(from), .ended = at(to), .failed = failed};
}

}  // namespace

TEST_CASE("T1: a request that wishes nothing is served nothing", "[kept]") {
    CHECK_FALSE(judge({}, ran(0, 1), at(1)).serve);
    CHECK_FALSE(Wish{}.reads());
    CHECK_FALSE(Wish{}.anything());
}

TEST_CASE("T2: the reader's time decides, counted from the run's end", "[kept]") {
    const Wish wish{.ttl = 10s};
    CHECK(judge(wish, ran(0, 100), at(110)).serve);
    CHECK_FALSE(judge(wish, ran(0, 100), at(111)).serve);
    CHECK(judge({.ttl = 11s}, ran(0, 100), at(111)).serve);
}

TEST_CASE("T2: of several who share a run the longest time decides how long it is kept", "[kept]") {
    Wish wish{.ttl = 10s};
    widen(wish, {.ttl = 5s, .keep_failures = 3s});
    CHECK(wish.ttl == 10s);
    CHECK(wish.keep_failures == 3s);
    widen(wish, {.ttl = 15s});
    CHECK(wish.ttl == 15s);
    widen(wish, {});
    CHECK(wish.ttl == 15s);
}

TEST_CASE("T3: --max-age counts from the run's start, kept or in flight, and both must hold", "[kept]") {
    const Wish wish{.max_age = 10s};
    CHECK(judge(wish, ran(0, 9), at(10)).serve);
    CHECK_FALSE(judge(wish, ran(0, 9), at(11)).serve);
    CHECK_FALSE(judge({.ttl = 1h, .max_age = 10s}, ran(0, 9), at(11)).serve);
    CHECK_FALSE(judge({.ttl = 1s, .max_age = 1h}, ran(0, 9), at(11)).serve);
    CHECK(may_join(wish, at(0), at(10)));
    CHECK_FALSE(may_join(wish, at(0), at(11)));
    CHECK(may_join({}, at(0), at(1000)));
    CHECK_FALSE(may_join({.fresh = true}, at(0), at(0)));
}

TEST_CASE("T4: past --stale it is served and refreshed", "[kept]") {
    const Wish wish{.ttl = 1h, .stale = 10s};
    CHECK_FALSE(judge(wish, ran(0, 1), at(11)).refresh);
    const Verdict verdict = judge(wish, ran(0, 1), at(12));
    CHECK(verdict.serve);
    CHECK(verdict.refresh);
    CHECK(verdict.age == 11s);
    CHECK_FALSE(judge(wish, ran(0, 1), at(3602)).serve);
}

TEST_CASE("T7: a kept failure is served to who asked for it, and no older than that", "[kept]") {
    CHECK_FALSE(judge({.ttl = 1h}, ran(0, 1, true), at(2)).serve);
    CHECK(judge({.ttl = 1h, .keep_failures = 5s}, ran(0, 1, true), at(6)).serve);
    CHECK_FALSE(judge({.ttl = 1h, .keep_failures = 5s}, ran(0, 1, true), at(7)).serve);
    CHECK(judge({.ttl = 1h, .keep_failures = 5s}, ran(0, 1, false), at(7)).serve);
}

TEST_CASE("F7: --fresh reads nothing and keeps", "[kept]") {
    const Wish wish{.ttl = 1h, .fresh = true};
    CHECK_FALSE(wish.reads());
    CHECK(wish.keeps());
    CHECK_FALSE(judge(wish, ran(0, 0), at(0)).serve);
}

TEST_CASE("T20: age is the larger of what two clocks say, and the future has none", "[kept]") {
    const Moment then = at(0);
    Moment now = at(10);
    CHECK(age_of(then, now) == 10s);
    now.wall_ns = then.wall_ns + second;  // set back
    CHECK(age_of(then, now) == 10s);
    now.wall_ns = then.wall_ns + 60 * second;  // set forward
    CHECK(age_of(then, now) == 60s);
    now.wall_ns = then.wall_ns - 1;
    CHECK_FALSE(age_of(then, now));
    now = at(10);
    now.boot_ns = then.boot_ns - 1;
    CHECK_FALSE(age_of(then, now));
    SECTION("clocks of two boots are not compared") {
        now.boot = BootId{2};
        CHECK(age_of(then, now) == 10s);
    }
    SECTION("nor of boots that nobody knows") {
        Moment unknown = then;
        unknown.boot = now.boot = BootId{};
        CHECK(age_of(unknown, now) == 10s);
    }
}

TEST_CASE("T4, T6, T28: wishes that contradict themselves are refused by name", "[kept]") {
    const auto why = [](Wish wish) {
        const auto checked = check(wish);
        return checked ? std::string("fine") : checked.error().message();
    };
    CHECK(why({.ttl = 10s, .stale = 5s}) == "fine");
    CHECK(why({.stale = 5s}).find("--stale needs --ttl") == 0);
    CHECK(why({.ttl = 5s, .stale = 5s}).find("--stale must be shorter") == 0);
    CHECK(why({.warm = true}).find("--warm needs --ttl") == 0);
    CHECK(why({.keep_failures = 1s}).find("--keep-failures needs --ttl") == 0);
    CHECK(why({.max_age = 0s}) == "fine");
    Wish none{.ttl = 0s};
    CHECK(check(none));
    CHECK_FALSE(none.keeps());
}
