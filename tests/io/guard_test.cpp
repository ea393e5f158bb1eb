// SPDX-License-Identifier: MIT
// The guard's deadlines. What it does when its owner is gone is tests/faults' business.
#include <coalesce/io/guard.h>

#include <coalesce/io/boot_time.h>
#include <coalesce/io/child.h>
#include <coalesce/io/loop.h>

#include <signal.h>

#include <memory>
#include <string>
#include <vector>

#include "../catch.h"

using namespace coalesce;
using namespace std::chrono_literals;

namespace {

// A command that ends only when it is killed.
std::unique_ptr<Child> endless(Loop& loop, Guard& guard, std::uint32_t deadline, Outcome& end) {
    const std::vector<std::string> argv{"/bin/sleep", "1000000"};
    const std::vector<std::string> env;
    auto started = Child::start(loop, {.argv = argv, .env = env, .guard = &guard, .guard_deadline = deadline}, {},
                                {.on_output = [](Stream, std::span<const char>) {},
                                 .on_ended = [&end](Outcome outcome) { end = std::move(outcome); }});
    REQUIRE(started.child);
    return std::move(started.child);
}

void run_until_signalled(Loop& loop, const Outcome& outcome) {
    while (outcome.kind != Outcome::Kind::signalled) {
        loop.post([&loop] { loop.stop(); });
        loop.run();
    }
}

}  // namespace

TEST_CASE("M29: a deadline that passes ends the runs that have its number, and no others", "[guard]") {
    auto guard = Guard::start();
    REQUIRE(guard);
    Loop loop;
    auto deadline = (*guard)->reserve_deadline();
    auto other = (*guard)->reserve_deadline();
    REQUIRE(deadline.number() != 0);
    REQUIRE(other.number() != deadline.number());
    Outcome ended;
    Outcome spared;
    other.set(since_boot() + 1h);
    deadline.set(since_boot() + 1h);
    const auto child = endless(loop, **guard, deadline.number(), ended);
    auto beside = endless(loop, **guard, other.number(), spared);
    auto unbound = endless(loop, **guard, 0, spared);
    SECTION("brought forward") { deadline.set(since_boot() + 20ms); }
    SECTION("in the past") { deadline.set(since_boot() - 1h); }
    run_until_signalled(loop, ended);
    CHECK(ended == Outcome::signalled(SIGKILL));
    CHECK(spared.kind == Outcome::Kind::lost);  // as it was made
    beside.reset();
    unbound.reset();
}

TEST_CASE("M29: a run that begins when its deadline has passed is ended, too", "[guard]") {
    auto guard = Guard::start();
    REQUIRE(guard);
    Loop loop;
    auto deadline = (*guard)->reserve_deadline();
    Outcome ended;
    deadline.set(since_boot() - 1h);  // before the boot, perhaps
    const auto child = endless(loop, **guard, deadline.number(), ended);
    run_until_signalled(loop, ended);
    CHECK(ended == Outcome::signalled(SIGKILL));
}

TEST_CASE("M29: a deadline that was put off, or is there no more, ends nothing", "[guard]") {
    auto guard = Guard::start();
    REQUIRE(guard);
    Loop loop;
    auto put_off = (*guard)->reserve_deadline();
    auto cleared = (*guard)->reserve_deadline();
    auto last = (*guard)->reserve_deadline();
    Outcome spared;
    Outcome ended;
    auto one = endless(loop, **guard, put_off.number(), spared);
    auto two = endless(loop, **guard, cleared.number(), spared);
    auto three = endless(loop, **guard, last.number(), ended);
    // All three come due in the same look of the guard's, or never.
    const auto soon = since_boot() + 50ms;
    put_off.set(soon);
    cleared.set(soon);
    last.set(soon);
    put_off.set(soon + 1h);
    cleared.clear();
    run_until_signalled(loop, ended);
    CHECK(spared.kind == Outcome::Kind::lost);
    one.reset();
    two.reset();
    three.reset();
    const auto number = put_off.number();
    put_off = {};
    CHECK((*guard)->reserve_deadline().number() == number);  // free again
}
