// SPDX-License-Identifier: MIT
// The header-only part as a consumer uses it: on a loop, in coroutines and between threads.
#include <coalesce/flight/blocking_memoize.h>
#include <coalesce/flight/manual_executor.h>
#include <coalesce/flight/memoize.h>

#include <iostream>
#include <memory>
#include <string>
#include <string_view>

int main() {
    coalesce::ManualExecutor loop;
    coalesce::Group<std::string, int> group(loop);
    coalesce::Completer<int> run;
    int runs = 0;
    const auto start = [&](coalesce::Completer<int> completer) {
        ++runs;
        run = std::move(completer);
    };
    auto lookup =
        coalesce::memoize_concurrent(loop, [&](std::string_view key) { return group.join(std::string(key), start); });

    int sum = 0;
    auto first = lookup("answer");
    auto second = lookup("answer");
    first.then([&](const coalesce::Landing<std::shared_ptr<const int>>& landing) { sum += **landing.get(); });
    second.then([&](const coalesce::Landing<std::shared_ptr<const int>>& landing) { sum += **landing.get(); });
    run.value(21);
    loop.run_all();

    auto twice = coalesce::memoize_concurrent([](int number) { return 2 * number; });
    std::cout << runs << " run, " << sum << ", " << *twice(21) << '\n';
}
