// SPDX-License-Identifier: MIT
// Requests that would wait for themselves are refused at once (F11, CASES 21-24, 64).

#include "recorder.h"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

using namespace coalesce;
using namespace coalesce::test;

SCENARIO("F11, 21: a run that asks for its own key is told at once", "[flight]") {
    GIVEN("a run that asks for its own key") {
        ManualExecutor executor;
        Group<int, int> group(executor);
        Runs<> runs;
        Log log;
        const bool fresh = GENERATE(false, true);

        WHEN("it asks inside its start") {
            auto outer = group.join(1, [&](Completer<int> completer) {
                auto inner = group.join(1, runs.start(), {.fresh = fresh});
                CHECK(inner.id() == 0);
                inner.then(log.callback("inner"));
                CHECK(completer.waiters() == 1);
                std::move(inner).detach();
                runs.start()(std::move(completer));
            });
            outer.then(log.callback("outer"));
            executor.run_all();
            THEN("it is told, and its own flight is unharmed") {
                CHECK(log.take() == Lines{"inner: deadlock"});
                runs.land(1);
                executor.run_all();
                CHECK(log.take() == Lines{"outer: = 1"});
            }
        }
        WHEN("it asks later, on its own behalf") {
            auto outer = group.join(1, runs.start());
            auto inner = group.join(1, runs.start(), {.fresh = fresh, .on_behalf_of = runs.completers[0].flight()});
            inner.then(log.callback("inner"));
            executor.run_all();
            THEN("it is told") { CHECK(log.take() == Lines{"inner: deadlock"}); }
        }
        WHEN("it asks for itself while it winds down") {
            group.join(1, runs.start()).leave();
            auto inner = group.join(1, runs.start(), {.on_behalf_of = runs.completers[0].flight()});
            inner.then(log.callback("inner"));
            executor.run_all();
            THEN("the successor would wait for it: it is told") { CHECK(log.take() == Lines{"inner: deadlock"}); }
        }
        WHEN("it asks for itself after it was forgotten") {
            auto outer = group.join(1, runs.start());
            group.forget(1);
            auto inner = group.join(1, runs.start(), {.fresh = fresh, .on_behalf_of = runs.completers[0].flight()});
            THEN("that is another run, which it may wait for") { CHECK(inner.leader()); }
        }
        WHEN("it asks independently") {
            auto outer = group.join(1, [&](Completer<int> completer) {
                auto inner = group.join(1, runs.start(), {.independent = true});
                inner.then(log.callback("inner"));
                std::move(inner).detach();
                runs.start()(std::move(completer));
            });
            runs.land(1);
            executor.run_all();
            THEN("nobody waits for it, so it joins") { CHECK(log.take() == Lines{"inner: = 1"}); }
        }
    }
}

SCENARIO("F11, 23: a run that asks for another key works", "[flight]") {
    ManualExecutor executor;
    Group<std::string, int> group(executor);
    Log log;
    auto outer = group.join("outer", [&](Completer<int> completer) {
        auto inner = group.join("inner", [](Completer<int> inner_run) { inner_run.value(20); });
        inner.then([outer_run = std::make_shared<Completer<int>>(std::move(completer))](const Landing<int>& landing) {
            outer_run->value(*landing.value + 1);
        });
        std::move(inner).detach();
    });
    outer.then(log.callback("outer"));
    executor.run_all();
    CHECK(log.lines == Lines{"outer: = 21"});
    CHECK(group.empty());
}

SCENARIO("F11, 22: the request that closes a ring is refused, over any number of flights and groups", "[flight]") {
    GIVEN("a chain of flights in two groups of different types, each waiting for the next") {
        ManualExecutor executor;
        Group<int, int> ints(executor);
        struct Other {};
        Group<std::string, void, Other> strings(executor);
        Runs<int> int_runs;
        Runs<void, Other> string_runs;
        Log log;
        std::vector<FlightRef> chain;
        std::vector<Ticket<int>> int_tickets;
        std::vector<Ticket<void, Other>> string_tickets;
        const int length = GENERATE(2, 3, 1000);
        for (int i = 0; i < length; ++i) {
            const JoinOptions on_behalf{.on_behalf_of = i ? chain.back() : FlightRef{}};
            if (i % 2 == 0) {
                int_tickets.push_back(ints.join(i, int_runs.start(), on_behalf));
                chain.push_back(int_tickets.back().ref());
            } else {
                string_tickets.push_back(strings.join(std::to_string(i), string_runs.start(), on_behalf));
                chain.push_back(string_tickets.back().ref());
            }
        }
        WHEN("the last asks for the first") {
            auto closing = ints.join(0, int_runs.start(), {.on_behalf_of = chain.back()});
            closing.then(log.callback("closing"));
            executor.run_all();
            THEN("it is refused") {
                CHECK(log.lines == Lines{"closing: deadlock"});
                CHECK(int_runs.completers[0].waiters() == 1);
            }
        }
        WHEN("somebody else asks for the first") {
            auto outside = ints.join(0, int_runs.start());
            auto below = ints.join(-1, int_runs.start());
            auto for_below = ints.join(0, int_runs.start(), {.on_behalf_of = below.ref()});
            THEN("that closes no ring") {
                CHECK(outside.id() == chain[0].id());
                CHECK(for_below.id() == chain[0].id());
            }
        }
        WHEN("one in the chain stops waiting, and then the last asks for the first") {
            string_tickets.front().leave();
            auto closing = ints.join(0, int_runs.start(), {.on_behalf_of = chain.back()});
            THEN("there is no ring any more") { CHECK((length < 2 || closing.id() == chain[0].id())); }
        }
        WHEN("one in the chain is detached instead") {
            std::move(string_tickets.front()).detach();
            auto closing = ints.join(0, int_runs.start(), {.on_behalf_of = chain.back()});
            THEN("its membership, and so the ring, is still there") { CHECK(closing.id() == 0); }
        }
        WHEN("one in the chain has landed, not yet delivered") {
            string_runs.completers[0].value();
            auto closing = ints.join(0, int_runs.start(), {.on_behalf_of = chain.back()});
            THEN("nobody waits for that one") { CHECK((length == 2 || closing.id() == chain[0].id())); }
        }
        WHEN("one in the chain was cancelled for all and winds down") {
            strings.cancel("1");
            auto closing = ints.join(0, int_runs.start(), {.on_behalf_of = chain.back()});
            THEN("nobody waits for that one") { CHECK(closing.id() == chain[0].id()); }
        }
    }
}

SCENARIO("F11: a successor waits for its predecessor, which closes rings too", "[flight]") {
    ManualExecutor executor;
    Group<std::string, int> group(executor);
    Runs<> runs;
    auto a = group.join("a", runs.start());
    auto fresh_a = group.join("a", runs.start(), {.fresh = true});
    auto b = group.join("b", runs.start(), {.on_behalf_of = a.ref()});
    WHEN("what the predecessor waits for asks for the successor") {
        auto closing = group.join("a", runs.start(), {.fresh = true, .on_behalf_of = b.ref()});
        THEN("it is refused") { CHECK(closing.id() == 0); }
    }
    WHEN("the predecessor has landed") {
        runs.land(1);
        auto open = group.join("a", runs.start(), {.fresh = true, .on_behalf_of = b.ref()});
        THEN("it is not") { CHECK(open.id() == fresh_a.id()); }
    }
}

SCENARIO("F11, 24: two branches that meet on one flight are no ring", "[flight]") {
    ManualExecutor executor;
    Group<std::string, int> group(executor);
    Runs<> runs;
    auto root = group.join("root", runs.start());
    auto left = group.join("left", runs.start(), {.on_behalf_of = root.ref()});
    auto right = group.join("right", runs.start(), {.on_behalf_of = root.ref()});
    auto meet = group.join("shared", runs.start(), {.on_behalf_of = left.ref()});
    auto meet_too = group.join("shared", runs.start(), {.on_behalf_of = right.ref()});
    CHECK(meet.id() == meet_too.id());
    CHECK(meet.id() != 0);
    CHECK(group.join("root", runs.start(), {.on_behalf_of = meet.ref()}).id() == 0);
}

SCENARIO("F11: the flight whose start is on the stack is the one that asks, and only then", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    CHECK(!FlightRef::current());
    FlightRef seen;
    auto outer = group.join(1, [&](Completer<int> completer) {
        seen = FlightRef::current();
        CHECK(seen == completer.flight());
        auto inner = group.join(2, [&](Completer<int> inner_run) {
            CHECK(FlightRef::current() == inner_run.flight());
            auto closing = group.join(1, runs.start());
            CHECK(closing.id() == 0);
            inner_run.on_cancel([] { CHECK(!FlightRef::current()); });
            group.cancel(2);
            runs.start()(std::move(inner_run));
        });
        CHECK(FlightRef::current() == completer.flight());
        inner.then([&](const Landing<int>&) { CHECK(!FlightRef::current()); });
        executor.run_all();  // a nested loop: callbacks are nobody's run
        runs.start()(std::move(completer));
    });
    CHECK(!FlightRef::current());
    {
        const FlightScope scope{seen};
        CHECK(group.join(1, runs.start()).id() == 0);
    }
    CHECK(!FlightRef::current());
}

SCENARIO("F11: a deferred start has its own flight around it as well", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    group.join(1, runs.start()).leave();
    bool refused = false;
    auto next = group.join(1, [&](Completer<int> completer) {
        refused = group.join(1, runs.start()).id() == 0;
        runs.start()(std::move(completer));
    });
    runs.land(1);
    executor.run_all();
    CHECK(refused);
}

SCENARIO("F11: a chain of 200,000 flights is searched on a flat stack", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    std::vector<Completer<int>> completers;
    const auto start = [&](Completer<int> completer) { completers.push_back(std::move(completer)); };
    std::vector<Ticket<int>> tickets;
    FlightRef last;
    // Each new flight asks for the one before it: a search has nothing to walk until the ring is tried.
    for (int i = 0; i < 200'000; ++i) {
        tickets.push_back(group.join(i, start));
        if (i) tickets.push_back(group.join(i - 1, start, {.on_behalf_of = tickets.back().ref()}));
        last = FlightRef(tickets[tickets.size() - (i ? 2 : 1)].ref());
    }
    CHECK(group.join(199'999, start, {.on_behalf_of = tickets.front().ref()}).id() == 0);
    // The ends may go in any order: edges outlive neither.
    tickets.clear();
    completers.clear();
    executor.run_all();
    CHECK(group.empty());
    CHECK(last.landed());
}
