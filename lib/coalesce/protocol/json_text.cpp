// SPDX-License-Identifier: MIT
#include <coalesce/protocol/json_text.h>

#include <nlohmann/json.hpp>
#include <sodium.h>

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

}  // namespace

void append_json_escaped(std::string& out, std::string_view bytes) {
    constexpr std::string_view digits = "0123456789abcdef";
    while (true) {
        const std::size_t plain = plain_prefix(bytes);
        out.append(bytes.substr(0, plain));
        if (plain == bytes.size()) return;
        const char raw = bytes[plain];
        const auto byte = static_cast<unsigned char>(raw);
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
                out += "\\u00";
                out += digits[byte >> 4];
                out += digits[byte & 15];
        }
    }
}

void append_json_string(std::string& out, std::string_view text) {
    out += nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void append_base64(std::string& out, std::string_view bytes) {
    const std::size_t had = out.size();
    const std::size_t room = sodium_base64_ENCODED_LEN(bytes.size(), sodium_base64_VARIANT_ORIGINAL);
    out.resize(had + room);  // room counts the terminating NUL
    sodium_bin2base64(out.data() + had, room, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
                      sodium_base64_VARIANT_ORIGINAL);
    out.pop_back();
}

}  // namespace coalesce
