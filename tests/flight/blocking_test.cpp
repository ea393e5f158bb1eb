// SPDX-License-Identifier: MIT
// The thread-safe form: many threads, one call, everybody waits. Meant to be run
// under ThreadSanitizer as well (see tests/flight/CMakeLists.txt). No test
// sleeps: a run is held on a promise, and who has come is asked of the group.
#include <coalesce/flight/blocking_group.h>
#include <coalesce/flight/blocking_memoize.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <functional>
#include <future>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <pthread.h>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <type_traits>
#include <vector>

#include "recorder.h"

using namespace coalesce;
using coalesce::test::Peculiar;

namespace {

template <class Condition>
void wait_until(Condition condition) {
    while (!condition()) std::this_thread::yield();
}

std::string outcome_of(const std::function<void()>& call) {
    try {
        call();
        return "value";
    } catch (const std::system_error& error) {
        return error.code() == std::errc::resource_deadlock_would_occur ? "deadlock" : error.what();
    } catch (const std::future_error& error) {
        return error.code() == std::future_errc::broken_promise ? "broken_promise" : error.what();
    } catch (const std::exception& error) {
        return error.what();
    }
}

}  // namespace

SCENARIO("L1, 1: 1,000 threads that ask for one key share one run and one object", "[blocking]") {
    BlockingGroup<std::string, int> group;
    constexpr std::size_t kThreads = 1000;
    std::promise<void> go;
    const std::shared_future<void> gone = go.get_future().share();
    std::atomic<int> runs = 0;
    std::vector<std::shared_ptr<const int>> results(kThreads);
    {
        std::vector<std::jthread> threads;
        for (std::size_t i = 0; i < kThreads; ++i)
            threads.emplace_back([&, i] {
                results[i] = group.call("key", [&] {
                    ++runs;
                    gone.wait();
                    return 7;
                });
            });
        wait_until([&] { return group.requesters("key") == kThreads; });
        go.set_value();
    }
    CHECK(runs == 1);
    CHECK(*results[0] == 7);
    CHECK(std::all_of(results.begin(), results.end(), [&](const auto& result) { return result == results[0]; }));
    CHECK(group.empty());
}

SCENARIO("L1, 2: different keys run at the same time", "[blocking]") {
    BlockingGroup<int, int> group;
    std::promise<void> first_runs, second_runs;
    // Each run ends only once the other has begun.
    std::jthread other([&] {
        (void)group.call(1, [&] {
            first_runs.set_value();
            second_runs.get_future().wait();
            return 1;
        });
    });
    const auto two = group.call(2, [&] {
        second_runs.set_value();
        first_runs.get_future().wait();
        return 2;
    });
    CHECK(*two == 2);
}

SCENARIO("L1, 3, 6: calls in sequence run again, and an exception has its own type", "[blocking]") {
    BlockingGroup<int, int> group;
    int runs = 0;
    const auto failing = [&]() -> int {
        ++runs;
        throw Peculiar();
    };
    CHECK_THROWS_AS(group.call(1, failing), Peculiar);
    CHECK_THROWS_AS(group.call(1, failing), Peculiar);
    CHECK(*group.call(1, [&] { return ++runs; }) == 3);
    CHECK(group.empty());
}

SCENARIO("F4: a failure reaches every thread that waits, and the run is not repeated", "[blocking]") {
    BlockingGroup<int, int> group;
    constexpr int kThreads = 16;
    std::atomic<int> runs = 0, caught = 0;
    {
        std::vector<std::jthread> threads;
        for (int i = 0; i < kThreads; ++i)
            threads.emplace_back([&] {
                try {
                    (void)group.call(1, [&]() -> int {
                        ++runs;
                        wait_until([&] { return group.requesters(1) == kThreads; });
                        throw Peculiar();
                    });
                } catch (const Peculiar& error) {
                    caught += error.number == 42;
                }
            });
    }
    CHECK(runs == 1);
    CHECK(caught == kThreads);
}

SCENARIO("F2: a thread that asks again when it is woken starts a new run, and all of them share it", "[blocking]") {
    BlockingGroup<int, int> group;
    constexpr int kThreads = 8;
    std::atomic<int> runs = 0;
    const auto run = [&] {
        const int mine = ++runs;
        wait_until([&] { return group.requesters(1) == kThreads; });
        return mine;
    };
    std::array<int, kThreads> sums{};
    {
        std::vector<std::jthread> threads;
        for (auto& sum : sums) threads.emplace_back([&] { sum = *group.call(1, run) * 10 + *group.call(1, run); });
    }
    CHECK(runs == 2);
    CHECK(std::all_of(sums.begin(), sums.end(), [](int sum) { return sum == 12; }));
}

SCENARIO("L2: a function may hand on a std::future, which the leading thread waits for", "[blocking]") {
    BlockingGroup<int, int> group;
    CHECK(*group.call(1, [] { return std::async(std::launch::async, [] { return 5; }); }) == 5);
    CHECK(*group.call(1, [] { return std::async(std::launch::deferred, [] { return 6; }).share(); }) == 6);
    CHECK_THROWS_AS(group.call(1, [] { return std::async(std::launch::async, []() -> int { throw Peculiar(); }); }),
                    Peculiar);
    BlockingGroup<int, void> nothing;
    nothing.call(1, [] { return std::async(std::launch::async, [] {}); });
    CHECK_THROWS_AS(nothing.call(1, [] { return std::promise<void>().get_future(); }), std::future_error);
}

SCENARIO("L4, 31: T may be void, move-only, not default-constructible or a reference wrapper", "[blocking]") {
    struct Fixed {
        explicit Fixed(int number_) : number(number_) {}
        Fixed(const Fixed&) = delete;
        Fixed(Fixed&&) = default;
        int number;
    };
    BlockingGroup<int, void> nothing;
    BlockingGroup<int, std::unique_ptr<int>> owned;
    BlockingGroup<int, Fixed> fixed;
    BlockingGroup<int, std::reference_wrapper<int>> referred;
    int object = 1;
    nothing.call(1, [] {});
    CHECK(**owned.call(1, [] { return std::make_unique<int>(2); }) == 2);
    CHECK(fixed.call(1, [] { return Fixed(3); })->number == 3);
    referred.call(1, [&] { return std::ref(object); })->get() = 4;
    CHECK(object == 4);
    static_assert(std::is_void_v<decltype(nothing.call(1, [] {}))>);
    static_assert(std::is_same_v<decltype(fixed.call(1, [] { return Fixed(3); })), std::shared_ptr<const Fixed>>);
}

SCENARIO("L4, 34: equal hashes are not equal keys, and a key unequal to itself runs uncoalesced", "[blocking]") {
    struct SameHash {
        std::size_t operator()(int) const { return 7; }
    };
    BlockingGroup<int, int, SameHash> same;
    // All at once: every run waits until all keys are in flight.
    constexpr int kThreads = 8;
    std::atomic<int> right = 0, running = 0;
    {
        std::vector<std::jthread> threads;
        for (int key = 0; key < kThreads; ++key)
            threads.emplace_back([&, key] {
                right += *same.call(key, [&] {
                    ++running;
                    wait_until([&] { return running == kThreads; });
                    return key;
                }) == key;
            });
    }
    CHECK(right == kThreads);

    BlockingGroup<double, int> doubles;
    const double nan = std::numeric_limits<double>::quiet_NaN();
    CHECK(*doubles.call(nan, [&] { return static_cast<int>(doubles.size()); }) == 0);
}

SCENARIO("L1: a key is copied with nothing locked, and who led it meanwhile is joined", "[blocking]") {
    // Copying a key calls `on_copy`; here it lets another thread lead that very key.
    struct CopiedKey {
        explicit CopiedKey(const std::function<void()>* call) : on_copy(call) {}
        CopiedKey(CopiedKey&&) = default;
        CopiedKey& operator=(CopiedKey&&) = delete;
        CopiedKey(const CopiedKey& other) : on_copy(other.on_copy) { (*on_copy)(); }
        CopiedKey& operator=(const CopiedKey&) = delete;
        ~CopiedKey() = default;
        bool operator==(const CopiedKey&) const { return true; }
        const std::function<void()>* on_copy;
    };
    struct SameHash {
        std::size_t operator()(const CopiedKey&) const { return 7; }
    };
    BlockingGroup<CopiedKey, int, SameHash> group;
    std::promise<void> led;
    std::jthread other;
    const std::function<void()> lead_elsewhere = [&] {
        other = std::jthread([&] {
            (void)group.call(CopiedKey(nullptr), [&] {
                led.set_value();
                wait_until([&] { return group.requesters(CopiedKey(nullptr)) == 2; });
                return 1;
            });
        });
        led.get_future().wait();
    };
    const CopiedKey key(&lead_elsewhere);
    CHECK(*group.call(key, [] { return 2; }) == 1);
    other.join();
    CHECK(group.empty());
}

SCENARIO("L4, 33: after 10^6 distinct keys the table is empty", "[blocking]") {
    BlockingGroup<std::size_t, std::size_t> group;
    std::size_t wrong = 0;
    for (std::size_t key = 0; key < 1'000'000; ++key) wrong += *group.call(key, [&] { return key; }) != key;
    CHECK(wrong == 0);
    CHECK(group.empty());
}

SCENARIO("F11, 21: a thread that asks for its own key is told", "[blocking]") {
    BlockingGroup<int, int> group;
    std::string inner;
    const auto outer = group.call(1, [&] {
        inner = outcome_of([&] { (void)group.call(1, [] { return 0; }); });
        return 5;
    });
    CHECK(inner == "deadlock");
    CHECK(*outer == 5);
    // Unhandled, it is the outer call's outcome; the key is free again.
    CHECK(outcome_of([&] { (void)group.call(1, [&] { return *group.call(1, [] { return 0; }); }); }) == "deadlock");
    CHECK(group.empty());
}

SCENARIO("F11, 23: a thread may ask for another key, to any depth", "[blocking]") {
    BlockingGroup<int, long> group;
    const std::function<long(int)> sum = [&](int number) -> long {
        return number ? *group.call(number - 1, [&] { return sum(number - 1); }) + number : 0;
    };
    CHECK(sum(500) == 125'250);
}

SCENARIO("F11, 22: a ring over several keys, threads and groups is refused where it closes", "[blocking]") {
    GIVEN("threads that each run a key and then ask for the next one's") {
        BlockingGroup<int, int> even;
        BlockingGroup<std::string, int> odd;
        const int length = GENERATE(2, 3, 8);
        std::atomic<int> running = 0, deadlocks = 0, values = 0;
        const auto ask = [&](int key, const std::function<int()>& run) {
            return key % 2 ? *odd.call(std::to_string(key), run) : *even.call(key, run);
        };
        WHEN("all of them are in flight before any asks") {
            {
                std::vector<std::jthread> threads;
                for (int key = 0; key < length; ++key)
                    threads.emplace_back([&, key] {
                        (void)ask(key, [&] {
                            ++running;
                            wait_until([&] { return running == length; });
                            const auto outcome = outcome_of([&] { (void)ask((key + 1) % length, [] { return 0; }); });
                            (outcome == "deadlock" ? deadlocks : values) += 1;
                            return key;
                        });
                    });
            }
            THEN("exactly the one that closes the ring is told, and the others get values") {
                CHECK(deadlocks == 1);
                CHECK(values == length - 1);
                CHECK(even.empty());
                CHECK(odd.empty());
            }
        }
    }
    GIVEN("a ring that goes through a run inside another on the same thread") {
        BlockingGroup<char, int> group;
        std::promise<void> c_runs, b_runs;
        std::string from_b, from_c;
        // One thread: a runs b inside itself, which asks for c. The other: c asks for a.
        {
            const std::jthread other([&] {
                (void)group.call('c', [&] {
                    c_runs.set_value();
                    b_runs.get_future().wait();
                    from_c = outcome_of([&] { (void)group.call('a', [] { return 0; }); });
                    return 0;
                });
            });
            (void)group.call('a', [&] {
                c_runs.get_future().wait();
                return *group.call('b', [&] {
                    b_runs.set_value();
                    from_b = outcome_of([&] { (void)group.call('c', [] { return 0; }); });
                    return 0;
                });
            });
        }
        THEN("one of the two is told") { CHECK(((from_b == "deadlock") != (from_c == "deadlock"))); }
    }
}

SCENARIO("F11, 24: two runs that wait for a common one are no ring", "[blocking]") {
    BlockingGroup<char, int> group;
    std::promise<void> go;
    const std::shared_future<void> gone = go.get_future().share();
    std::atomic<int> sum = 0;
    {
        std::vector<std::jthread> threads;
        for (const char key : {'l', 'r'})
            threads.emplace_back([&, key] {
                sum += *group.call(key, [&] {
                    return *group.call('s', [&] {
                        gone.wait();
                        return 5;
                    });
                });
            });
        wait_until([&] { return group.requesters('s') == 2; });
        go.set_value();
    }
    CHECK(sum == 10);
}

SCENARIO("F11: a thread that works for a run is told like the run itself, with a RunScope", "[blocking]") {
    BlockingGroup<int, int> group;
    CHECK(!RunRef::current());
    std::string inner, elsewhere;
    (void)group.call(1, [&] {
        return std::async(std::launch::async, [&, run = RunRef::current()] {
            const RunScope scope(run);
            inner = outcome_of([&] { (void)group.call(1, [] { return 0; }); });
            elsewhere = outcome_of([&] { (void)group.call(2, [] { return 0; }); });
            return 1;
        });
    });
    CHECK(inner == "deadlock");
    CHECK(elsewhere == "value");
    CHECK(!RunRef::current());
}

SCENARIO("17: a forgotten run keeps its waiters, and its end does not erase the new one", "[blocking]") {
    BlockingGroup<int, int> group;
    std::promise<void> end_old, end_new;
    std::shared_ptr<const int> from_old, from_new, from_joined;
    CHECK(!group.forget(1));
    std::jthread old_thread([&] {
        from_old = group.call(1, [&] {
            end_old.get_future().wait();
            return 1;
        });
    });
    wait_until([&] { return group.requesters(1) == 1; });
    CHECK(group.forget(1));
    CHECK(group.empty());
    std::jthread new_thread([&] {
        from_new = group.call(1, [&] {
            end_new.get_future().wait();
            return 2;
        });
    });
    wait_until([&] { return group.requesters(1) == 1; });
    end_old.set_value();
    old_thread.join();
    CHECK(*from_old == 1);
    CHECK(group.size() == 1);
    std::jthread joined_thread([&] { from_joined = group.call(1, [] { return 3; }); });
    wait_until([&] { return group.requesters(1) == 2; });
    end_new.set_value();
    new_thread.join();
    joined_thread.join();
    CHECK(*from_new == 2);
    CHECK(from_joined == from_new);
    CHECK(group.empty());
}

SCENARIO("7: a thread that ends inside its run breaks the promise, and nobody hangs", "[blocking]") {
    BlockingGroup<int, int> group;
    std::string joined;
    std::promise<void> go;
    std::thread leaver([&] {
        (void)group.call(1, [&]() -> int {
            go.get_future().wait();
            pthread_exit(nullptr);
        });
    });
    wait_until([&] { return group.requesters(1) == 1; });
    std::thread waiter([&] { joined = outcome_of([&] { (void)group.call(1, [] { return 0; }); }); });
    wait_until([&] { return group.requesters(1) == 2; });
    go.set_value();
    leaver.join();
    waiter.join();
    CHECK(joined == "broken_promise");
    CHECK(group.empty());
}

SCENARIO("L1: 16 threads under stress: never two runs of a key, every value right, no hang over rings", "[blocking]") {
    constexpr int kThreads = 16, kKeys = 12, kCalls = 3000;
    BlockingGroup<std::string, int, StringHash> group;
    std::array<std::atomic<int>, kKeys> running{};
    std::atomic<int> overlaps = 0, wrong = 0, deadlocks = 0, failures = 0, values = 0;
    const unsigned seed = std::random_device{}();
    INFO("seed " << seed);

    const std::function<int(int, std::mt19937&, int)> ask = [&](int key, std::mt19937& random, int depth) -> int {
        const std::string name = "key number " + std::to_string(key);
        return *group.call(std::string_view(name), [&]() -> int {
            if (++running[static_cast<std::size_t>(key)] != 1) ++overlaps;
            struct Leave {
                std::atomic<int>& count;
                ~Leave() { --count; }
            } const leave{running[static_cast<std::size_t>(key)]};
            if (random() % 4 == 0) std::this_thread::yield();
            // Sometimes ask for others, in any order, so that rings would form.
            while (depth < 3 && random() % 3 == 0) {
                const int other = static_cast<int>(random() % kKeys);
                try {
                    if (ask(other, random, depth + 1) != other * 7) ++wrong;
                } catch (const std::system_error&) {
                    ++deadlocks;
                } catch (const std::runtime_error&) {
                    ++failures;
                }
            }
            if (random() % 16 == 0) throw std::logic_error("refused");
            return key * 7;
        });
    };
    {
        std::vector<std::jthread> threads;
        for (unsigned t = 0; t < kThreads; ++t)
            threads.emplace_back([&, t] {
                std::mt19937 random(seed + t);
                for (int i = 0; i < kCalls; ++i) {
                    const int key = static_cast<int>(random() % kKeys);
                    try {
                        if (ask(key, random, 0) != key * 7) ++wrong;
                        ++values;
                    } catch (const std::logic_error&) {
                        ++failures;
                    }
                }
            });
    }
    CHECK(overlaps == 0);
    CHECK(wrong == 0);
    CHECK(deadlocks > 0);
    CHECK(values > 0);
    CHECK(group.empty());
}

SCENARIO("L1: memoize_concurrent between threads", "[blocking]") {
    GIVEN("a function of one signature") {
        std::atomic<int> calls = 0;
        std::promise<void> go;
        const std::shared_future<void> gone = go.get_future().share();
        auto fetch = memoize_concurrent([&](std::string_view text, int number) {
            ++calls;
            gone.wait();
            return std::string(text) + std::to_string(number);
        });
        WHEN("16 threads call it with equal arguments, and one with others") {
            constexpr std::size_t kThreads = 16;
            std::vector<std::shared_ptr<const std::string>> results(kThreads);
            std::shared_ptr<const std::string> apart;
            {
                std::vector<std::jthread> threads;
                for (std::size_t i = 0; i < kThreads; ++i) threads.emplace_back([&, i] { results[i] = fetch("a", 1); });
                threads.emplace_back([&] { apart = fetch("a", 2); });
                wait_until([&] { return fetch.requesters("a", 1) == kThreads && fetch.requesters("a", 2) == 1; });
                CHECK(fetch.size() == 2);
                go.set_value();
            }
            THEN("equal ones share one call and one object") {
                CHECK(calls == 2);
                CHECK(*results[0] == "a1");
                CHECK(*apart == "a2");
                CHECK(std::all_of(results.begin(), results.end(),
                                  [&](const auto& result) { return result == results[0]; }));
                CHECK(fetch.size() == 0);
            }
        }
    }
    GIVEN("a generic function") {
        auto same = memoize_concurrent([](const auto& value) { return value; });
        THEN("types are kept apart, and strings are owned") {
            static_assert(std::is_same_v<decltype(same(1)), std::shared_ptr<const int>>);
            static_assert(std::is_same_v<decltype(same(1.0)), std::shared_ptr<const double>>);
            static_assert(std::is_same_v<decltype(same(true)), std::shared_ptr<const bool>>);
            CHECK(*same(1) == 1);
            CHECK(*same(true));
            CHECK(*same("text") == "text");
        }
    }
    GIVEN("a function that returns a future, one that is void, one with a key function, and one that recurs") {
        auto later = memoize_concurrent([](int number) { return std::async([number] { return number * 2; }); });
        auto nothing = memoize_concurrent([](int) {});
        auto keyed = memoize_concurrent([](std::unique_ptr<int> number) { return *number; },
                                        [](const std::unique_ptr<int>& number) { return *number; });
        std::function<int(int)> ask;
        auto self = memoize_concurrent([&](int number) { return ask(number); });
        ask = [&](int number) { return *self(number); };
        THEN("they work, or tell") {
            CHECK(*later(4) == 8);
            nothing(1);
            CHECK(*keyed(std::make_unique<int>(3)) == 3);
            CHECK(outcome_of([&] { (void)self(1); }) == "deadlock");
        }
    }
}
