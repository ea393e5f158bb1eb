// SPDX-License-Identifier: MIT
// L3, 29: an exception that escapes a callback ends the program: behind the
// callback is a loop, often of C frames, that it must not cross. A program of
// its own, because it succeeds by dying in the right place.

#include <coalesce/flight/group.h>
#include <coalesce/flight/manual_executor.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <stdexcept>

int main() {
    std::set_terminate([] {
        std::puts("terminated");
        std::_Exit(0);
    });
    coalesce::ManualExecutor executor;
    coalesce::Group<int, int> group(executor);
    auto ticket = group.join(1, [](coalesce::Completer<int> completer) { completer.value(1); });
    ticket.then([](const coalesce::Landing<int>&) { throw std::runtime_error("escapes"); });
    try {
        executor.run_all();
    } catch (...) {
        std::puts("escaped");
        return 1;
    }
    std::puts("swallowed");
    return 1;
}
