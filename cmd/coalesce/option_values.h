// SPDX-License-Identifier: MIT
// Values of options that several subcommands read the same way.
#pragma once

#include <coalesce/command/result.h>

#include <charconv>
#include <string>
#include <string_view>

namespace coalesce {

/// A whole number, or an error that names the option.
template <class Number>
Result<> take_number(std::string_view name, std::string_view value, Number& into) {
    const auto [stopped, error] = std::from_chars(value.data(), value.data() + value.size(), into);
    if (error != std::errc() || stopped != value.data() + value.size())
        return Error{{}, std::string(name) + ": '" + std::string(value) + "' is no whole number"};
    return {};
}

// Keeps what `parse` made of the value, or says which option was wrong.
template <class Parsed, class Into>
Result<> take_parsed(std::string_view name, Result<Parsed> parsed, Into& into) {
    if (!parsed) return Error{{}, std::string(name) + ": " + parsed.error().message()};
    into = *parsed;
    return {};
}

}  // namespace coalesce
