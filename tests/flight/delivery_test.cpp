// SPDX-License-Identifier: MIT
// Delivery: posted, in join order, each at its own turn, whatever callbacks do (L3, CASES 25-30).

#include "recorder.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

using namespace coalesce;
using namespace coalesce::test;

SCENARIO("L3, 25: callbacks never fire inside a call and fire in the order of joining", "[flight]") {
    GIVEN("a run that completes inside its start") {
        ManualExecutor executor;
        Group<int, int> group(executor);
        Log log;
        auto ticket = group.join(1, [](Completer<int> completer) { completer.value(1); });
        WHEN("a callback is given") {
            ticket.then(log.callback("it"));
            THEN("it is called by the executor only") {
                CHECK(log.lines.empty());
                executor.run_all();
                CHECK(log.lines == Lines{"it: = 1"});
            }
        }
        WHEN("the delivery has passed before the callback is given") {
            executor.run_all();
            CHECK(ticket.landed());
            ticket.then(log.callback("it"));
            CHECK(log.lines.empty());
            executor.run_all();
            THEN("it is posted") { CHECK(log.lines == Lines{"it: = 1"}); }
        }
    }
    GIVEN("four waiters whose callbacks were given in another order") {
        ManualExecutor executor;
        Group<int, int> group(executor);
        Runs<> runs;
        Log log;
        std::vector<Ticket<int>> tickets;
        for (int i = 0; i < 4; ++i) tickets.push_back(group.join(1, runs.start()));
        for (const std::size_t i : {2u, 0u, 3u, 1u}) tickets[i].then(log.callback(std::to_string(i)));
        runs.land(1);
        CHECK(log.lines.empty());
        WHEN("the loop turns") {
            CHECK(executor.run_all() == 1);  // one post a landing
            THEN("they are called in the order of joining") {
                CHECK(log.lines == Lines{"0: = 1", "1: = 1", "2: = 1", "3: = 1"});
            }
        }
    }
}

SCENARIO("L3, 26: a callback may take out a peer, which then is not called", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    Log log;
    std::vector<std::optional<Ticket<int>>> tickets(5);
    for (std::size_t i = 0; i < 5; ++i) {
        tickets[i] = group.join(1, runs.start());
        tickets[i]->then([&, i](const Landing<int>&) {
            log.lines.push_back(std::to_string(i));
            if (i == 1) {
                tickets[0].reset();  // had its turn
                tickets[1].reset();  // has it now
                tickets[2].reset();  // next
                tickets[4]->leave();
            }
        });
    }
    runs.land(1);
    executor.run_all();
    CHECK(log.lines == Lines{"0", "1", "3"});
}

SCENARIO("L3, 27: a callback may destroy the group; the rest are cancelled by a post", "[flight]") {
    GIVEN("a group with a landed flight, a live one and a pending one") {
        ManualExecutor executor;
        std::optional<Group<int, int>> group(std::in_place, executor);
        Runs<> runs;
        Log log;
        std::vector<Ticket<int>> tickets;
        bool told = false;
        for (int i = 0; i < 3; ++i) {
            tickets.push_back(group->join(1, runs.start()));
            tickets.back().then([&, i](const Landing<int>& landing) {
                log.lines.push_back(std::to_string(i) + ": " + test::told(landing));
                if (i == 1) {
                    group.reset();
                    log.lines.push_back("gone, and still " + test::told(landing));
                }
            });
        }
        auto live = group->join(2, runs.start());
        auto pending = group->join(2, runs.start(), {.fresh = true});
        live.then(log.callback("live"));
        pending.then(log.callback("pending"));
        runs.completers[1].on_cancel([&] { told = true; });

        WHEN("it lands") {
            runs.land(1);
            executor.run_all();
            THEN("everybody is told exactly once") {
                CHECK(log.take() == Lines{"0: = 1", "1: = 1", "gone, and still = 1", "2: operation_canceled",
                                          "live: operation_canceled", "pending: operation_canceled"});
                CHECK(told);
            }
            THEN("the completer that is left does nothing") {
                log.take();
                CHECK(runs.completers[0].cancelled());
                CHECK(!runs.completers[0].joinable());
                runs.completers[0].value(5);
                runs.completers.clear();
                executor.run_all();
                CHECK(log.lines.empty());
                CHECK(runs.started == 2);
            }
        }
    }
}

SCENARIO("27: the group may go before its tickets, its completers and its posted tasks", "[flight]") {
    ManualExecutor executor;
    Runs<> runs;
    Log log;
    Ticket<int> without_callback, landed, cancelled_start;
    {
        Group<int, int> group(executor);
        without_callback = group.join(1, runs.start());
        landed = group.join(2, [](Completer<int> completer) { completer.value(2); });
        executor.run_all();  // landed has missed its turn: it keeps its value
        auto detached = group.join(1, runs.start());
        detached.then(log.callback("detached"));
        std::move(detached).detach();
        group.join(3, runs.start()).leave();
        cancelled_start = group.join(3, runs.start());
        runs.completers[1].value(0);  // posts the start of what the group's end cancels
    }
    CHECK(without_callback.landed());
    without_callback.then(log.callback("held"));
    landed.then(log.callback("landed"));
    cancelled_start.then(log.callback("unstarted"));
    executor.run_all();
    CHECK(log.lines == Lines{"held: operation_canceled", "detached: operation_canceled",
                             "unstarted: operation_canceled", "landed: = 2"});
    CHECK(runs.started == 2);
}

SCENARIO("27: a start may destroy the group", "[flight]") {
    ManualExecutor executor;
    std::optional<Group<std::string, int>> group(std::in_place, executor);
    Log log;
    const int ending = GENERATE(0, 1, 2);
    auto ticket = group->join("a", [&](Completer<int> completer) {
        group.reset();
        if (ending == 0) completer.value(1);
        if (ending == 1) throw std::runtime_error("thrown");
    });
    ticket.then(log.callback("it"));
    executor.run_all();
    CHECK(log.lines == Lines{"it: operation_canceled"});
}

SCENARIO("27: a cancel callback that runs in the group's end may still ask, and is refused", "[flight]") {
    ManualExecutor executor;
    Log log;
    Runs<> runs;
    {
        Group<int, int> group(executor);
        auto ticket = group.join(1, runs.start());
        runs.completers[0].on_cancel([&] {
            auto again = group.join(1, runs.start());
            again.then(log.callback("again"));
            std::move(again).detach();
            CHECK(group.empty());
            CHECK(group.cancel(1) == 0);
            runs.completers.clear();
        });
        ticket.then(log.callback("ticket"));
        std::move(ticket).detach();
    }
    executor.run_all();
    CHECK(log.lines == Lines{"ticket: operation_canceled", "again: operation_canceled"});
    CHECK(runs.started == 1);
}

SCENARIO("27: the executor may go with tasks still posted; nothing is called and nothing leaks", "[flight]") {
    Runs<> runs;
    Log log;
    auto captured = std::make_shared<int>();
    const std::weak_ptr<int> watch = captured;
    {
        ManualExecutor executor;
        Group<int, int> group(executor);
        for (int i = 0; i < 3; ++i) {
            auto ticket = group.join(i, runs.start());
            ticket.then([&log, captured](const Landing<int>&) { log.lines.push_back("called"); });
            std::move(ticket).detach();
        }
        captured.reset();
        runs.land(1);
        CHECK(!watch.expired());
    }
    runs.completers.clear();
    CHECK(watch.expired());
    CHECK(log.lines.empty());
}

SCENARIO("L3, 28: a callback may join any key, and dispatch goes on", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    Log log;
    std::vector<Ticket<int>> tickets;
    for (int i = 0; i < 10; ++i) {
        tickets.push_back(group.join(0, runs.start()));
        tickets.back().then([&, i](const Landing<int>&) {
            log.lines.push_back(std::to_string(i));
            // Enough keys to rehash the table during the dispatch, and the key itself.
            for (int key = 0; key < 50; ++key) {
                auto ticket = group.join(key * (i + 1), runs.start());
                std::move(ticket).detach();
            }
        });
    }
    runs.land(1);
    executor.run_all();
    CHECK(log.lines == Lines{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"});
    runs.completers.clear();
    executor.run_all();
    CHECK(group.empty());
}

SCENARIO("L3: a callback given inside a delivery is called later in the same order", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    Log log;
    auto missed = group.join(1, runs.start());
    auto first = group.join(1, runs.start());
    auto second = group.join(1, runs.start());
    first.then([&](const Landing<int>&) {
        missed.then(log.callback("missed"));
        log.lines.push_back("first");
    });
    second.then(log.callback("second"));
    runs.land(1);
    executor.run_all();
    CHECK(log.lines == Lines{"first", "second: = 1", "missed: = 1"});
}

SCENARIO("L3, 30: 100,000 waiters that each ask again are resumed on a flat stack", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    constexpr std::size_t kWaiters = 100'000;
    std::size_t called = 0;
    const char* lowest = nullptr;
    const char* highest = nullptr;
    for (std::size_t i = 0; i < kWaiters; ++i) {
        auto ticket = group.join(1, runs.start());
        ticket.then([&](const Landing<int>&) {
            // Not of a local, which a sanitizer may keep elsewhere.
            const char* const address = static_cast<const char*>(__builtin_frame_address(0));
            lowest = !lowest || address < lowest ? address : lowest;
            highest = !highest || address > highest ? address : highest;
            ++called;
            auto again = group.join(2, runs.start());
            std::move(again).detach();
        });
        std::move(ticket).detach();
    }
    runs.land(1);
    executor.run_all();
    CHECK(called == kWaiters);
    CHECK(runs.started == 2);
    CHECK(highest - lowest < 4096);
}

SCENARIO("L3, 30: a long chain of landings that land others is resumed on a flat stack", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    constexpr int kLinks = 100'000;
    std::vector<Completer<int>> completers;
    for (int i = 0; i < kLinks; ++i) {
        auto ticket = group.join(i, [&](Completer<int> completer) { completers.push_back(std::move(completer)); });
        ticket.then([&, i](const Landing<int>& landing) {
            if (i + 1 < kLinks) completers[static_cast<std::size_t>(i) + 1].value(*landing.value + 1);
        });
        std::move(ticket).detach();
    }
    int last = 0;
    auto watching = group.join(kLinks - 1, [](Completer<int>) {});
    watching.then([&](const Landing<int>& landing) { last = *landing.value; });
    completers[0].value(1);
    executor.run_all();
    CHECK(last == kLinks);
}

SCENARIO("L3: what a dropped callback captured may itself hold a ticket", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    auto outer = group.join(1, runs.start());
    auto inner = std::make_shared<Ticket<int>>(group.join(2, runs.start()));
    outer.then([inner = std::move(inner)](const Landing<int>&) {});
    bool inner_told = false;
    runs.completers[1].on_cancel([&] {
        inner_told = true;
        runs.completers.clear();
    });
    outer.leave();
    CHECK(inner_told);
    executor.run_all();
    CHECK(group.empty());
}
