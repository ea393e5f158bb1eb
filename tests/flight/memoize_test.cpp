// SPDX-License-Identifier: MIT
// memoize_concurrent on a loop: what the Python original's tests show (one
// scenario each), keys from arguments, and ways to consume a ticket. What has to do
// with threads is in memoize_future_test.cpp.

#include "recorder.h"

#include <coalesce/flight/memoize.h>

#include <algorithm>
#include <array>
#include <coroutine>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <unordered_set>
#include <utility>
#include <vector>

using namespace coalesce;
using namespace coalesce::test;

namespace {

// What a run waits on until the test opens it.
class Gate {
  public:
    Gate() = default;
    Gate(const Gate&) = delete;
    Gate& operator=(const Gate&) = delete;

    // An awaiter of its own: g++ 12 copies an lvalue that is one.
    auto operator co_await() {
        struct Awaiter {
            Gate* gate;
            bool await_ready() const noexcept { return gate->open_; }
            void await_suspend(std::coroutine_handle<> waiting) const { gate->waiting_.push_back(waiting); }
            void await_resume() const noexcept {}
        };
        return Awaiter{this};
    }

    void open() {
        open_ = true;
        for (const auto waiting : std::exchange(waiting_, {})) waiting.resume();
    }

  private:
    bool open_ = false;
    std::vector<std::coroutine_handle<>> waiting_;
};

// Ready at once; what it returns lies in it.
struct HasItsResult {
    std::string result;
    [[nodiscard]] bool await_ready() const noexcept { return true; }
    void await_suspend(std::coroutine_handle<>) const noexcept {}
    std::string&& await_resume() noexcept { return std::move(result); }
};

}  // namespace

SCENARIO("L1, original identical_concurrent_memoized_coroutine: equal calls of a coroutine are one call, one result",
         "[memoize]") {
    GIVEN("a memoized coroutine in flight") {
        ManualExecutor executor;
        Gate gate;
        int calls = 0;
        auto fetch = memoize_concurrent(executor, [&](std::string_view key) -> Task<std::string> {
            ++calls;
            const std::string own(key);
            co_await gate;
            co_return own + "!";
        });
        std::vector<std::shared_ptr<const std::string>> results;
        const auto request = [&]() -> Task<> { results.push_back(co_await fetch("a")); };
        request().start();
        request().start();
        CHECK(calls == 1);
        CHECK(fetch.size() == 1);
        WHEN("it ends") {
            gate.open();
            executor.run_all();
            THEN("both have the same object") {
                REQUIRE(results.size() == 2);
                CHECK(*results[0] == "a!");
                CHECK(results[0] == results[1]);
                CHECK(calls == 1);
                CHECK(fetch.size() == 0);
            }
        }
    }
}

SCENARIO("L1, original different_concurrent_not_memoized: calls with different arguments overlap", "[memoize]") {
    ManualExecutor executor;
    std::array<Gate, 2> gates;
    int running = 0, most = 0;
    auto fetch = memoize_concurrent(executor, [&](std::size_t number) -> Task<std::size_t> {
        most = std::max(most, ++running);
        co_await gates[number];
        --running;
        co_return number;
    });
    auto zero = fetch(0), one = fetch(1);
    CHECK(most == 2);
    std::vector<std::size_t> landed;
    zero.then([&](const Landing<std::size_t>& landing) { landed.push_back(*landing.get()); });
    one.then([&](const Landing<std::size_t>& landing) { landed.push_back(*landing.get()); });
    gates[1].open();
    gates[0].open();
    executor.run_all();
    CHECK(landed == std::vector<std::size_t>{1, 0});
}

SCENARIO("L1, original identical_sequential_not_memoized: equal calls one after the other are two calls", "[memoize]") {
    ManualExecutor executor;
    int calls = 0;
    auto fetch = memoize_concurrent(executor, [&](int number) { return ++calls * number; });
    Log log;
    for (int i = 0; i < 2; ++i) {
        auto ticket = fetch(10);
        ticket.then(log.callback("it"));
        executor.run_all();
    }
    CHECK(log.lines == Lines{"it: = 10", "it: = 20"});
}

SCENARIO("L1, original exception: it reaches all callers with its own type and nothing wrapped around it",
         "[memoize]") {
    ManualExecutor executor;
    Gate gate;
    int calls = 0, caught = 0;
    bool wrapped = false;
    auto fetch = memoize_concurrent(executor, [&](int) -> Task<int> {
        ++calls;
        co_await gate;
        throw Peculiar();
    });
    const auto request = [&]() -> Task<> {
        try {
            (void)co_await fetch(1);
        } catch (const Peculiar& error) {
            ++caught;
            wrapped =
                wrapped || dynamic_cast<const std::nested_exception*>(&error) || typeid(error) != typeid(Peculiar);
        }
    };
    request().start();
    request().start();
    gate.open();
    executor.run_all();
    CHECK(calls == 1);
    CHECK(caught == 2);
    CHECK(!wrapped);
    request().start();
    CHECK(calls == 2);  // the next call retries
    executor.run_all();
}

SCENARIO("L3, original cancelled: a cancelled run is operation_canceled for all", "[memoize]") {
    ManualExecutor executor;
    Gate gate;
    std::stop_token seen;
    auto fetch = memoize_concurrent(executor, [&](int, std::stop_token stop) -> Task<int> {
        seen = stop;
        co_await gate;
        co_return 1;
    });
    Lines outcomes;
    const auto request = [&]() -> Task<> {
        try {
            (void)co_await fetch(1);
        } catch (const std::system_error& error) {
            if (error.code() == std::errc::operation_canceled) outcomes.push_back("cancelled");
        }
    };
    request().start();
    request().start();
    CHECK(!seen.stop_requested());
    CHECK(fetch.cancel(1) == 2);
    executor.run_all();
    CHECK(outcomes == Lines{"cancelled", "cancelled"});
    CHECK(seen.stop_requested());
    gate.open();
    CHECK(fetch.size() == 0);
}

SCENARIO("F5, unlike the original: a caller that stops waiting, the first included, disturbs no one", "[memoize]") {
    GIVEN("three callers of one coroutine") {
        ManualExecutor executor;
        Gate gate;
        bool stopped = false;
        auto fetch = memoize_concurrent(executor, [&](int, std::stop_token stop) -> Task<int> {
            co_await gate;
            stopped = stop.stop_requested();
            co_return 5;
        });
        Log log;
        std::vector<Ticket<int>> tickets;
        for (const char* name : {"first", "second", "third"}) {
            tickets.push_back(fetch(1));
            tickets.back().then(log.callback(name));
        }
        const std::size_t leaves = GENERATE(0u, 1u, 2u);
        WHEN("one of them leaves") {
            tickets.erase(tickets.begin() + static_cast<std::ptrdiff_t>(leaves));
            gate.open();
            executor.run_all();
            THEN("the others get the result") {
                CHECK(log.lines.size() == 2);
                CHECK(!stopped);
                for (const auto& line : log.lines) CHECK(line.ends_with(": = 5"));
            }
        }
        WHEN("all of them leave") {
            tickets.clear();
            gate.open();
            THEN("the run was told") { CHECK(stopped); }
        }
    }
    GIVEN("a coroutine that is destroyed while it waits") {
        ManualExecutor executor;
        Gate gate;
        bool stopped = false;
        auto fetch = memoize_concurrent(executor, [&](std::stop_token stop) -> Task<int> {
            co_await gate;
            stopped = stop.stop_requested();
            co_return 5;
        });
        struct Eager {
            struct promise_type {
                Eager get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
                std::suspend_never initial_suspend() noexcept { return {}; }
                std::suspend_always final_suspend() noexcept { return {}; }
                void return_void() {}
                void unhandled_exception() { std::terminate(); }
            };
            std::coroutine_handle<promise_type> handle;
        };
        const auto request = [&]() -> Eager { (void)co_await fetch(); };
        const Eager waiting = request();
        waiting.handle.destroy();
        gate.open();
        executor.run_all();
        THEN("it has left") { CHECK(stopped); }
    }
}

SCENARIO("L2: joining happens at the call, so tickets awaited one after the other have coalesced", "[memoize]") {
    ManualExecutor executor;
    Gate gate;
    int calls = 0;
    auto fetch = memoize_concurrent(executor, [&](int number) -> Task<int> {
        ++calls;
        co_await gate;
        co_return number;
    });
    int sum = 0;
    const auto request = [&]() -> Task<> {
        auto one = fetch(1), again = fetch(1), two = fetch(2);
        CHECK(calls == 2);
        sum += *co_await std::move(two);
        sum += *co_await std::move(one);
        sum += *co_await std::move(again);
    };
    request().start();
    gate.open();
    executor.run_all();
    CHECK(sum == 4);
    CHECK(calls == 2);
}

SCENARIO("35: types are part of the key, so 1, 1.0 and true are different calls", "[memoize]") {
    ManualExecutor executor;
    std::vector<std::string> calls;
    Gate gate;
    auto fetch = memoize_concurrent(executor, [&](auto value) -> Task<decltype(value)> {
        calls.push_back(typeid(value).name());
        co_await gate;
        co_return value;
    });
    auto integer = fetch(1);
    auto real = fetch(1.0);
    auto truth = fetch(true);
    auto wide = fetch(1L);
    auto again = fetch(1);
    CHECK(calls == std::vector<std::string>{"i", "d", "b", "l"});
    static_assert(std::is_same_v<decltype(real), Ticket<double>>);
    static_assert(std::is_same_v<decltype(truth), Ticket<bool>>);
    CHECK(integer.id() == again.id());
    CHECK(fetch.size() == 4);
    gate.open();
    bool right = false;
    truth.then([&](const Landing<bool>& landing) { right = *landing.get(); });
    executor.run_all();
    CHECK(right);
    CHECK(fetch.size() == 0);
}

SCENARIO("35: a function of one signature takes its arguments as its parameters' types", "[memoize]") {
    ManualExecutor executor;
    int calls = 0;
    Gate gate;
    auto fetch = memoize_concurrent(executor, [&](double value) -> Task<double> {
        ++calls;
        co_await gate;
        co_return value / 2;
    });
    auto integer = fetch(1);
    auto real = fetch(1.0);
    CHECK(calls == 1);  // both are f(1.0)
    double seen = 0;
    integer.then([&](const Landing<double>& landing) { seen = *landing.get(); });
    gate.open();
    executor.run_all();
    CHECK(seen == 0.5);
}

SCENARIO("35: keys and a coroutine's arguments own their bytes, whatever becomes of the caller's", "[memoize]") {
    ManualExecutor executor;
    Gate gate;
    std::string seen;
    const auto check = [&](auto& fetch) {
        std::string mutable_text = "make docs";
        auto leader = fetch(mutable_text.c_str());
        mutable_text = "rm -rf xx";
        auto joined = fetch("make docs");
        auto apart = fetch("rm -rf xx");
        CHECK(joined.id() == leader.id());
        CHECK(apart.id() != leader.id());
        CHECK(fetch.size() == 2);
        gate.open();
        leader.then([&](const Landing<std::string>& landing) { seen = *landing.get(); });
        executor.run_all();
        CHECK(seen == "make docs");
    };
    WHEN("the parameter is a char pointer") {
        auto fetch = memoize_concurrent(executor, [&](const char* text) -> Task<std::string> {
            co_await gate;
            co_return text;
        });
        check(fetch);
    }
    WHEN("it is a string_view") {
        auto fetch = memoize_concurrent(executor, [&](std::string_view text) -> Task<std::string> {
            co_await gate;
            co_return std::string(text);
        });
        check(fetch);
    }
    WHEN("it is a reference to a string") {
        auto fetch = memoize_concurrent(executor, [&](const std::string& text) -> Task<std::string> {
            co_await gate;
            co_return text;
        });
        check(fetch);
    }
    WHEN("it is any type") {
        auto fetch = memoize_concurrent(executor, [&](const auto& text) -> Task<std::string> {
            static_assert(std::is_same_v<decltype(text), const std::string&>);
            co_await gate;
            co_return text;
        });
        check(fetch);
    }
}

SCENARIO("35: strings of any form are one key, and containers and tuples are hashed", "[memoize]") {
    using detail::ArgumentHash;
    const ArgumentHash hash;
    const AllArguments all;
    const std::string text = "x";
    CHECK(hash(all("x", 1)) == hash(all(std::string_view("x"), 1)));
    CHECK(hash(all("x", 1)) == hash(ArgumentKey<std::string, int>(text, 1)));
    CHECK(all("x", 1) == ArgumentKey<std::string, int>(text, 1));
    CHECK(hash(all("x", 1)) != hash(all(1, "x")));
    const std::vector<std::string> words{"a b"}, other_words{"a", "b"};
    CHECK(hash(all(words)) != hash(all(other_words)));
    CHECK(hash(all(std::tuple(1, text))) != hash(all(std::tuple(2, text))));
    CHECK(hash(all(std::pair(1, words))) == hash(ArgumentKey<std::pair<int, std::vector<std::string>>>({1, words})));
    int object = 0, other = 0;
    CHECK(all(std::ref(object)) == all(std::ref(object)));
    CHECK(all(std::ref(object)) != all(std::ref(other)));
    static_assert(std::is_same_v<ArgumentKey<const char*, std::string_view, char[3], int, std::reference_wrapper<int>>,
                                 std::tuple<std::string, std::string, std::string, int, int*>>);
    static_assert(std::is_same_v<ArgumentKey<const wchar_t*>, std::tuple<std::wstring>>);
}

SCENARIO("35: text in tuples and pairs is owned, and views of it in other containers are refused", "[memoize]") {
    using detail::Argument;
    using View = std::string_view;
    static_assert(std::is_same_v<ArgumentKey<std::pair<const char*, int>, std::tuple<int, std::tuple<View>>>,
                                 std::tuple<std::tuple<std::string, int>, std::tuple<int, std::tuple<std::string>>>>);
    static_assert(Argument<std::tuple<View, std::vector<std::string>>>::kOwns);
    static_assert(!Argument<std::vector<View>>::kOwns && !Argument<std::array<View, 2>>::kOwns);
    static_assert(!Argument<std::tuple<View, std::optional<const char*>>>::kOwns);
    static_assert(!Argument<std::vector<std::pair<const View, int>>>::kOwns);

    ManualExecutor executor;
    Gate gate;
    const auto check = [&](auto& fetch) {
        std::string text = "make docs, with a name that is too long for the small buffer";
        const std::string same = text;
        auto leader = fetch(std::pair<View, const char*>(text, "x"));
        text.assign(text.size(), '#');
        auto apart = fetch(std::pair<View, const char*>(text, "x"));
        auto joined = fetch(std::pair<View, const char*>(same, "x"));
        CHECK(joined.id() == leader.id());
        CHECK(apart.id() != leader.id());
        std::string seen;
        leader.then([&](const Landing<std::string>& landing) { seen = *landing.get(); });
        gate.open();
        executor.run_all();
        CHECK(seen == same + "x");
    };
    WHEN("the parameter is a pair of views") {
        auto fetch = memoize_concurrent(executor, [&](std::pair<View, const char*> texts) -> Task<std::string> {
            co_await gate;
            co_return std::string(texts.first) + texts.second;
        });
        check(fetch);
    }
    WHEN("it is any type") {
        auto fetch = memoize_concurrent(executor, [&](const auto& texts) -> Task<std::string> {
            static_assert(std::is_same_v<decltype(texts), const std::pair<std::string, std::string>&>);
            co_await gate;
            co_return texts.first + texts.second;
        });
        check(fetch);
    }
}

SCENARIO("35: equal containers without an order are one key", "[memoize]") {
    std::unordered_set<int> up;
    std::unordered_set<int> down;
    for (int number = 0; number < 100; ++number) up.insert(number);
    for (int number = 99; number >= 0; --number) down.insert(number);
    REQUIRE(up == down);
    REQUIRE_FALSE(std::equal(up.begin(), up.end(), down.begin()));
    const detail::ArgumentHash hash;
    const AllArguments all;
    CHECK(hash(all(up)) == hash(all(down)));
    down.erase(7);
    CHECK(hash(all(up)) != hash(all(down)));
}

SCENARIO("L4: a key function serves arguments that cannot be copied", "[memoize]") {
    ManualExecutor executor;
    Gate gate;
    int calls = 0;
    auto fetch = memoize_concurrent(
        executor,
        [&](std::unique_ptr<int> number, std::string_view) -> Task<int> {
            ++calls;
            co_await gate;
            co_return *number;
        },
        [](const std::unique_ptr<int>& number, std::string_view) { return *number; });
    auto one = fetch(std::make_unique<int>(1), "a");
    auto again = fetch(std::make_unique<int>(1), "b");
    auto two = fetch(std::make_unique<int>(2), "c");
    CHECK(calls == 2);
    CHECK(one.id() == again.id());
    Log log;
    two.then(log.callback("two"));
    again.then(log.callback("again"));
    gate.open();
    executor.run_all();
    CHECK(log.lines == Lines{"again: = 1", "two: = 2"});
}

SCENARIO("L4: a memoized T may be void, move-only, not default-constructible or a reference", "[memoize]") {
    ManualExecutor executor;
    int object = 3;
    struct Fixed {
        explicit Fixed(int number_) : number(number_) {}
        int number;
    };
    auto nothing = memoize_concurrent(executor, [](int) {});
    auto nothing_later = memoize_concurrent(executor, [](int) -> Task<> { co_return; });
    auto owned = memoize_concurrent(executor, [](int number) { return std::make_unique<int>(number); });
    auto owned_later = memoize_concurrent(
        executor, [](int number) -> Task<std::unique_ptr<int>> { co_return std::make_unique<int>(number); });
    auto fixed = memoize_concurrent(executor, [](int number) { return Fixed(number); });
    auto wrapped = memoize_concurrent(executor, [&](int) { return std::ref(object); });
    auto referred = memoize_concurrent(executor, [&](int) -> int& { return object; });
    static_assert(std::is_same_v<decltype(referred(1)), Ticket<std::reference_wrapper<int>>>);
    int sum = 0;
    const auto request = [&]() -> Task<> {
        co_await nothing(1);
        co_await nothing_later(1);
        static_assert(std::is_void_v<decltype((nothing(1), AwaitTicket<void, NoState>(nothing(1)).await_resume()))>);
        sum += **co_await owned(10);
        sum += **co_await owned_later(20);
        sum += (co_await fixed(30))->number;
        (co_await wrapped(1))->get() += 100;
        (co_await referred(1))->get() += 200;
    };
    request().start();
    executor.run_all();
    CHECK(sum == 60);
    CHECK(object == 303);
}

SCENARIO("L2: what an awaitable returns may refer into the awaitable", "[memoize]") {
    const std::string text = "a result too long for the small buffer of a string";
    ManualExecutor executor;
    auto fetch = memoize_concurrent(executor, [&](int) { return HasItsResult{text}; });
    static_assert(std::is_same_v<decltype(fetch(1)), Ticket<std::string>>);
    std::string seen;
    auto ticket = fetch(1);
    ticket.then([&](const Landing<std::string>& landing) { seen = *landing.get(); });
    executor.run_all();
    CHECK(seen == text);
}

SCENARIO("F6: a call that must wait for a cancelled one keeps its arguments until it starts", "[memoize]") {
    ManualExecutor executor;
    std::vector<std::string> calls;
    Gate gate;
    auto fetch = memoize_concurrent(
        executor,
        [&](std::string_view text, std::unique_ptr<int> extra) -> Task<int> {
            calls.push_back(std::string(text));
            co_await gate;
            co_return *extra;
        },
        [](std::string_view text, const std::unique_ptr<int>&) { return std::string(text); });
    { auto cancelled = fetch("a key too long for the small buffer of a string", std::make_unique<int>(1)); }
    Log log;
    Ticket<int> waiting;
    {
        std::string brief = "a key too long for the small buffer of a string";
        waiting = fetch(brief, std::make_unique<int>(2));
        brief.assign(brief.size(), '#');
    }
    CHECK(calls.size() == 1);
    waiting.then(log.callback("it"));
    gate.open();
    executor.run_all();
    CHECK(calls == std::vector<std::string>(2, "a key too long for the small buffer of a string"));
    CHECK(log.lines == Lines{"it: = 2"});
}

SCENARIO("F7: a memoized call may ask for a fresh run", "[memoize]") {
    ManualExecutor executor;
    Gate gate;
    int calls = 0;
    auto fetch = memoize_concurrent(executor, [&](int) -> Task<int> {
        const int mine = ++calls;
        co_await gate;
        co_return mine;
    });
    Log log;
    auto first = fetch(1), fresh = fetch.with({.fresh = true}, 1);
    first.then(log.callback("first"));
    fresh.then(log.callback("fresh"));
    gate.open();
    executor.run_all();
    CHECK(log.lines == Lines{"first: = 1", "fresh: = 2"});
}

SCENARIO("F11, 21: a coroutine that asks for its own key is told, before its first suspension and after", "[memoize]") {
    ManualExecutor executor;
    std::function<Ticket<int>(int)> ask, ask_other;
    bool told = false;
    const auto expect_deadlock = [&](const std::system_error& error) {
        told = error.code() == std::errc::resource_deadlock_would_occur;
    };
    auto other = memoize_concurrent(executor, [&](int number) -> Task<int> { co_return number; });
    ask_other = [&](int number) { return other(number); };
    WHEN("it does so at once") {
        auto self = memoize_concurrent(executor, [&](int number) -> Task<int> {
            try {
                co_return *co_await ask(number);
            } catch (const std::system_error& error) {
                expect_deadlock(error);
            }
            co_return 0;
        });
        ask = [&](int number) { return self(number); };
        auto ticket = self(1);
        executor.run_all();
        THEN("it is told") { CHECK(told); }
    }
    WHEN("it does so after it has waited for something else, in a task of its own") {
        const auto inner = [&](int number) -> Task<int> {
            (void)co_await ask_other(number);
            co_return *co_await ask(number);
        };
        auto self = memoize_concurrent(executor, [&](int number) -> Task<int> {
            try {
                co_return co_await inner(number);
            } catch (const std::system_error& error) {
                expect_deadlock(error);
            }
            co_return 0;
        });
        ask = [&](int number) { return self(number); };
        auto ticket = self(1);
        executor.run_all();
        THEN("it is told") { CHECK(told); }
    }
    WHEN("two ask for each other") {
        auto ping =
            memoize_concurrent(executor, [&](int number) -> Task<int> { co_return *co_await ask_other(number); });
        auto pong = memoize_concurrent(executor, [&](int number) -> Task<int> { co_return *co_await ask(number); });
        ask = [&](int number) { return ping(number); };
        ask_other = [&](int number) { return pong(number); };
        std::string outcome;
        auto ticket = ping(1);
        ticket.then([&](const Landing<int>& landing) { outcome = test::told(landing); });
        executor.run_all();
        THEN("the error reaches the first caller") { CHECK(outcome == "deadlock"); }
    }
    WHEN("it asks for a different key, down to a base") {
        auto down = memoize_concurrent(executor, [&](int number) -> Task<int> {
            if (number == 0) co_return 0;  // no ?: here: g++ 12 awaits both sides
            const auto below = co_await ask(number - 1);
            co_return *below + number;
        });
        ask = [&](int number) { return down(number); };
        Log log;
        auto ticket = down(100);
        ticket.then(log.callback("sum"));
        executor.run_all();
        THEN("that works") { CHECK(log.lines == Lines{"sum: = 5050"}); }
    }
}

SCENARIO("17: forget during a call lets the next one run anew", "[memoize]") {
    ManualExecutor executor;
    Gate gate;
    int calls = 0;
    auto fetch = memoize_concurrent(executor, [&](int) -> Task<int> {
        const int mine = ++calls;
        co_await gate;
        co_return mine;
    });
    Log log;
    auto old_one = fetch(1);
    CHECK(fetch.forget(1));
    CHECK(!fetch.forget(1));
    auto new_one = fetch(1);
    old_one.then(log.callback("old"));
    new_one.then(log.callback("new"));
    gate.open();
    executor.run_all();
    CHECK(log.lines == Lines{"old: = 1", "new: = 2"});
}

SCENARIO("27: a function, or a coroutine of it, may outlive or destroy its memoized self", "[memoize]") {
    GIVEN("a coroutine in flight") {
        ManualExecutor executor;
        Gate gate;
        const auto captured = std::make_shared<int>(7);
        std::shared_ptr<int> seen;
        std::optional fetch = memoize_concurrent(executor, [&gate, &seen, captured](int) -> Task<int> {
            co_await gate;
            seen = captured;  // what the function captured is still there
            co_return 1;
        });
        Log log;
        auto ticket = (*fetch)(1);
        ticket.then(log.callback("it"));
        WHEN("the memoized function goes") {
            fetch.reset();
            gate.open();
            executor.run_all();
            THEN("the caller is told, and the coroutine ends in peace") {
                CHECK(log.lines == Lines{"it: operation_canceled"});
                CHECK(seen == captured);
            }
        }
    }
    GIVEN("a plain function that destroys its memoized self") {
        ManualExecutor executor;
        using Function = std::function<int(int)>;
        std::optional<decltype(memoize_concurrent(executor, Function()))> fetch;
        fetch.emplace(memoize_concurrent(executor, Function([&fetch, text = std::string(100, 'x')](int) {
                                             fetch.reset();
                                             return static_cast<int>(text.size());
                                         })));
        Log log;
        auto ticket = (*fetch)(1);
        ticket.then(log.callback("it"));
        executor.run_all();
        THEN("the caller is told") { CHECK(log.lines == Lines{"it: operation_canceled"}); }
    }
}

SCENARIO("L3, 30: 100,000 coroutines that wait for one call are resumed on a flat stack", "[memoize]") {
    ManualExecutor executor;
    std::array<Gate, 2> gates;
    auto fetch = memoize_concurrent(executor, [&](std::size_t number) -> Task<std::size_t> {
        co_await gates[number];
        co_return number;
    });
    constexpr std::size_t kWaiters = 100'000;
    std::size_t sum = 0;
    const char* lowest = nullptr;
    const char* highest = nullptr;
    const auto request = [&]() -> Task<> {
        sum += *co_await fetch(0);
        const char here = 0;
        const char* volatile address = &here;
        lowest = !lowest || address < lowest ? address : lowest;
        highest = !highest || address > highest ? address : highest;
        sum += *co_await fetch(1);
    };
    for (std::size_t i = 0; i < kWaiters; ++i) request().start();
    gates[0].open();
    executor.run_all();
    gates[1].open();
    executor.run_all();
    CHECK(sum == kWaiters);
    CHECK(fetch.stats().runs == 2);
}
