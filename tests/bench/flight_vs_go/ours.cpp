// SPDX-License-Identifier: MIT
// Our side of the comparison: the same work as peer.go and peer.py. `ours WORK`
// does one round and prints the nanoseconds an operation took; see run.

#include <coalesce/flight/blocking_group.h>
#include <coalesce/flight/group.h>
#include <coalesce/flight/manual_executor.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

using namespace coalesce;

namespace {

constexpr std::size_t kOperations = 1'000'000;
using Clock = std::chrono::steady_clock;
using Keys = std::vector<std::string>;

Keys keys(const char* prefix) {
    Keys made;
    for (int i = 0; i < 1000; ++i) {
        char text[64];
        std::snprintf(text, sizeof text, "%s -O2 -c some/directory/of/sources/file_%09d", prefix, i);
        made.emplace_back(text, 50);
    }
    return made;
}

void report(Clock::time_point begin) {
    const std::chrono::duration<double, std::nano> passed = Clock::now() - begin;
    std::printf("%.2f\n", passed.count() / kOperations);
}

// A requester with a callback joins one of 1,000 live flights, and leaves.
void join_leave() {
    const Keys all = keys("cc");
    ManualExecutor executor;
    Group<std::string, int, NoState, StringHash> group(executor);
    std::vector<Completer<int>> running;
    const auto held = [&](Completer<int> completer) { running.push_back(std::move(completer)); };
    for (const auto& key : all) std::move(group.join(key, held)).detach();
    int delivered = 0;
    const auto begin = Clock::now();
    for (std::size_t i = 0; i < kOperations; ++i) {
        auto ticket = group.join(std::string_view(all[i % all.size()]), held);
        ticket.then([&](const Landing<int>&) { ++delivered; });
    }
    report(begin);
    if (group.stats().leaves != kOperations || delivered != 0) std::abort();
}

// An idle key is led, lands with a value, and the leader's callback gets it.
void lead_land() {
    const Keys all = keys("cc");
    ManualExecutor executor;
    Group<std::string, int, NoState, StringHash> group(executor);
    std::size_t sum = 0;
    const auto begin = Clock::now();
    for (std::size_t i = 0; i < kOperations; ++i) {
        auto ticket =
            group.join(std::string_view(all[i % all.size()]), [](Completer<int> completer) { completer.value(1); });
        ticket.then([&](const Landing<int>& landing) { sum += static_cast<std::size_t>(*landing.value); });
        executor.run_one();
    }
    report(begin);
    if (sum != kOperations) std::abort();
}

// Two threads that each call an empty function.
void threads(const std::function<Keys(int)>& of) {
    BlockingGroup<std::string, int, StringHash> group;
    const Keys of_each[] = {of(0), of(1)};
    const auto begin = Clock::now();
    {
        std::vector<std::jthread> both;
        for (const Keys& all : of_each)
            both.emplace_back([&] {
                for (std::size_t i = 0; i < kOperations; ++i)
                    if (*group.call(std::string_view(all[i % all.size()]), [] { return 1; }) != 1) std::abort();
            });
    }
    report(begin);
}

}  // namespace

int main(int count, char** arguments) {
    const std::string_view work = count > 1 ? arguments[1] : "";
    if (work == "join_leave") {
        join_leave();
    } else if (work == "lead_land") {
        lead_land();
    } else if (work == "threads_distinct") {
        threads([](int thread) { return keys(thread ? "c2" : "c1"); });
    } else if (work == "threads_hot") {
        threads([](int) {
            Keys hot = keys("cc");
            hot.resize(1);
            return hot;
        });
    } else {
        return 2;
    }
}
