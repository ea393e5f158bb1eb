// SPDX-License-Identifier: MIT
// What a join costs beside the bare minimum: the lookup of a 50-byte key in a
// std::unordered_map and a push_back of two pointers. Rounds are interleaved and
// their medians compared, so that what else the machine does hits both alike.
// Prints the ratio (target: at most 2), and the memory of a waiting requester.

#include <coalesce/flight/group.h>
#include <coalesce/flight/manual_executor.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <malloc.h>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

using namespace coalesce;

namespace {

constexpr std::size_t kJoins = 1'000'000;
constexpr int kRounds = 11;

struct TwoPointers {
    void* context;
    void (*callback)(void*, int);
};

double ns_since(std::chrono::steady_clock::time_point begin) {
    return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin).count();
}

std::vector<std::string> make_keys(std::size_t count) {
    std::vector<std::string> keys;
    for (std::size_t i = 0; i < count; ++i) {
        std::string key = "cc -O2 -c some/directory/of/sources/file_" + std::to_string(i);
        key.resize(50, 'x');
        keys.push_back(std::move(key));
    }
    return keys;
}

double bare(const std::vector<std::string>& keys, void* context) {
    std::unordered_map<std::string, std::vector<TwoPointers>, StringHash, std::equal_to<>> map;
    for (const auto& key : keys) map[key];
    const auto begin = std::chrono::steady_clock::now();
    for (std::size_t i = 0, k = 0; i < kJoins; ++i, k = k + 1 == keys.size() ? 0 : k + 1)
        map.find(std::string_view(keys[k]))->second.push_back({context, nullptr});
    return ns_since(begin) / kJoins;
}

struct Joins {
    double join_ns;
    double delivery_ns;
};

Joins joins(const std::vector<std::string>& keys, std::size_t& called) {
    ManualExecutor executor;
    Group<std::string, int, NoState, StringHash> group(executor);
    std::vector<Completer<int>> completers;
    const auto start = [&](Completer<int> completer) { completers.push_back(std::move(completer)); };
    for (const auto& key : keys) std::move(group.join(key, start)).detach();
    Joins result{};
    auto begin = std::chrono::steady_clock::now();
    for (std::size_t i = 0, k = 0; i < kJoins; ++i, k = k + 1 == keys.size() ? 0 : k + 1) {
        auto ticket = group.join(std::string_view(keys[k]), start);
        ticket.then([count = &called, sum = &result](const Landing<int>&) { ++*count, (void)sum; });
        std::move(ticket).detach();
    }
    result.join_ns = ns_since(begin) / kJoins;
    begin = std::chrono::steady_clock::now();
    for (auto& completer : completers) completer.value(1);
    executor.run_all();
    result.delivery_ns = ns_since(begin) / kJoins;
    return result;
}

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

double bytes_per_waiter() {
    constexpr std::size_t kWaiters = 2'000'000;
    ManualExecutor executor;
    Group<std::string, int, NoState, StringHash> group(executor);
    std::vector<Completer<int>> completers;
    const auto in_use = [] {
        const auto info = mallinfo2();
        return info.uordblks + info.hblkhd;
    };
    const std::size_t before = in_use();
    for (std::size_t i = 0; i < kWaiters; ++i) {
        auto ticket = group.join(std::string_view("the one hot key"),
                                 [&](Completer<int> completer) { completers.push_back(std::move(completer)); });
        ticket.then([context = &group, more = &executor](const Landing<int>&) { (void)context, (void)more; });
        std::move(ticket).detach();
    }
    return static_cast<double>(in_use() - before) / kWaiters;
}

}  // namespace

int main() {
    std::printf("%-10s %12s %12s %8s %16s\n", "keys", "bare ns", "join ns", "ratio", "delivery ns");
    bool reached = true;
    for (const std::size_t count : {std::size_t{1}, std::size_t{1000}, std::size_t{100'000}}) {
        const auto keys = make_keys(count);
        std::vector<double> bares, join_times, deliveries;
        std::size_t called = 0;
        for (int round = 0; round < kRounds; ++round) {
            bares.push_back(bare(keys, &called));
            const Joins ours = joins(keys, called);
            join_times.push_back(ours.join_ns);
            deliveries.push_back(ours.delivery_ns);
        }
        if (called != kJoins * kRounds) std::abort();
        const double ratio = median(join_times) / median(bares);
        reached = reached && ratio <= 2;
        std::printf("%-10zu %12.1f %12.1f %8.2f %16.1f\n", count, median(bares), median(join_times), ratio,
                    median(deliveries));
    }
    const double bytes = bytes_per_waiter();
    reached = reached && bytes <= 64;
    std::printf("bytes a waiter (2,000,000 on one flight): %.1f\n", bytes);
    std::printf("targets (ratio <= 2, bytes <= 64): %s\n", reached ? "reached" : "MISSED");
    return reached ? 0 : 1;
}
