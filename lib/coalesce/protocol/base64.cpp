// SPDX-License-Identifier: MIT
#include <coalesce/protocol/base64.h>

#include <array>
#include <cstdint>

namespace coalesce {
namespace {

constexpr std::string_view alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::uint8_t no_digit = 64;

constexpr std::array<std::uint8_t, 256> digit_values = [] {
    std::array<std::uint8_t, 256> values{};
    values.fill(no_digit);
    std::uint8_t value = 0;
    for (const char digit : alphabet) values[static_cast<unsigned char>(digit)] = value++;
    return values;
}();

std::uint32_t byte_at(std::string_view bytes, std::size_t at) {
    return at < bytes.size() ? static_cast<unsigned char>(bytes[at]) : 0U;
}

std::uint32_t value_at(std::string_view text, std::size_t at) {
    return digit_values[static_cast<unsigned char>(text[at])];
}

}  // namespace

void append_base64(std::string& out, std::string_view bytes) {
    out.reserve(out.size() + (bytes.size() + 2) / 3 * 4);
    for (std::size_t at = 0; at < bytes.size(); at += 3) {
        const std::uint32_t group = byte_at(bytes, at) << 16 | byte_at(bytes, at + 1) << 8 | byte_at(bytes, at + 2);
        for (const unsigned shift : {18U, 12U, 6U, 0U}) out += alphabet[group >> shift & 63];
    }
    for (std::size_t left = bytes.size() % 3; left != 0 && left < 3; ++left) out[out.size() - (3 - left)] = '=';
}

std::string to_base64(std::string_view bytes) {
    std::string text;
    append_base64(text, bytes);
    return text;
}

std::optional<std::string> from_base64(std::string_view text) {
    if (text.size() % 4 != 0) return std::nullopt;
    const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
    const std::string_view given = text.substr(0, text.size() - padding);
    std::string bytes;
    bytes.reserve(text.size() / 4 * 3);
    std::uint32_t group = 0;
    unsigned bits = 0;
    for (std::size_t at = 0; at < given.size(); ++at) {
        const std::uint32_t value = value_at(given, at);
        if (value == no_digit) return std::nullopt;
        group = group << 6 | value;
        bits += 6;
        if (bits < 8) continue;
        bits -= 8;
        bytes += static_cast<char>(group >> bits & 0xFF);
    }
    if ((group & ((1U << bits) - 1)) != 0) return std::nullopt;  // the same bytes in another spelling
    return bytes;
}

}  // namespace coalesce
