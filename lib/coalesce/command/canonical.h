// SPDX-License-Identifier: MIT
// Canonical fields: how the parts of a key are written so that no two different keys
// have the same bytes.
//
// A field is a tag, the length in decimal, a colon, the bytes; a text is one field after
// another. Such a text can be taken apart again, so what a user is told about a key comes
// from its bytes. Which tags there are is the business of who writes the text.
#pragma once

#include <array>
#include <charconv>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace coalesce {

struct CanonicalField {
    char tag;
    std::string_view bytes;
};

/// Adds a field to a canonical text.
inline void append_field(std::string& out, char tag, std::string_view bytes) {
    std::array<char, 24> prefix{};
    prefix[0] = tag;
    char* end = std::to_chars(prefix.data() + 1, prefix.data() + prefix.size() - 1, bytes.size()).ptr;
    *end++ = ':';
    out.append(prefix.data(), static_cast<std::size_t>(end - prefix.data()));
    out.append(bytes);
}

/// Takes the next field off the front; nothing when what is there is none.
[[nodiscard]] inline std::optional<CanonicalField> take_field(std::string_view& rest) {
    if (rest.empty()) return std::nullopt;
    const char* const end = rest.data() + rest.size();
    std::size_t length = 0;
    const auto [after, error] = std::from_chars(rest.data() + 1, end, length);
    if (error != std::errc{} || after == end || *after != ':') return std::nullopt;
    const char* const bytes = after + 1;
    if (length > static_cast<std::size_t>(end - bytes)) return std::nullopt;
    const CanonicalField field{rest.front(), {bytes, length}};
    rest.remove_prefix(static_cast<std::size_t>(bytes - rest.data()) + length);
    return field;
}

}  // namespace coalesce
