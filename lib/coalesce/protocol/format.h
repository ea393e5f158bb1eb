// SPDX-License-Identifier: MIT
// Sentences with values in them: fmt, which is compiled in one place (format.cpp).
//
// Debian ships no static libfmt, and each source that formatted by its headers would compile
// the whole library again: 5 to 10 seconds under sanitizers. A shared one would cost start-up.
#pragma once

#include <string>

#include <fmt/core.h>

namespace coalesce {

/// What fmt makes of it; formatted() is what one calls.
[[nodiscard]] std::string formatted_values(fmt::string_view sentence, fmt::format_args values);

/// The sentence with the values in the place of its `{}`, in fmt's syntax; it is checked when
/// compiled.
template <class... Value>
[[nodiscard]] std::string formatted(fmt::format_string<const Value&...> sentence, const Value&... values) {
    return formatted_values(sentence, fmt::make_format_args(values...));
}

}  // namespace coalesce
