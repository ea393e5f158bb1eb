// SPDX-License-Identifier: MIT
#include <coalesce/command/text.h>

#include <cstdint>

#include <coalesce/command/utf8.h>

namespace coalesce {
namespace {

// Well-formed, and not safe to show: C1 controls, line and paragraph separators, and
// the marks that turn text around.
bool is_unsafe(std::uint32_t c) {
    return (c >= 0x80 && c <= 0x9f) || c == 0x061c || (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
           (c >= 0x2060 && c <= 0x206f) || c == 0xfeff;
}

// How many bytes of ASCII at the front may be shown.
std::size_t plain_prefix(std::string_view text) {
    std::size_t at = 0;
    while (at < text.size() && text[at] >= 0x20 && text[at] < 0x7f) ++at;
    return at;
}

}  // namespace

std::size_t printable_length(std::string_view text) {
    if (text.empty()) return 0;
    const auto lead = static_cast<unsigned char>(text.front());
    if (lead < 0x80) return lead >= 0x20 && lead < 0x7f ? 1 : 0;
    const Utf8Character character = first_character(text);
    return is_unsafe(character.code_point) ? 0 : character.length;
}

bool printable(std::string_view text) {
    while (true) {
        text.remove_prefix(plain_prefix(text));
        if (text.empty()) return true;
        const std::size_t shown = printable_length(text);
        if (shown == 0) return false;
        text.remove_prefix(shown);
    }
}

void append_escaped(std::string& out, unsigned char byte) {
    static constexpr std::string_view named = "\n\t\r";
    static constexpr std::string_view letters = "ntr";
    out += '\\';
    if (const std::size_t at = named.find(static_cast<char>(byte)); at != std::string_view::npos) {
        out += letters[at];
        return;
    }
    out += static_cast<char>('0' + (byte >> 6));
    out += static_cast<char>('0' + ((byte >> 3) & 7));
    out += static_cast<char>('0' + (byte & 7));
}

std::string visible(std::string_view text) {
    std::string out;
    while (!text.empty()) {
        const std::size_t shown = printable_length(text);
        if (shown == 0) append_escaped(out, static_cast<unsigned char>(text.front()));
        out += text.substr(0, shown);
        text.remove_prefix(shown == 0 ? 1 : shown);
    }
    return out;
}

}  // namespace coalesce
