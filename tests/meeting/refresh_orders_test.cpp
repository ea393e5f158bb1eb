// SPDX-License-Identifier: MIT
// Refresh orders, told to another process: nothing of them is lost on the way.

#include <coalesce/engine/key_hash.h>
#include <coalesce/meeting/refresh_orders.h>

#include <memory>
#include <string>

#include "../catch.h"

namespace coalesce {
namespace {

using namespace std::chrono_literals;

TEST_CASE("T4: the orders of a refresh come as they were given, byte for byte", "[meeting]") {
    const auto surroundings =
        std::make_shared<const Surroundings>(Surroundings{.cwd = "/a \xff",
                                                          .env = {"A=\xfe", "B="},
                                                          .umask = 027,
                                                          .terminal = TerminalSize{.columns = 132, .lines = 50}});
    const RefreshOrders given{.command = {.argv = {"/bin/sh", "-c", "x\ny"},
                                          .surroundings = surroundings,
                                          .stdin_bytes = std::string("\0in", 3)},
                              .line = "x\ny",
                              .title = "x y",
                              .surroundings = std::make_shared<const CanonicalSurroundings>("sur\xffroundings"),
                              .words = std::string("wo\0rds", 6),
                              .timeout = 50ms,
                              .grace = 7ms,
                              .run_class = RunClass{.name = "heavy", .jobs = 3},
                              .place = {.base = "/cache\xff",
                                        .name = "store",
                                        .shared = true,
                                        .bounds = {.total_bytes = std::uint64_t{1} << 40, .entry_bytes = 12}},
                              .wish = {.ttl = 1h, .max_age = 2h, .stale = 3s, .keep_failures = 4s, .fresh = true}};
    const RefreshSetting setting{.env = {"OWN=1"},
                                 .place = "/place",
                                 .engine = "redis://there",
                                 .class_jobs = {{"heavy", 2}, {"light", 20}},
                                 .replay_bytes = 77,
                                 .spool_directory = "/spool",
                                 .remembers = false};
    const RefreshProgram program = refresh_program(given, setting);
    CHECK(program.env == setting.env);
    const auto task = refresh_task(program.orders);
    REQUIRE(task);
    CHECK(task.value().place == setting.place);
    CHECK(task.value().engine.empty());  // its key names no machines
    const FlightOrders& orders = task.value().orders;
    CHECK(orders.command.argv == given.command.argv);
    CHECK(orders.command.stdin_bytes == given.command.stdin_bytes);
    Surroundings inherited = *orders.command.surroundings;
    REQUIRE(inherited.env.size() == 3);  // and which flight it runs under
    inherited.env.pop_back();
    CHECK(inherited == *surroundings);
    CHECK(orders.line == given.line);
    CHECK(orders.title == given.title);
    CHECK(orders.directory == surroundings->cwd);
    CHECK(orders.canonical_surroundings == given.surroundings->bytes);
    CHECK(orders.canonical_words == given.words);
    CHECK(orders.key == key_hash({given.surroundings, given.words}));
    CHECK(orders.limits.timeout == given.timeout);
    CHECK(orders.limits.grace == given.grace);
    CHECK(orders.limits.run_class == given.run_class);
    CHECK(orders.class_jobs == setting.class_jobs);
    CHECK(orders.replay_bytes == setting.replay_bytes);
    CHECK(orders.spool_directory == setting.spool_directory);
    CHECK(orders.remembers == setting.remembers);
    REQUIRE(orders.kept);
    CHECK(orders.kept->refresh);
    CHECK(orders.kept->place == given.place);
    CHECK(orders.kept->wish == given.wish);
}

}  // namespace
}  // namespace coalesce
