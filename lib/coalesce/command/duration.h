// SPDX-License-Identifier: MIT
// Durations as users write them ("10", "1.5s", "5m") and read them ("2m 3s").
//
// Parsing is exact to the millisecond, never reads the locale, and rejects
// what it does not fully understand with an error that names the culprit.
// What a duration bounds is the caller's.
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include <coalesce/command/result.h>

namespace coalesce {

/// A decimal number and an optional unit: ms, s (the default), m, h, d. "1.5s",
/// "250ms", "0". Finer than a millisecond is rounded up, so that what is not
/// zero never becomes zero ("no limit"). Refused: a sign, an exponent, spaces,
/// another unit, more than 100 years.
[[nodiscard]] Result<std::chrono::milliseconds> parse_duration(std::string_view text);

/// Short, for people, to the millisecond, at most two units: "250ms", "1.5s", "2m 3s", "1h 5m", "2d 3h".
[[nodiscard]] std::string format_duration(std::chrono::nanoseconds duration);

}  // namespace coalesce
