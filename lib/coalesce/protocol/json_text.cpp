// SPDX-License-Identifier: MIT
#include <coalesce/protocol/json_text.h>

#include <coalesce/command/utf8.h>

#include <cstdint>
#include <cstring>

namespace coalesce {
namespace {

// Most of what commands write is plain, so that is looked at eight bytes at a time: the
// results below have the top bit of each byte that is meant, and maybe of some after it.
constexpr std::uint64_t each_byte = 0x0101010101010101;
constexpr std::uint64_t top_bits = 0x80 * each_byte;

std::uint64_t eight_bytes(const char* at) noexcept {
    std::uint64_t word = 0;
    std::memcpy(&word, at, sizeof word);
    return word;
}
std::uint64_t below(std::uint64_t word, std::uint64_t bound) noexcept {
    return (word - bound * each_byte) & ~word & top_bits;
}
std::uint64_t equal(std::uint64_t word, std::uint64_t byte) noexcept { return below(word ^ (byte * each_byte), 1); }

bool must_be_escaped(char raw) noexcept {
    const auto byte = static_cast<unsigned char>(raw);
    return byte < 0x20 || byte == '"' || byte == '\\' || byte == 0x7f;
}

// How many bytes at the front need no escape.
std::size_t plain_prefix(std::string_view bytes) noexcept {
    std::size_t at = 0;
    for (; at + 8 <= bytes.size(); at += 8) {
        const std::uint64_t word = eight_bytes(bytes.data() + at);
        if ((below(word, 0x20) | equal(word, '"') | equal(word, '\\') | equal(word, 0x7f)) != 0) break;
    }
    while (at < bytes.size() && !must_be_escaped(bytes[at])) ++at;
    return at;
}

void append_unit(std::string& out, std::uint32_t unit) {
    constexpr std::string_view digits = "0123456789abcdef";
    out += "\\u";
    for (const unsigned shift : {12U, 8U, 4U, 0U}) out += digits[unit >> shift & 15];
}

// Calls `take` with each character, and for each byte that is none with U+FFFD.
template <class Take>
void for_each_character(std::string_view text, Take take) {
    constexpr std::uint32_t replacement = 0xFFFD;
    while (!text.empty()) {
        const Utf8Character character = first_character(text);
        if (character.length == 0)
            take(replacement, std::string_view("\xEF\xBF\xBD"));
        else
            take(character.code_point, text.substr(0, character.length));
        text.remove_prefix(character.length == 0 ? 1 : character.length);
    }
}

}  // namespace

void append_json_escaped(std::string& out, std::string_view bytes) {
    while (true) {
        const std::size_t plain = plain_prefix(bytes);
        out.append(bytes.substr(0, plain));
        if (plain == bytes.size()) return;
        const char raw = bytes[plain];
        bytes.remove_prefix(plain + 1);
        switch (raw) {
            case '"':
                out += "\\\"";
                break;
            case '\\':
                out += "\\\\";
                break;
            case '\n':
                out += "\\n";
                break;
            case '\r':
                out += "\\r";
                break;
            case '\t':
                out += "\\t";
                break;
            default:
                append_unit(out, static_cast<unsigned char>(raw));
        }
    }
}

void append_json_string(std::string& out, std::string_view text) {
    out += '"';
    if (is_utf8(text))
        append_json_escaped(out, text);
    else
        for_each_character(text,
                           [&out](std::uint32_t, std::string_view character) { append_json_escaped(out, character); });
    out += '"';
}

std::string json_string_in_ascii(std::string_view text) {
    std::string out = "\"";
    for_each_character(text, [&out](std::uint32_t code_point, std::string_view character) {
        if (code_point < 0x80) return append_json_escaped(out, character);
        if (code_point < 0x10000) return append_unit(out, code_point);
        append_unit(out, 0xD800 + ((code_point - 0x10000) >> 10));
        append_unit(out, 0xDC00 + (code_point & 0x3FF));
    });
    return out + '"';
}

}  // namespace coalesce
