// SPDX-License-Identifier: MIT
// When a stale result's refresh counts as tried, and when nothing has been learnt (SPEC T5, T6, F14).
#include <coalesce/kept/kept_desk.h>
#include <coalesce/kept/refreshes.h>

#include "../catch.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include <coalesce/io/loop.h>

#include "../scratch.h"
#include "kept_flights.h"

using namespace coalesce;
using namespace std::chrono_literals;
using std::chrono::milliseconds;
namespace fs = std::filesystem;

namespace {

RefreshOrders stale_orders() {
    RefreshOrders orders;
    orders.wish = {.ttl = 2h, .stale = 1h};
    return orders;
}

// How often the program was to be made, of two hits on what is stale.
int tries(const std::string& path, const std::string& script, milliseconds second_stale = 1h) {
    Loop loop;
    int made = 0;
    Refreshes refreshes(
        loop,
        [&](const RefreshOrders&) {
            ++made;
            return RefreshProgram{.argv = {"sh", "-c", script}, .env = {}, .path = path, .orders = "orders"};
        },
        {});
    for (int hit = 0; hit < 2; ++hit) {
        int told = 0;
        RefreshOrders orders = stale_orders();
        if (hit == 1) orders.wish.stale = second_stale;
        refreshes.start("key", 1, orders, [&](const Result<>& started) {
            ++told;
            CHECK(started.ok() == (path == "/bin/sh"));
        });
        loop.run();
        CHECK(told == 1);
    }
    return made;
}

// Whether a refresh that came to this is noted as one that failed.
bool is_noted(Outcome outcome) {
    const Scratch scratch;
    const StorePlace place{.base = scratch.path("cache"), .name = "1"};
    REQUIRE(KeptStore::open(place, true));
    const SpoolLimits limits;
    KeptFlight flight = some_flight(place, stale_orders().wish, limits);
    flight.is_refresh();
    flight.keep(std::make_shared<const RunResult>(without_output(std::move(outcome), limits)), now(), std::nullopt);
    return fs::exists(place.path() + "/" + flight.key_name() + ".t");
}

}  // namespace

TEST_CASE("T5: a refresh whose program was started counts as tried", "[refreshes]") {
    CHECK(tries("/bin/sh", "exit 0") == 1);
}

TEST_CASE("T5: for how long it counts is said by who asks", "[refreshes]") {
    CHECK(tries("/bin/sh", "exit 0", 0ms) == 2);  // a result that old is stale to the second
}

TEST_CASE("T5, F14: a refresh that could not be started is tried again at the next hit", "[refreshes]") {
    CHECK(tries("/no/such/program", "") == 2);
    CHECK(tries("/bin/sh", "exit 125") == 2);
}

TEST_CASE("T5: whatever a refresh's command came to is noted", "[refreshes]") {
    for (const Outcome& outcome :
         {Outcome::exited(1), Outcome::signalled(9), Outcome::timed_out(), Outcome::cancelled(), Outcome::lost("it"),
          Outcome::not_started(ENOENT, "no such"), Outcome::not_started(EACCES, "not executable"),
          Outcome::refused(ENOENT, "no such directory"), Outcome::refused(0, "refused")}) {
        INFO(outcome.describe());
        CHECK(is_noted(outcome));
    }
}

TEST_CASE("T5, F14: a refresh that never began for want of room leaves no note", "[refreshes]") {
    for (const Outcome& outcome : {Outcome::refused(EAGAIN, "no process"), Outcome::refused(EMFILE, "no pipe"),
                                   Outcome::refused(ENOSPC, "no pty"), Outcome::not_started(ENOMEM, "no memory"),
                                   Outcome::engine_down("no engine")}) {
        INFO(outcome.describe());
        CHECK(!is_noted(outcome));
    }
}

// As PID 1 a door reaps whatever comes, but for those.
TEST_CASE("F13: the program of a refresh is known as one's own for as long as it runs", "[refreshes]") {
    const Scratch scratch;
    for (const char* const name : {"begun", "gate"}) REQUIRE(::mkfifo(scratch.path(name).c_str(), 0600) == 0);
    const Descriptor begun(::open(scratch.path("begun").c_str(), O_RDWR | O_CLOEXEC));
    const Descriptor gate(::open(scratch.path("gate").c_str(), O_RDWR | O_CLOEXEC));
    Loop loop;
    Refreshes refreshes(
        loop,
        [&](const RefreshOrders&) {
            return RefreshProgram{
                .argv = {"sh", "-c", "echo $$ >" + scratch.path("begun") + "; read x <" + scratch.path("gate")},
                .env = {},
                .path = "/bin/sh",
                .orders = "orders"};
        },
        {});
    refreshes.start("key", 0, stale_orders(), {});
    std::array<char, 32> said{};
    REQUIRE(::read(begun.get(), said.data(), said.size() - 1) > 0);
    const pid_t pid = std::atoi(said.data());
    CHECK(refreshes.is_own(pid));
    CHECK_FALSE(refreshes.is_own(::getpid()));
    REQUIRE(::write(gate.get(), "\n", 1) == 1);
    loop.run();
    CHECK_FALSE(refreshes.is_own(pid));
}

// Each asks for another key. They took a process and descriptors each, as many as a client cared to send requests.
TEST_CASE("T6, F14: so many programs at a time, and all who wait for one are told", "[refreshes]") {
    const Scratch scratch;
    REQUIRE(::mkfifo(scratch.path("gate").c_str(), 0600) == 0);
    const Descriptor gate(::open(scratch.path("gate").c_str(), O_RDWR | O_CLOEXEC));
    Loop loop;
    std::size_t made = 0;
    std::size_t told = 0;
    Refreshes refreshes(loop,
                        [&](const RefreshOrders&) {
                            ++made;
                            return RefreshProgram{.argv = {"sh", "-c", "head -c1 " + scratch.path("gate")},
                                                  .env = {"PATH=/usr/bin:/bin"},
                                                  .path = "/bin/sh",
                                                  .orders = "orders"};
                        },
                        {});
    constexpr std::size_t all = 100;
    bool ending = false;
    for (std::size_t i = 0; i < all; ++i)
        refreshes.start("key" + std::to_string(i), 0, stale_orders(), [&](const Result<>& started) {
            ++told;
            CHECK(started.ok() == !ending);
        });
    CHECK(made == told);
    const std::size_t at_a_time = made;
    REQUIRE(at_a_time < all);
    SECTION("those for which nobody waits wait too, but not without end") {
        constexpr std::size_t many = 5000;
        for (std::size_t i = 0; i < many; ++i) refreshes.start("stale" + std::to_string(i), 1, stale_orders(), {});
        CHECK(made == at_a_time);
        REQUIRE(::write(gate.get(), std::string(many, 'x').data(), many) == many);
        loop.run();
        CHECK(told == all);
        CHECK(made > all);
        CHECK(made < many);
        CHECK(refreshes.count() == made);
        const std::size_t before = made;
        refreshes.start("stale" + std::to_string(many - 1), 1, stale_orders(), {});  // the next hit tries again
        CHECK(made == before + 1);
        loop.run();
    }
    SECTION("nor do more wait than there can be requesters") {
        std::size_t refused = 0;
        for (std::size_t i = 0; i < 20'000; ++i)
            refreshes.start("more" + std::to_string(i), 0, stale_orders(),
                            [&](const Result<>& started) { refused += started ? 0 : 1; });
        CHECK(made == at_a_time);
        CHECK(refused > 0);
        bool is_due = true;  // where none is, none has to be started
        refreshes.start("more0", 0, stale_orders(), [&](const Result<>& started) { is_due = !started; });
        CHECK_FALSE(is_due);
    }
    SECTION("none of them is started when it is over") {  // B6, S8: all were, before the program ended
        ending = true;
        refreshes.start_no_more();
        bool started_late = true;
        refreshes.start("late", 0, stale_orders(), [&](const Result<>& started) { started_late = started.ok(); });
        CHECK_FALSE(started_late);
        REQUIRE(::write(gate.get(), std::string(all, 'x').data(), all) == all);
        loop.run();
        CHECK(made == at_a_time);
        CHECK(told == all);
    }
    SECTION("each that is under way makes room for the next") {
        REQUIRE(::write(gate.get(), std::string(all, 'x').data(), all) == all);
        loop.run();
        CHECK(made == all);
        CHECK(told == all);
    }
}

TEST_CASE("T6, F14: who warms through a door hears that there is no room to have it run", "[refreshes]") {
    const Scratch scratch;
    Loop loop;
    const SpoolLimits limits;
    std::string path = "/bin/sh";
    KeptDesk desk(loop, limits,
                  {.place = {.base = scratch.path("cache"), .name = "1"},
                   .make_refresh_program =
                       [&](const RefreshOrders&) {
                           return RefreshProgram{.argv = {"sh", "-c", ":"}, .env = {}, .path = path, .orders = ""};
                       },
                   .in_child = {}},
                  {.on_not_written = [](const std::string&) {}});
    Job job;
    job.command = {.argv = {"true"}, .surroundings = std::make_shared<const Surroundings>(), .stdin_bytes = {}};
    const auto canonical = some_surroundings();
    const auto warmed = [&](std::string_view words) {
        std::shared_ptr<const RunResult> answer;
        desk.look({.job = job, .surroundings = canonical, .words = words, .wish = {.ttl = 1h, .warm = true}},
                  [&](std::shared_ptr<const RunResult> result) { answer = std::move(result); });
        loop.run();
        REQUIRE(answer);
        return answer->outcome.status();
    };
    CHECK(warmed("one") == 0);
    path = "/no/such/program";
    CHECK(warmed("other") == 125);
}
