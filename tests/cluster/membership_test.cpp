// SPDX-License-Identifier: MIT
// One flight's part among machines, against a real engine, where it hangs on a clock: this machine's stands still, and
// is moved on as by a suspend, of which neither the loop's timers nor the engine know.
#include <coalesce/cluster/cluster.h>
#include <coalesce/io/boot_time.h>
#include <coalesce/io/loop.h>

#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <memory>
#include <string>

#include "../catch.h"
#include "redis_server.h"

using namespace coalesce;
using namespace std::chrono_literals;

namespace {

std::chrono::milliseconds boot_time{1'000'000};

// A flight that is asked about.
struct Flight {
    enum class Told { nothing, run, follow };

    Flight(Loop& loop, Cluster& cluster, std::chrono::milliseconds asked_at) {
        job.command.surroundings = std::make_shared<const Surroundings>();
        job.shared_as = "command";
        run.newest_request = asked_at;
        membership = cluster.ask(1, job, run,
                                 {.run_here =
                                      [this, &loop] {
                                          told = Told::run;
                                          loop.stop();
                                      },
                                  .waits = [] {},
                                  .follow =
                                      [this, &loop](std::unique_ptr<RunSource>) {
                                          told = Told::follow;
                                          loop.stop();
                                      },
                                  .over_elsewhere = [] {},
                                  .again = [] { return false; },
                                  .nobody_else = [] {},
                                  .somebody_else = [] {},
                                  .over = [](Outcome, std::chrono::milliseconds) {}});
        while (told == Told::nothing) loop.run();
    }
    void end(Loop& loop) {
        bool over = false;
        membership->conclude({.outcome = Outcome::exited(0)}, [&] {
            over = true;
            loop.stop();
        });
        while (!over) loop.run();
    }

    Job job;
    Run run;
    Told told = Told::nothing;
    std::unique_ptr<Sharing::Membership> membership;
};

std::unique_ptr<Guard> some_guard() {
    auto guard = Guard::start();
    REQUIRE(guard);
    return std::move(*guard);
}

// One that asks that engine.
struct Machine {
    explicit Machine(const RedisServer& server)
        : cluster(loop, {{*EngineUrl::parse(server.url()), {}}, Secret(std::string(32, 's'))}, *guard, 0ms) {}

    const std::unique_ptr<Guard> guard = some_guard();
    Loop loop;
    Cluster cluster;
};

}  // namespace

// What since_boot() asks; the library's own is not linked.
extern "C" int clock_gettime(clockid_t clock, timespec* now) noexcept {
    if (clock != CLOCK_BOOTTIME) return static_cast<int>(::syscall(SYS_clock_gettime, clock, now));
    *now = {.tv_sec = boot_time.count() / 1000, .tv_nsec = boot_time.count() % 1000 * 1'000'000};
    return 0;
}

TEST_CASE("F2, M15: a run that ended in the millisecond before the request is not shared, wherever that begins",
          "[cluster]") {
    const auto server = RedisServer::start({"--appendonly", "yes"});
    if (!server) return;
    Machine machine(*server);
    for (int round = 0; round < 100; ++round) {
        const auto asked_at = since_boot();
        ++boot_time;  // as it does a microsecond later
        Flight flight(machine.loop, machine.cluster, asked_at);
        REQUIRE(flight.told == Flight::Told::run);
        flight.end(machine.loop);
    }
}

TEST_CASE("M28: what is killed after its lease has passed is not its command's end, though the lease was renewed then",
          "[cluster]") {
    const auto server = RedisServer::start({"--appendonly", "yes"});
    if (!server) return;
    Machine machine(*server);
    Flight flight(machine.loop, machine.cluster, since_boot());
    REQUIRE(flight.told == Flight::Told::run);
    CHECK(flight.membership->judge(Outcome::signalled(SIGKILL)) == Outcome::signalled(SIGKILL));
    boot_time += 55s;  // of a lease of 60
    CHECK(flight.membership->judge(Outcome::exited(0)).kind == Outcome::Kind::lost);
    flight.membership->alone();  // a reason to renew it
    Timer look(machine.loop);
    look.start(1ms, 1ms, [&] { machine.loop.stop(); });
    while (flight.membership->judge(Outcome::exited(0)).kind == Outcome::Kind::lost) machine.loop.run();
    CHECK(flight.membership->judge(Outcome::signalled(SIGKILL)).kind == Outcome::Kind::lost);
    CHECK(flight.membership->judge(Outcome::exited(137)).kind == Outcome::Kind::lost);  // of a line without a shell
}
