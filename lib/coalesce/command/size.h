// SPDX-License-Identifier: MIT
// Byte sizes as users write them: "64K", "1M", "1GiB".
//
// Units are powers of 1024 with or without "iB", powers of 1000 with a plain
// "B" after the letter, as GNU tools have it. What a size bounds is the caller's.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <coalesce/command/result.h>

namespace coalesce {

/// "4096", "64K", "64KiB", "64KB" (64000), "1.5G"; K or k, M, G, T. A fraction is rounded down to
/// whole bytes. Refused, naming the culprit: a sign, spaces, another unit, 2⁶⁴ or more.
[[nodiscard]] Result<std::uint64_t> parse_size(std::string_view text);

/// Short, for people: "512 B", "64 KiB", "1.5 GiB".
[[nodiscard]] std::string format_size(std::uint64_t bytes);

}  // namespace coalesce
