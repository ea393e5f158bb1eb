// SPDX-License-Identifier: MIT
// Strict UTF-8 (no overlong forms, no surrogates) and the list of characters that
// are well-formed but not safe to show.
#include <coalesce/command/text.h>

#include <cstdint>

namespace coalesce {
namespace {

struct Decoded {
    std::uint32_t code_point;
    std::size_t length;  // 0: not UTF-8
};

std::size_t length_of_lead(unsigned char lead) {
    if (lead >= 0xc2 && lead <= 0xdf) return 2;
    if (lead >= 0xe0 && lead <= 0xef) return 3;
    if (lead >= 0xf0 && lead <= 0xf4) return 4;
    return 0;
}

Decoded decode_multibyte(std::string_view text) {
    const auto lead = static_cast<unsigned char>(text.front());
    const std::size_t length = length_of_lead(lead);
    if (length == 0 || text.size() < length) return {0, 0};
    std::uint32_t code_point = lead & (0x7fU >> length);
    for (std::size_t i = 1; i < length; ++i) {
        const auto byte = static_cast<unsigned char>(text[i]);
        if ((byte & 0xc0U) != 0x80U) return {0, 0};
        code_point = (code_point << 6) | (byte & 0x3fU);
    }
    const bool overlong = (length == 3 && code_point < 0x800) || (length == 4 && code_point < 0x10000);
    const bool surrogate = code_point >= 0xd800 && code_point <= 0xdfff;
    if (overlong || surrogate || code_point > 0x10ffff) return {0, 0};
    return {code_point, length};
}

// C1 controls, line and paragraph separators, and the marks that turn text around.
bool is_unsafe(std::uint32_t c) {
    return (c >= 0x80 && c <= 0x9f) || c == 0x061c || (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2060 && c <= 0x206f) || c == 0xfeff;
}

}  // namespace

std::size_t printable_length(std::string_view text) {
    if (text.empty()) return 0;
    const auto lead = static_cast<unsigned char>(text.front());
    if (lead < 0x80) return lead >= 0x20 && lead < 0x7f ? 1 : 0;
    const Decoded decoded = decode_multibyte(text);
    return decoded.length != 0 && !is_unsafe(decoded.code_point) ? decoded.length : 0;
}

}  // namespace coalesce
