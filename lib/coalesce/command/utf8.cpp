// SPDX-License-Identifier: MIT
#include <coalesce/command/utf8.h>

#include <cstring>

namespace coalesce {
namespace {

// The Unicode standard's table 3-7: the first byte says how many follow and what
// the second may be; all later ones are 80..BF.
struct Lead {
    unsigned following = 0;
    unsigned char low = 0x80;
    unsigned char high = 0xBF;
    bool valid = true;
};

constexpr Lead lead_of(unsigned char byte) noexcept {
    if (byte < 0x80) return {};
    if (byte < 0xC2 || byte > 0xF4) return {.valid = false};
    Lead lead{.following = byte < 0xE0 ? 1U : byte < 0xF0 ? 2U : 3U};
    if (byte == 0xE0) lead.low = 0xA0;
    if (byte == 0xED) lead.high = 0x9F;
    if (byte == 0xF0) lead.low = 0x90;
    if (byte == 0xF4) lead.high = 0x8F;
    return lead;
}

// Most text is ASCII, so that is looked at eight bytes at a time.
bool eight_are_ascii(const char* at) noexcept {
    std::uint64_t word = 0;
    std::memcpy(&word, at, sizeof word);
    return (word & 0x8080808080808080) == 0;
}

}  // namespace

void Utf8Check::add(std::string_view piece) noexcept {
    for (std::size_t at = 0; at < piece.size(); ++at) {
        while (pending_ == 0 && at + 8 <= piece.size() && eight_are_ascii(piece.data() + at)) at += 8;
        if (at == piece.size() || !valid_) return;
        const auto byte = static_cast<unsigned char>(piece[at]);
        if (pending_ > 0) {
            valid_ = byte >= low_ && byte <= high_;
            low_ = 0x80;
            high_ = 0xBF;
            --pending_;
        } else if (byte >= 0x80) {
            const Lead lead = lead_of(byte);
            valid_ = lead.valid;
            pending_ = lead.following;
            low_ = lead.low;
            high_ = lead.high;
        }
    }
}

bool is_utf8(std::string_view text) noexcept {
    Utf8Check check;
    check.add(text);
    return check.valid();
}

Utf8Character first_character(std::string_view text) noexcept {
    if (text.empty()) return {};
    const auto first = static_cast<unsigned char>(text.front());
    if (first < 0x80) return {first, 1};
    const Lead lead = lead_of(first);
    if (!lead.valid || text.size() <= lead.following) return {};
    std::uint32_t code_point = first & (0x3FU >> lead.following);
    for (std::size_t at = 1; at <= lead.following; ++at) {
        const auto byte = static_cast<unsigned char>(text[at]);
        if (byte < (at == 1 ? lead.low : 0x80) || byte > (at == 1 ? lead.high : 0xBF)) return {};
        code_point = code_point << 6 | (byte & 0x3FU);
    }
    return {code_point, lead.following + 1};
}

}  // namespace coalesce
