// SPDX-License-Identifier: MIT
// Number: a decimal as a user types it, kept as digits so that nothing is rounded before its unit is known.
//
// Shared by durations and sizes. It accepts digits with at most one point and
// leaves the unit, the limit and the error to its caller.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace coalesce {

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
