// SPDX-License-Identifier: MIT
// Fresh requests, and flights closed by their run: at most one successor (F7, F9, CASES 48, 56).

#include "recorder.h"

#include <algorithm>
#include <optional>

using namespace coalesce;
using namespace coalesce::test;

SCENARIO("F7, 56: all fresh requests made during run n share run n+1, which starts when n has landed", "[flight]") {
    GIVEN("a run, two fresh requests and a plain one") {
        ManualExecutor executor;
        Group<int, int> group(executor);
        Runs<> runs;
        Log log;
        auto first = group.join(1, runs.start());
        auto fresh = group.join(1, runs.start(), {.fresh = true});
        auto plain = group.join(1, runs.start());
        auto fresh_too = group.join(1, runs.start(), {.fresh = true});
        first.then(log.callback("first"));
        fresh.then(log.callback("fresh"));
        plain.then(log.callback("plain"));
        fresh_too.then(log.callback("fresh too"));
        executor.run_all();
        CHECK(runs.started == 1);
        CHECK(fresh.leader());
        CHECK(fresh.id() > first.id());
        CHECK(fresh_too.id() == fresh.id());
        CHECK(plain.id() == first.id());

        WHEN("run n lands") {
            runs.land(1);
            THEN("run n+1 starts from a posted task") {
                CHECK(runs.started == 1);
                CHECK(group.size() == 1);
                executor.run_all();
                CHECK(runs.started == 2);
                CHECK(log.take() == Lines{"first: = 1", "plain: = 1"});
                runs.land(2);
                executor.run_all();
                CHECK(log.take() == Lines{"fresh: = 2", "fresh too: = 2"});
            }
            THEN("a fresh request may share run n+1 while it has not started, and not later") {
                auto before = group.join(1, runs.start(), {.fresh = true});
                CHECK(before.id() == fresh.id());
                executor.run_all();
                auto after = group.join(1, runs.start(), {.fresh = true});
                CHECK(after.id() != fresh.id());
                CHECK(after.leader());
            }
        }
        WHEN("run n is cancelled") {
            first.leave();
            plain.leave();
            auto late = group.join(1, runs.start());
            THEN("a plain request shares n+1") { CHECK(late.id() == fresh.id()); }
        }
    }
    GIVEN("an idle key") {
        ManualExecutor executor;
        Group<int, int> group(executor);
        Runs<> runs;
        auto fresh = group.join(1, runs.start(), {.fresh = true});
        THEN("a fresh request leads at once") { CHECK(runs.started == 1); }
    }
}

SCENARIO("F7, F12: a run that stands in a queue has not begun, so fresh requests share it", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    auto leader = group.join(1, [&](Completer<int> completer) {
        completer.queue();
        runs.start()(std::move(completer));
    });
    auto fresh = group.join(1, runs.start(), {.fresh = true});
    CHECK(fresh.id() == leader.id());
    runs.completers[0].begin();
    auto fresh_later = group.join(1, runs.start(), {.fresh = true});
    CHECK(fresh_later.id() != leader.id());
}

SCENARIO("F9, 48: a flight closed to joiners serves those it has, and the next request waits for its end", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    Log log;
    auto first = group.join(1, runs.start());
    first.then(log.callback("first"));
    CHECK(runs.completers[0].joinable());
    runs.completers[0].close_to_joiners();
    CHECK(!runs.completers[0].joinable());
    CHECK(!runs.completers[0].cancelled());
    CHECK(group.find_state(1) == nullptr);
    auto next = group.join(1, runs.start());
    next.then(log.callback("next"));
    CHECK(next.leader());
    executor.run_all();
    CHECK(runs.started == 1);
    runs.land(1);
    executor.run_all();
    CHECK(runs.started == 2);
    runs.land(2);
    executor.run_all();
    CHECK(log.lines == Lines{"first: = 1", "next: = 2"});
}

SCENARIO("F1: runs of one key never overlap over a long chain of fresh requests", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    int running = 0, most = 0, ran = 0;
    std::optional<Completer<int>> run;
    const auto start = [&](Completer<int> completer) {
        most = std::max(most, ++running);
        ++ran;
        run = std::move(completer);
    };
    for (int i = 0; i < 1000; ++i) {
        auto ticket = group.join(1, start, {.fresh = true});
        std::move(ticket).detach();
        if (i % 3 == 2) {
            --running;
            std::exchange(run, std::nullopt)->value(1);
            executor.run_all();
        }
    }
    CHECK(most == 1);
    CHECK(ran == 334);
}
