// SPDX-License-Identifier: MIT
// Lead and join: one run a key, shared by all who ask meanwhile (CASES 1-8, 17-20, 31-36).

#include "recorder.h"

#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

using namespace coalesce;
using namespace coalesce::test;

SCENARIO("L1, 1: whoever asks while a run is in flight joins it, and all get the same object", "[flight]") {
    GIVEN("a flight with a leader and two who joined") {
        ManualExecutor executor;
        Group<std::string, int> group(executor);
        Runs<> runs;
        std::vector<std::shared_ptr<const int>> values;
        std::vector<Ticket<int>> tickets;
        for (int i = 0; i < 3; ++i) {
            tickets.push_back(group.join(std::string("make docs"), runs.start()));
            tickets.back().then([&](const Landing<int>& landing) {
                CHECK(landing.requesters == 3);
                values.push_back(landing.value);
            });
        }
        THEN("one run has started, for the leader") {
            CHECK(runs.started == 1);
            CHECK(tickets[0].leader());
            CHECK(!tickets[1].leader());
            CHECK(tickets[0].id() == tickets[2].id());
            CHECK(group.size() == 1);
        }
        WHEN("it lands") {
            runs.land(5);
            CHECK(values.empty());
            executor.run_all();
            THEN("one object is shared") {
                REQUIRE(values.size() == 3);
                CHECK(*values[0] == 5);
                CHECK(values[0] == values[1]);
                CHECK(values[0] == values[2]);
            }
        }
    }
}

SCENARIO("F1, 2: flights of different keys overlap, and land in any order", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    Log log;
    auto one = group.join(1, runs.start());
    auto two = group.join(2, runs.start());
    one.then(log.callback("one"));
    two.then(log.callback("two"));
    CHECK(runs.started == 2);
    CHECK(one.id() < two.id());
    runs.completers[1].value(22);
    executor.run_all();
    CHECK(log.take() == Lines{"two: = 22"});
    runs.completers[0].value(11);
    executor.run_all();
    CHECK(log.take() == Lines{"one: = 11"});
}

SCENARIO("L1: nobody else becomes the leader, whatever memory it is given", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    auto first = group.join(1, runs.start());
    auto second = group.join(1, runs.start());
    CHECK(first.leader());
    first = {};
    auto third = group.join(1, runs.start());
    CHECK(!second.leader());
    CHECK(!third.leader());
    runs.land(1);
    executor.run_all();
    CHECK(!third.leader());
}

struct alignas(64) Wide {
    int number = 0;
};

SCENARIO("L1: state and keys that want to be aligned are", "[flight]") {
    ManualExecutor executor;
    Group<int, int, Wide> group(executor);
    Runs<int, Wide> runs;
    auto one = group.join(1, runs.start());
    auto two = group.join(2, runs.start());
    for (const auto* ticket : {&one, &two})
        CHECK(reinterpret_cast<std::uintptr_t>(&ticket->state()) % alignof(Wide) == 0);
}

SCENARIO("L1, 3: a request after the landing runs again", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    Log log;
    for (int round = 0; round < 3; ++round) {
        auto ticket = group.join(1, runs.start());
        ticket.then(log.callback("it"));
        runs.land(round);
        executor.run_all();
    }
    CHECK(runs.started == 3);
    CHECK(log.lines == Lines{"it: = 0", "it: = 1", "it: = 2"});
}

SCENARIO("F2, 4: a request made on completion starts a new run, and three of them share it", "[flight]") {
    GIVEN("three waiters that all ask again on completion") {
        ManualExecutor executor;
        Group<int, int> group(executor);
        Runs<> runs;
        Log log;
        for (int i = 0; i < 3; ++i) {
            auto ticket = group.join(1, runs.start());
            ticket.then([&, i](const Landing<int>&) {
                auto again = group.join(1, runs.start());
                again.then(log.callback(std::to_string(i)));
                std::move(again).detach();
            });
            std::move(ticket).detach();
        }
        REQUIRE(runs.started == 1);

        WHEN("the flight lands") {
            runs.land(1);
            THEN("the key is free before anything is delivered") { CHECK(group.empty()); }
            executor.run_all();
            THEN("exactly one second run has started") { CHECK(runs.started == 2); }
            runs.land(2);
            executor.run_all();
            THEN("all three get its result, in order") { CHECK(log.lines == Lines{"0: = 2", "1: = 2", "2: = 2"}); }
        }
    }
}

SCENARIO("F2, 20: between the landing and its delivery nobody joins the finished flight", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    Log log;
    auto first = group.join(1, runs.start());
    first.then(log.callback("first"));
    runs.land(1);
    CHECK(group.find_state(1) == nullptr);
    auto second = group.join(1, runs.start());
    second.then(log.callback("second"));
    CHECK(second.leader());
    CHECK(runs.started == 2);
    runs.land(2);
    executor.run_all();
    CHECK(log.lines == Lines{"first: = 1", "second: = 2"});
}

SCENARIO("F4, 5, 67: a failure is shared like a success, and the next request retries", "[flight]") {
    GIVEN("1,000 waiters on one run") {
        ManualExecutor executor;
        Group<int, int> group(executor);
        Runs<> runs;
        Log log;
        for (int i = 0; i < 1000; ++i) {
            auto ticket = group.join(1, runs.start());
            ticket.then(log.callback("it"));
            std::move(ticket).detach();
        }
        WHEN("it fails") {
            runs.fail("no such file");
            executor.run_all();
            THEN("that is 1 run and 1,000 failures") {
                CHECK(runs.started == 1);
                CHECK(log.lines == Lines(1000, "it: no such file"));
            }
            THEN("the next request runs again") {
                auto ticket = group.join(1, runs.start());
                CHECK(runs.started == 2);
            }
        }
    }
}

SCENARIO("L1, 5: what start throws reaches every ticket and does not escape join", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Log log;

    WHEN("it throws before or after it gave the completer away") {
        const bool keeps_completer = GENERATE(false, true);
        Completer<int> kept;
        auto leader = group.join(1, [&](Completer<int> completer) {
            auto inner = group.join(1, [](Completer<int>) { FAIL("joins"); }, {.independent = true});
            inner.then(log.callback("inner"));
            std::move(inner).detach();
            if (keeps_completer) kept = std::move(completer);
            throw std::runtime_error("thrown");
        });
        leader.then(log.callback("leader"));
        CHECK(log.lines.empty());
        CHECK(group.empty());
        executor.run_all();
        THEN("all get it") { CHECK(log.lines == Lines{"leader: thrown", "inner: thrown"}); }
        THEN("a completer that is still somewhere finds nothing to do") {
            if (kept) kept.value(1);
            executor.run_all();
            CHECK(log.lines.size() == 2);
        }
    }
    WHEN("it throws after it has landed the flight") {
        auto leader = group.join(1, [&](Completer<int> completer) {
            completer.value(3);
            throw std::runtime_error("too late");
        });
        leader.then(log.callback("leader"));
        executor.run_all();
        THEN("the landing stands") { CHECK(log.lines == Lines{"leader: = 3"}); }
    }
}

SCENARIO("L1, 6: an exception arrives with its own type and nothing wrapped around it", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    int seen = 0;
    for (int i = 0; i < 2; ++i) {
        auto ticket = group.join(1, [](Completer<int>) { throw Peculiar(); });
        ticket.then([&](const Landing<int>& landing) {
            try {
                (void)landing.get();
            } catch (const Peculiar& error) {
                seen += error.number;
                CHECK(dynamic_cast<const std::nested_exception*>(&error) == nullptr);
            }
        });
        std::move(ticket).detach();
    }
    executor.run_all();
    CHECK(seen == 84);
}

SCENARIO("L3, 7: a dropped completer is a broken promise for all, never a hang", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    Log log;
    WHEN("it is dropped inside start") {
        auto ticket = group.join(1, [](Completer<int>) {});
        ticket.then(log.callback("it"));
        executor.run_all();
        THEN("the leader is told") { CHECK(log.lines == Lines{"it: broken_promise"}); }
    }
    WHEN("it is dropped later, by destruction or by assignment") {
        auto leader = group.join(1, runs.start());
        auto joined = group.join(1, runs.start());
        leader.then(log.callback("leader"));
        joined.then(log.callback("joined"));
        if (GENERATE(true, false))
            runs.completers.clear();
        else
            runs.completers[0] = Completer<int>();
        CHECK(group.empty());
        executor.run_all();
        THEN("all are told") { CHECK(log.lines == Lines{"leader: broken_promise", "joined: broken_promise"}); }
    }
}

SCENARIO("L3: a flight is completed once; a second time is the caller's error", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    auto ticket = group.join(1, runs.start());
    runs.completers[0].value(1);
    CHECK_THROWS_AS(runs.completers[0].value(2), std::future_error);
    CHECK_THROWS_AS(runs.completers[0].error(std::make_exception_ptr(1)), std::future_error);
    int seen = 0;
    ticket.then([&](const Landing<int>& landing) { seen = *landing.value; });
    CHECK_THROWS_AS(ticket.then([](const Landing<int>&) {}), std::future_error);
    executor.run_all();
    CHECK(seen == 1);
}

SCENARIO("L3: a value whose making throws leaves the flight to be completed otherwise", "[flight]") {
    struct Refuses {
        explicit Refuses(bool refuse) {
            if (refuse) throw std::runtime_error("refused");
        }
    };
    ManualExecutor executor;
    Group<int, Refuses> group(executor);
    Runs<Refuses> runs;
    Log log;
    auto ticket = group.join(1, runs.start());
    ticket.then(log.callback("it"));
    CHECK_THROWS_AS(runs.completers[0].emplace(true), std::runtime_error);
    CHECK(group.size() == 1);
    runs.completers[0].emplace(false);
    executor.run_all();
    CHECK(log.lines == Lines{"it: = value"});
}

SCENARIO("L3, 8: cancel ends a flight for everyone, and its key stays taken until the run has ended", "[flight]") {
    GIVEN("a flight with two waiters and a fresh request behind it") {
        ManualExecutor executor;
        Group<int, int> group(executor);
        Runs<> runs;
        Log log;
        int stopped = 0;
        auto leader = group.join(1, runs.start());
        auto joined = group.join(1, runs.start());
        auto fresh = group.join(1, runs.start(), {.fresh = true});
        leader.then(log.callback("leader"));
        joined.then(log.callback("joined"));
        fresh.then(log.callback("fresh"));
        runs.completers[0].on_cancel([&] { ++stopped; });

        WHEN("the key is cancelled") {
            CHECK(group.cancel(1) == 3);
            CHECK(stopped == 1);
            CHECK(leader.landed());
            CHECK(log.lines.empty());
            executor.run_all();
            THEN("all are told, and the pending run never starts") {
                CHECK(log.take() ==
                      Lines{"fresh: operation_canceled", "leader: operation_canceled", "joined: operation_canceled"});
                CHECK(runs.started == 1);
                CHECK(stopped == 1);
            }
            THEN("the key is taken until the run lands, and then the next request runs") {
                log.take();
                CHECK(group.size() == 1);
                auto next = group.join(1, runs.start());
                next.then(log.callback("next"));
                executor.run_all();
                CHECK(runs.started == 1);
                runs.land(1);
                executor.run_all();
                CHECK(runs.started == 2);
                CHECK(log.lines.empty());
                runs.land(2);
                executor.run_all();
                CHECK(log.lines == Lines{"next: = 2"});
            }
            THEN("cancelling again tells nobody") {
                CHECK(group.cancel(1) == 0);
                CHECK(stopped == 1);
            }
        }
        WHEN("one flight is cancelled by its name") {
            CHECK(group.cancel(leader.id()) == 2);
            executor.run_all();
            THEN("the pending one is not concerned") {
                CHECK(log.take() == Lines{"leader: operation_canceled", "joined: operation_canceled"});
                runs.land(1);
                executor.run_all();
                runs.land(2);
                executor.run_all();
                CHECK(log.take() == Lines{"fresh: = 2"});
            }
        }
        WHEN("an unknown key or name is cancelled") {
            THEN("nothing happens") {
                CHECK(group.cancel(2) == 0);
                CHECK(group.cancel(FlightId{77}) == 0);
                CHECK(group.cancel(FlightId{0}) == 0);
                CHECK(stopped == 0);
            }
        }
    }
}

SCENARIO("17, 18: a forgotten flight keeps its waiters, and its end does not erase the new one", "[flight]") {
    GIVEN("a flight that is forgotten while a new one of its key is in flight") {
        ManualExecutor executor;
        Group<int, int> group(executor);
        Runs<> runs;
        Log log;
        auto old_ticket = group.join(1, runs.start());
        old_ticket.then(log.callback("old"));
        CHECK(group.forget(1));
        CHECK(group.empty());
        auto new_ticket = group.join(1, runs.start());
        new_ticket.then(log.callback("new"));
        CHECK(new_ticket.leader());
        CHECK(runs.started == 2);

        WHEN("the old run ends first") {
            runs.land(1);
            executor.run_all();
            THEN("its waiter gets its result and the new flight can still be joined") {
                CHECK(log.take() == Lines{"old: = 1"});
                auto joined = group.join(1, runs.start());
                joined.then(log.callback("joined"));
                CHECK(!joined.leader());
                runs.land(2);
                executor.run_all();
                CHECK(log.take() == Lines{"new: = 2", "joined: = 2"});
                CHECK(group.empty());
            }
        }
        WHEN("the new run ends first") {
            runs.completers[1].value(2);
            executor.run_all();
            runs.completers[0].value(1);
            executor.run_all();
            THEN("each waiter has its own") { CHECK(log.take() == Lines{"new: = 2", "old: = 1"}); }
        }
        WHEN("the old one's last waiter leaves") {
            bool stopped = false;
            runs.completers[0].on_cancel([&] { stopped = true; });
            old_ticket.leave();
            THEN("only the old run is cancelled") {
                CHECK(stopped);
                CHECK(group.find_state(1) != nullptr);
            }
        }
    }
    GIVEN("a flight with a pending successor") {
        ManualExecutor executor;
        Group<int, int> group(executor);
        Runs<> runs;
        Log log;
        auto first = group.join(1, runs.start());
        auto fresh = group.join(1, runs.start(), {.fresh = true});
        fresh.then(log.callback("fresh"));
        WHEN("the live one is forgotten") {
            CHECK(group.forget(1));
            THEN("the successor is live and starts at once") {
                CHECK(group.size() == 1);
                executor.run_all();
                CHECK(runs.started == 2);
                runs.completers[1].value(2);
                executor.run_all();
                CHECK(log.take() == Lines{"fresh: = 2"});
            }
        }
        WHEN("both are forgotten before the successor has started") {
            CHECK(group.forget(1));
            CHECK(group.forget(1));
            CHECK(!group.forget(1));
            THEN("it still starts, for its waiter") {
                executor.run_all();
                CHECK(runs.started == 2);
            }
        }
    }
}

SCENARIO("L4, 31: T may be void, move-only or not default-constructible", "[flight]") {
    ManualExecutor executor;
    WHEN("it is void") {
        Group<int, void> group(executor);
        auto ticket = group.join(1, [](Completer<void> completer) { completer.value(); });
        bool delivered = false;
        ticket.then([&](const Landing<void>& landing) { delivered = landing.value && !landing.error; });
        executor.run_all();
        THEN("there is a value all the same") { CHECK(delivered); }
    }
    WHEN("it is move-only") {
        Group<int, std::unique_ptr<int>> group(executor);
        auto ticket =
            group.join(1, [](Completer<std::unique_ptr<int>> completer) { completer.value(std::make_unique<int>(4)); });
        int seen = 0;
        ticket.then([&](const Landing<std::unique_ptr<int>>& landing) { seen = **landing.value; });
        executor.run_all();
        THEN("it is shared, not copied") { CHECK(seen == 4); }
    }
    WHEN("it has no default constructor") {
        struct Fixed {
            explicit Fixed(int number_) : number(number_) {}
            Fixed(const Fixed&) = delete;
            int number;
        };
        Group<int, Fixed> group(executor);
        auto ticket = group.join(1, [](Completer<Fixed> completer) { completer.emplace(6); });
        int seen = 0;
        ticket.then([&](const Landing<Fixed>& landing) { seen = landing.value->number; });
        executor.run_all();
        THEN("it is built in place") { CHECK(seen == 6); }
    }
    WHEN("it is a reference wrapper") {
        int target = 0;
        Group<int, std::reference_wrapper<int>> group(executor);
        auto ticket =
            group.join(1, [&](Completer<std::reference_wrapper<int>> completer) { completer.value(std::ref(target)); });
        ticket.then([](const Landing<std::reference_wrapper<int>>& landing) { landing.value->get() = 9; });
        executor.run_all();
        THEN("it refers to the run's own object") { CHECK(target == 9); }
    }
    WHEN("the value exists already") {
        const auto ready = std::make_shared<const int>(8);
        Group<int, int> group(executor);
        auto ticket = group.join(1, [&](Completer<int> completer) { completer.value(ready); });
        std::shared_ptr<const int> seen;
        ticket.then([&](const Landing<int>& landing) { seen = landing.value; });
        executor.run_all();
        THEN("that very object is delivered") { CHECK(seen == ready); }
    }
}

// 32: results are shared, so mutating one does not compile.
static_assert(std::is_same_v<decltype(*std::declval<Landing<int>>().value), const int&>);
static_assert(std::is_const_v<std::remove_reference_t<decltype(*std::declval<Landing<std::string>>().get())>>);
static_assert(!std::is_copy_constructible_v<Ticket<int>> && std::is_nothrow_move_constructible_v<Ticket<int>>);
static_assert(!std::is_copy_constructible_v<Completer<int>> && std::is_nothrow_move_constructible_v<Completer<int>>);
static_assert(!std::is_move_constructible_v<Group<int, int>>);

SCENARIO("L4, 33: after a million distinct keys the table is empty and every result is freed", "[flight]") {
    static int alive = 0;
    alive = 0;
    struct Counted {
        Counted() { ++alive; }
        ~Counted() { --alive; }
        Counted(const Counted&) = delete;
    };
    ManualExecutor executor;
    Group<int, Counted> group(executor);
    std::vector<Completer<Counted>> completers;
    constexpr int kKeys = 1'000'000, kAtOnce = 100'000;
    for (int key = 0; key < kKeys;) {
        for (int i = 0; i < kAtOnce; ++i, ++key) {
            auto ticket =
                group.join(key, [&](Completer<Counted> completer) { completers.push_back(std::move(completer)); });
            std::move(ticket).detach();
        }
        REQUIRE(group.size() == kAtOnce);
        for (auto& completer : completers) completer.emplace();
        completers.clear();
        executor.run_all();
    }
    CHECK(group.empty());
    CHECK(alive == 0);
    CHECK(group.stats().runs == kKeys);
    CHECK(group.stats().landings == kKeys);
    std::size_t listed = 0;
    group.for_each([&](const int&, const FlightView<NoState>&) { ++listed; });
    CHECK(listed == 0);
}

SCENARIO("L4, 34: equal hashes are not equal keys", "[flight]") {
    struct SameHash {
        std::size_t operator()(int) const { return 7; }
    };
    ManualExecutor executor;
    Group<int, int, NoState, SameHash> group(executor);
    std::vector<Completer<int>> completers;
    std::vector<int> seen(200, -1);
    for (int key = 0; key < 200; ++key) {
        auto ticket = group.join(key, [&](Completer<int> completer) { completers.push_back(std::move(completer)); });
        ticket.then([&, key](const Landing<int>& landing) { seen[static_cast<std::size_t>(key)] = *landing.value; });
        std::move(ticket).detach();
    }
    REQUIRE(completers.size() == 200);
    // Landed from the middle outwards, so that heads, tails and inner entries of the one chain go.
    for (std::size_t i = 0; i < 200; ++i) {
        const std::size_t key = i % 2 ? 100 + i / 2 : 99 - i / 2;
        completers[key].value(static_cast<int>(key));
        CHECK(group.size() == 199 - i);
    }
    executor.run_all();
    for (int key = 0; key < 200; ++key) CHECK(seen[static_cast<std::size_t>(key)] == key);
}

SCENARIO("L4, 34: a key that does not equal itself runs uncoalesced and is never inserted", "[flight]") {
    ManualExecutor executor;
    Group<double, int> group(executor);
    Runs<> runs;
    Log log;
    const double nan = std::numeric_limits<double>::quiet_NaN();
    auto one = group.join(nan, runs.start());
    auto two = group.join(nan, runs.start());
    one.then(log.callback("one"));
    two.then(log.callback("two"));
    CHECK(runs.started == 2);
    CHECK(group.empty());
    CHECK(!group.forget(nan));
    runs.land(1);
    runs.land(2);
    executor.run_all();
    CHECK(log.lines == Lines{"one: = 1", "two: = 2"});
}

namespace {
struct CountedKey {
    static inline int made = 0;
    std::string text;
    explicit CountedKey(std::string_view from) : text(from) { ++made; }
    friend bool operator==(const CountedKey& a, const CountedKey& b) { return a.text == b.text; }
    friend bool operator==(const CountedKey& a, std::string_view b) { return a.text == b; }
};
struct CountedKeyHash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
    std::size_t operator()(const CountedKey& key) const { return (*this)(std::string_view(key.text)); }
};
}  // namespace

SCENARIO("35: a key is made only by the request that leads, and owns its bytes", "[flight]") {
    ManualExecutor executor;
    Group<CountedKey, int, NoState, CountedKeyHash> group(executor);
    Runs<> runs;
    CountedKey::made = 0;
    std::string mutable_text = "make docs";
    auto leader = group.join(std::string_view(mutable_text), runs.start());
    CHECK(CountedKey::made == 1);
    mutable_text = "rm -rf x";
    auto joined = group.join(std::string_view("make docs"), runs.start());
    CHECK(CountedKey::made == 1);
    CHECK(runs.started == 1);
    auto apart = group.join(std::string_view("make docs2"), runs.start());
    CHECK(CountedKey::made == 2);
    CHECK(runs.started == 2);
}

SCENARIO("35: a string group with the ordinary hash takes views and literals too", "[flight]") {
    ManualExecutor executor;
    Group<std::string, int> group(executor);
    Runs<> runs;
    auto leader = group.join("a", runs.start());
    auto joined = group.join(std::string_view("a"), runs.start());
    CHECK(runs.started == 1);
    CHECK(group.find_state("a") != nullptr);
    CHECK(group.cancel("a") == 2);
    CHECK(group.forget(std::string_view("a")));
}

SCENARIO("36: the same key asked twice by one requester is delivered twice", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    Log log;
    std::vector<Ticket<int>> batch;
    for (const int key : {1, 2, 1}) batch.push_back(group.join(key, runs.start()));
    for (std::size_t i = 0; i < 3; ++i) batch[i].then(log.callback(std::to_string(i)));
    CHECK(runs.started == 2);
    runs.land(10);
    runs.land(20);
    executor.run_all();
    CHECK(log.lines == Lines{"0: = 10", "2: = 10", "1: = 20"});
}

SCENARIO("38: the number of requesters is that of the landing, gone ones included", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    std::size_t requesters = 0;
    auto leader = group.join(1, runs.start());
    leader.then([&](const Landing<int>& landing) { requesters = landing.requesters; });
    {
        auto brief = group.join(1, runs.start());
        CHECK(runs.completers[0].waiters() == 2);
    }
    CHECK(runs.completers[0].waiters() == 1);
    auto late = group.join(1, runs.start());
    runs.land(1);
    executor.run_all();
    CHECK(requesters == 3);
}

SCENARIO("45: a late joiner finds in the flight's state what the run has recorded", "[flight]") {
    struct Recorded {
        std::string output;
    };
    ManualExecutor executor;
    Group<int, int, Recorded> group(executor);
    std::optional<Completer<int, Recorded>> run;
    auto leader = group.join(1, [&](Completer<int, Recorded> completer) {
        completer.state().output = "first";
        run = std::move(completer);
    });
    run->state().output += " second";
    auto late = group.join(1, [](Completer<int, Recorded>) {});
    CHECK(late.state().output == "first second");
    CHECK(group.find_state(1) == &late.state());
    CHECK(group.find_state(2) == nullptr);
    run->value(0);
    executor.run_all();
    run.reset();
    leader = {};
    CHECK(late.state().output == "first second");
    late.leave();
    CHECK(late.state().output == "first second");
}

SCENARIO("O1: a group shows its live and pending flights, oldest first", "[flight]") {
    GIVEN("a live flight, a pending one of the same key, a cancelled one and a forgotten one") {
        ManualExecutor executor;
        Group<int, int> group(executor);
        Runs<> runs;
        auto forgotten = group.join(9, runs.start());
        group.forget(9);
        auto live = group.join(1, runs.start());
        auto live_too = group.join(1, runs.start());
        auto fresh = group.join(1, runs.start(), {.fresh = true});
        group.join(2, runs.start()).leave();
        std::vector<FlightId> ids;
        std::string seen;
        const auto look = [&](int key, const FlightView<NoState>& view) {
            ids.push_back(view.id);
            seen += std::to_string(key) + ":" + std::to_string(view.waiters) + (view.joinable ? "j" : "") +
                    (view.pending ? "p" : "") + (view.started ? "s" : "") + (view.cancelled ? "c" : "") + " ";
        };
        WHEN("they are visited") {
            group.for_each(look);
            THEN("each shows what it is") {
                CHECK(seen == "1:2js 1:1p 2:0sc ");
                CHECK(ids == std::vector<FlightId>{live.id(), fresh.id(), fresh.id() + 1});
            }
        }
        WHEN("the visitor cancels everything at the first") {
            group.for_each([&](int key, const FlightView<NoState>& view) {
                look(key, view);
                group.cancel(1);
                group.cancel(2);
                runs.completers.clear();
            });
            THEN("what has ended is not visited") { CHECK(seen == "1:2js "); }
        }
    }
}

SCENARIO("69: the counters balance, also after errors", "[flight]") {
    ManualExecutor executor;
    Group<int, int> group(executor);
    Runs<> runs;
    auto a = group.join(1, runs.start());
    auto b = group.join(1, runs.start());
    auto c = group.join(1, runs.start(), {.fresh = true});
    auto d = group.join(2, [](Completer<int>) { throw 1; });
    auto e = group.join(1, runs.start(), {.on_behalf_of = a.ref()});
    a.leave();
    b.leave();
    b.leave();
    c.leave();
    e.leave();
    CHECK(group.stats().flights == 3);
    CHECK(group.stats().joins == 1);
    CHECK(group.stats().refusals == 1);
    CHECK(group.stats().runs == 2);
    CHECK(group.stats().leaves == 3);
    CHECK(group.stats().cancels == 1);
    CHECK(group.stats().landings == 1);
    runs.completers.clear();
    CHECK(group.stats().landings == 2);
    executor.run_all();
}
