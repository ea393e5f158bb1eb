// SPDX-License-Identifier: MIT
// What the tests of the primitive share: an int result, a run whose completers
// are kept to be landed by hand, and a log of what was delivered to whom.
#pragma once

#include <coalesce/flight/group.h>
#include <coalesce/flight/manual_executor.h>

#include <deque>
#include <exception>
#include <future>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "../catch.h"

namespace coalesce::test {

/// "= 5", "operation_canceled", "deadlock", "broken_promise" or what() of a runtime_error.
template <class T>
std::string told(const Landing<T>& landing) {
    if ((landing.value != nullptr) == (landing.error != nullptr)) return "both or neither";
    try {
        const auto& value = landing.get();
        if constexpr (std::is_same_v<T, int>)
            return "= " + std::to_string(*value);
        else
            return "= value";
    } catch (const std::system_error& error) {
        if (error.code() == std::errc::operation_canceled) return "operation_canceled";
        if (error.code() == std::errc::resource_deadlock_would_occur) return "deadlock";
        return error.what();
    } catch (const std::future_error& error) {
        return error.code() == std::future_errc::broken_promise ? "broken_promise" : error.what();
    } catch (const std::runtime_error& error) {
        return error.what();
    }
}

/// An exception of a type that nobody else throws.
struct Peculiar : std::exception {
    int number = 42;
};

/// A run that does nothing but keep its completers, oldest first.
template <class T = int, class State = NoState>
struct Runs {
    std::deque<Completer<T, State>> completers;
    std::size_t started = 0;

    /// The start function: remembers the completer.
    auto start() {
        return [this](Completer<T, State> completer) {
            ++started;
            completers.push_back(std::move(completer));
        };
    }
    Completer<T, State> take() {
        Completer<T, State> oldest = std::move(completers.front());
        completers.pop_front();
        return oldest;
    }
    void land(int value) { take().value(value); }
    void fail(const char* why) { take().error(std::make_exception_ptr(std::runtime_error(why))); }
};

/// Who was told what, in order: "a: = 5".
struct Log {
    std::vector<std::string> lines;

    auto callback(std::string name) {
        return [this, name = std::move(name)]<class T>(const Landing<T>& landing) {
            lines.push_back(name + ": " + told(landing));
        };
    }
    std::vector<std::string> take() { return std::exchange(lines, {}); }
};

using Lines = std::vector<std::string>;

}  // namespace coalesce::test
