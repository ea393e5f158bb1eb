// SPDX-License-Identifier: MIT
// Bytes as JSON text, and back: what every writer of a line of JSON is made of.
//
// In pieces where it matters: recorded output may not fit in memory twice.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace coalesce {

/// Appends UTF-8 `bytes` escaped for the inside of a JSON string. Pieces may split a character.
void append_json_escaped(std::string& out, std::string_view bytes);

/// Appends a whole JSON string, quotes included; each byte that is not UTF-8 becomes U+FFFD.
void append_json_string(std::string& out, std::string_view text);

/// The same with ASCII alone, for a text that must not steer the terminal that shows it.
[[nodiscard]] std::string json_string_in_ascii(std::string_view text);

/// Appends base64; all pieces but the last must be a multiple of 3 long.
void append_base64(std::string& out, std::string_view bytes);

[[nodiscard]] std::string to_base64(std::string_view bytes);

/// The bytes that base64 with its padding means; nothing for what is none, blanks included.
[[nodiscard]] std::optional<std::string> from_base64(std::string_view text);

}  // namespace coalesce
