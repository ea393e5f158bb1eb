// SPDX-License-Identifier: MIT
// memoize_concurrent where other threads come in: runs that are futures, tickets as
// futures, calls asked for from elsewhere. Under ThreadSanitizer, too.

#include "recorder.h"

#include <coalesce/flight/memoize.h>
#include <coalesce/flight/queue_executor.h>

#include <future>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

using namespace coalesce;
using namespace coalesce::test;

SCENARIO("L1, original identical_concurrent_memoized_future: equal calls of a function that returns a future are one",
         "[memoize]") {
    GIVEN("a memoized function whose future is ready, not ready, shared or deferred") {
        QueueExecutor executor;
        int calls = 0;
        std::promise<int> promise;
        std::vector<std::shared_ptr<const int>> results;
        const auto consume = [&](auto& fetch) {
            for (int i = 0; i < 2; ++i) {
                auto ticket = fetch(7);
                ticket.then([&](const Landing<int>& landing) { results.push_back(landing.get()); });
                std::move(ticket).detach();
            }
        };
        const auto check = [&] {
            executor.run_until([&] { return results.size() == 2; });
            CHECK(calls == 1);
            CHECK(*results[0] == 14);
            CHECK(results[0] == results[1]);
        };
        WHEN("it becomes ready later") {
            auto fetch = memoize_concurrent(executor, [&](int) {
                ++calls;
                return promise.get_future();
            });
            consume(fetch);
            executor.run_all();
            CHECK(results.empty());
            promise.set_value(14);
            THEN("both have the same object") { check(); }
        }
        WHEN("another thread makes it") {
            auto fetch = memoize_concurrent(executor, [&](int number) {
                ++calls;
                return std::async(std::launch::async,
                                  [number, go = promise.get_future()]() mutable {
                                      go.wait();
                                      return number * 2;
                                  })
                    .share();
            });
            consume(fetch);
            promise.set_value(0);
            THEN("both have the same object") { check(); }
        }
        WHEN("it is ready at once or deferred") {
            auto fetch = memoize_concurrent(executor, [&](int number) {
                ++calls;
                return std::async(std::launch::deferred, [number] { return number * 2; });
            });
            auto ticket = fetch(7);
            ticket.then([&](const Landing<int>& landing) { results.push_back(landing.get()); });
            executor.run_all();
            THEN("it needs no thread") { CHECK(*results.at(0) == 14); }
        }
        WHEN("it breaks its promise") {
            auto fetch = memoize_concurrent(
                executor, [&](int) { return std::async(std::launch::deferred, []() -> int { throw Peculiar(); }); });
            auto ticket = fetch(7);
            int seen = 0;
            ticket.then([&](const Landing<int>& landing) {
                try {
                    (void)landing.get();
                } catch (const Peculiar& error) {
                    seen = error.number;
                }
            });
            executor.run_all();
            THEN("the exception arrives with its own type") { CHECK(seen == 42); }
        }
        WHEN("the memoized function goes before its future is ready") {
            std::optional fetch = memoize_concurrent(executor, [&](int) { return promise.get_future(); });
            auto ticket = (*fetch)(7);
            std::string outcome;
            ticket.then([&](const Landing<int>& landing) { outcome = told(landing); });
            fetch.reset();
            executor.run_all();
            promise.set_value(14);
            executor.run_all();
            THEN("the caller is told that it was cancelled, and nothing is touched later") {
                CHECK(outcome == "operation_canceled");
            }
        }
    }
}

SCENARIO("L2: a ticket as a std::shared_future is waited for by another thread", "[memoize]") {
    QueueExecutor executor;
    WHEN("it has a value") {
        auto twice = memoize_concurrent(executor, [](int number) { return number * 2; });
        const std::shared_future<std::shared_ptr<const int>> future = twice(4).future();
        std::shared_ptr<const int> seen, seen_too;
        {
            const std::jthread one([&, future] { seen = future.get(); });
            const std::jthread two([&, future] { seen_too = future.get(); });
            executor.run_all();
        }
        THEN("all threads have the same object") {
            CHECK(*seen == 8);
            CHECK(seen == seen_too);
        }
    }
    WHEN("it is void, or fails") {
        auto check = memoize_concurrent(executor, [](int number) {
            if (number) throw Peculiar();
        });
        std::shared_future<void> good = check(0).future(), bad = check(1).future();
        executor.run_all();
        THEN("it says so") {
            CHECK_NOTHROW(good.get());
            CHECK_THROWS_AS(bad.get(), Peculiar);
        }
    }
    WHEN("the ticket has become a future") {
        Completer<int> run;
        Group<int, int> group(executor);
        auto future = group.join(1, [&](Completer<int> completer) { run = std::move(completer); }).future();
        THEN("the run goes on for it") {
            CHECK(run.waiters() == 1);
            run.value(3);
            executor.run_all();
            CHECK(*future.get() == 3);
        }
    }
    WHEN("the executor goes first") {
        std::shared_future<std::shared_ptr<const int>> future;
        {
            ManualExecutor short_lived;
            auto twice = memoize_concurrent(short_lived, [](int number) { return number * 2; });
            future = twice(4).future();
        }
        THEN("the future is a broken promise, not a hang") { CHECK_THROWS_AS(future.get(), std::future_error); }
    }
}

SCENARIO("39: a call asked for from another thread goes through a post, and no post is lost", "[memoize]") {
    QueueExecutor executor;
    int calls = 0, answered = 0;
    auto fetch = memoize_concurrent(executor, [&](int number) -> std::future<int> {
        ++calls;
        return std::async(std::launch::async, [number] { return number; });
    });
    constexpr int kThreads = 4, kRequests = 250;
    std::vector<std::jthread> threads;
    for (int t = 0; t < kThreads; ++t)
        threads.emplace_back([&] {
            for (int i = 0; i < kRequests; ++i)
                executor.post([&, i] {
                    auto ticket = fetch(i % 3);
                    ticket.then([&, i](const Landing<int>& landing) { answered += *landing.get() == i % 3; });
                    std::move(ticket).detach();
                });
        });
    executor.run_until([&] { return answered == kThreads * kRequests; });
    CHECK(answered == kThreads * kRequests);
    CHECK(calls <= answered);
}
