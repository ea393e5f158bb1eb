// SPDX-License-Identifier: MIT
// Values of options: each of these makes what takes one of a kind, and puts it somewhere.
// A refusal names the option and shows the value.
#pragma once

#include <coalesce/command/result.h>

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "argument_texts.h"
#include "command_line.h"

#include <coalesce/command/number.h>

namespace coalesce {

/// "--jobs: 'x' is no whole number"
[[nodiscard]] inline Error wrong_value(std::string_view name, std::string_view value, std::string_view why) {
    return {{}, std::string(name) + ": '" + std::string(value) + "' " + std::string(why)};
}

/// A whole number.
template <class Number>
CommandLine::Take number(Number& into) {
    return [&into](std::string_view name, const std::string& value) -> Result<> {
        if (!read_whole_number(value, into)) return wrong_value(name, value, "is no whole number");
        return {};
    };
}

/// The same; it may be left out.
template <class Number>
CommandLine::Take number(std::optional<Number>& into) {
    return [&into](std::string_view name, const std::string& value) { return number(into.emplace())(name, value); };
}

/// What a function makes of the text, which says itself what was wrong with it.
template <class Parse, class Into>
CommandLine::Take parsed(Parse parse, Into& into) {
    return [parse, &into](std::string_view name, const std::string& value) -> Result<> {
        auto made = parse(value);
        if (!made) return Error{{}, std::string(name) + ": " + made.error().message()};
        into = *made;
        return {};
    };
}

/// The text as it is. Text and paths may be the std::string or an optional one.
template <class Into>
CommandLine::Take text(Into& into) {
    return [&into](std::string_view, const std::string& value) -> Result<> {
        into = value;
        return {};
    };
}

/// A text that may not be empty; `why` is told.
template <class Into>
CommandLine::Take filled(Into& into, std::string_view why = {}) {
    return [&into, why](std::string_view name, const std::string& value) -> Result<> {
        if (value.empty()) return Error{{}, std::string(name) + " is empty" + std::string(why)};
        into = value;
        return {};
    };
}

/// A duration: 10, 1.5s, 5m.
[[nodiscard]] CommandLine::Take duration(std::chrono::milliseconds& into);
[[nodiscard]] CommandLine::Take duration(std::optional<std::chrono::milliseconds>& into);

/// The same; 0 is none, as with timeout(1).
[[nodiscard]] CommandLine::Take time_limit(std::optional<std::chrono::milliseconds>& into);

/// A number of bytes: 64K, 2G.
[[nodiscard]] CommandLine::Take size(std::uint64_t& into);
[[nodiscard]] CommandLine::Take size(std::optional<std::uint64_t>& into);

/// One of the choices that an argument's word stands for.
[[nodiscard]] CommandLine::Take choice(std::string& into, const ArgumentText& argument);

/// "A,B,C", names of variables or patterns of them; empty ones are left out.
[[nodiscard]] CommandLine::Take variable_names(std::optional<std::vector<std::string>>& into);

/// Appends the text.
[[nodiscard]] CommandLine::Take each(std::vector<std::string>& into);

/// Appends the user, given by number or name.
[[nodiscard]] CommandLine::Take each_user(std::vector<uid_t>& into);

/// How many commands at a time: 8, 50%, +2, -1.
[[nodiscard]] CommandLine::Take jobs(unsigned& into);

}  // namespace coalesce
