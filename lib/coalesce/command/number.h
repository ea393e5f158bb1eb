// SPDX-License-Identifier: MIT
// Number: what is typed or written as a number, read without a locale.
//
// A decimal is kept as digits, so that nothing is rounded before its unit is known; durations and sizes
// share it. It has at most one point, and leaves the unit, the limit and the error to its caller, as
// whole numbers do.
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>
#include <system_error>

namespace coalesce {

/// A decimal digit, whatever the locale.
[[nodiscard]] constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

/// Whether the text is a whole number, all of it, that `into` has room for; it is there then.
template <class Whole>
[[nodiscard]] bool read_whole_number(std::string_view text, Whole& into) {
    const char* const end = text.data() + text.size();
    const auto [stopped, error] = std::from_chars(text.data(), end, into);
    return error == std::errc() && stopped == end;
}

/// "1.5" of "1.5s", and "s".
struct Decimal {
    std::string_view whole;     ///< may be empty when there is a fraction
    std::string_view fraction;  ///< digits after the point
    std::string_view unit;      ///< whatever follows
};

/// Splits text into number and unit. Nothing without a digit, or with a point that no digit follows.
[[nodiscard]] std::optional<Decimal> split_decimal(std::string_view text);

enum class Rounding { down, up };

/// The number times `scale`, exact up to one final rounding. Nothing when it exceeds `limit`.
[[nodiscard]] std::optional<std::uint64_t> scaled(const Decimal& number, std::uint64_t scale, std::uint64_t limit,
                                                  Rounding rounding);

}  // namespace coalesce
