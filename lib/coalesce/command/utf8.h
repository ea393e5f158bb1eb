// SPDX-License-Identifier: MIT
// UTF-8: the one judge of what is UTF-8 (RFC 3629: no surrogates, no overlong forms).
//
// Of a whole text that comes in pieces, eight bytes at a time, and of the character
// that a text begins with. What may be shown of it is text.h's, what becomes of the
// rest is up to whoever asks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace coalesce {

/// Decides whether a sequence of pieces is UTF-8. A character may be split between two.
class Utf8Check {
  public:
    void add(std::string_view piece) noexcept;
    /// No more pieces follow: was it all UTF-8?
    [[nodiscard]] bool valid() const noexcept { return valid_ && pending_ == 0; }

  private:
    bool valid_ = true;
    unsigned pending_ = 0;  // continuation bytes still due
    unsigned char low_ = 0x80;
    unsigned char high_ = 0xBF;
};

/// Whether all of `text` is UTF-8.
[[nodiscard]] bool is_utf8(std::string_view text) noexcept;

struct Utf8Character {
    std::uint32_t code_point = 0;
    std::size_t length = 0;  ///< in bytes; 0: what stands there is not UTF-8
};

/// The character that `text` begins with.
[[nodiscard]] Utf8Character first_character(std::string_view text) noexcept;

}  // namespace coalesce
