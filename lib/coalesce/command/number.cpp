// SPDX-License-Identifier: MIT
// Decimal digits times a unit in integers: floating point would make 0.1s a
// matter of luck, and strtod reads the locale.
#include <coalesce/command/number.h>

#include <algorithm>

namespace coalesce {
namespace {

std::string_view leading_digits(std::string_view text) {
    const auto end = std::find_if_not(text.begin(), text.end(), is_digit);
    return text.substr(0, static_cast<std::size_t>(end - text.begin()));
}

std::uint64_t digit_value(char c) { return static_cast<std::uint64_t>(c - '0'); }

// From the last digit to the first: rounding at every step is the same as rounding
// once, because floor((n + floor(x)) / 10) == floor((n + x) / 10), and so for ceil.
std::uint64_t scaled_fraction(std::string_view digits, std::uint64_t scale, Rounding rounding) {
    std::uint64_t value = 0;
    for (auto digit = digits.rbegin(); digit != digits.rend(); ++digit)
        value = (digit_value(*digit) * scale + value + (rounding == Rounding::up ? 9 : 0)) / 10;
    return value;
}

}  // namespace

std::optional<Decimal> split_decimal(std::string_view text) {
    Decimal number;
    number.whole = leading_digits(text);
    text.remove_prefix(number.whole.size());
    if (!text.empty() && text.front() == '.') {
        text.remove_prefix(1);
        number.fraction = leading_digits(text);
        if (number.fraction.empty()) return std::nullopt;
        text.remove_prefix(number.fraction.size());
    }
    if (number.whole.empty() && number.fraction.empty()) return std::nullopt;
    number.unit = text;
    return number;
}

std::optional<std::uint64_t> scaled(const Decimal& number, std::uint64_t scale, std::uint64_t limit,
                                    Rounding rounding) {
    const std::uint64_t whole_max = limit / scale;
    std::uint64_t whole = 0;
    for (const char c : number.whole) {
        const std::uint64_t digit = digit_value(c);
        if (digit > whole_max || whole > (whole_max - digit) / 10) return std::nullopt;
        whole = whole * 10 + digit;
    }
    const std::uint64_t fraction = scaled_fraction(number.fraction, scale, rounding);
    if (fraction > limit - whole * scale) return std::nullopt;
    return whole * scale + fraction;
}

}  // namespace coalesce
