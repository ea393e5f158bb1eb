// SPDX-License-Identifier: MIT
// The units of size, powers of 1024 and of 1000.
#include <coalesce/command/size.h>

#include <array>
#include <limits>
#include <optional>

#include <coalesce/command/command.h>
#include <coalesce/command/number.h>

namespace coalesce {
namespace {

constexpr std::string_view kLetters = "KMGT";

char upper(char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; }

// "" and "B" are bytes; a letter alone or with "iB" counts in 1024, with "B" in 1000.
std::optional<std::uint64_t> unit_scale(std::string_view unit) {
    if (unit.empty() || unit == "B") return 1;
    const std::size_t power = kLetters.find(upper(unit.front()));
    if (power == std::string_view::npos) return std::nullopt;
    unit.remove_prefix(1);
    if (!unit.empty() && unit != "iB" && unit != "B") return std::nullopt;
    const std::uint64_t base = unit == "B" ? 1000 : 1024;
    std::uint64_t scale = base;
    for (std::size_t i = 0; i < power; ++i) scale *= base;
    return scale;
}

}  // namespace

Result<std::uint64_t> parse_size(std::string_view text) {
    const auto number = split_decimal(text);
    const auto scale = number ? unit_scale(number->unit) : std::nullopt;
    if (!scale) return Error{{}, display_word(text) + " is not a size: use a number with K, M, G or T, such as 64K"};
    const auto bytes = scaled(*number, *scale, std::numeric_limits<std::uint64_t>::max(), Rounding::down);
    if (!bytes) return Error{{}, display_word(text) + " is too large a size"};
    return *bytes;
}

std::string format_size(std::uint64_t bytes) {
    static constexpr std::array<std::string_view, 5> kNames = {" B", " KiB", " MiB", " GiB", " TiB"};
    std::size_t power = 0;
    std::uint64_t unit = 1;
    while (power + 1 < kNames.size() && bytes / unit >= 1024) {
        unit *= 1024;
        ++power;
    }
    std::string out = std::to_string(bytes / unit);
    // bytes % unit < 2^40, so times ten fits.
    if (const std::uint64_t tenth = bytes % unit * 10 / unit; tenth != 0) out += "." + std::to_string(tenth);
    return out.append(kNames[power]);
}

}  // namespace coalesce
