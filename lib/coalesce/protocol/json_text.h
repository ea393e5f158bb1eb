// SPDX-License-Identifier: MIT
// Bytes as JSON text: what every writer of a line of JSON is made of.
//
// In pieces where it matters: recorded output may not fit in memory twice.
#pragma once

#include <string>
#include <string_view>

namespace coalesce {

/// Appends UTF-8 `bytes` escaped for the inside of a JSON string. Pieces may split a character.
void append_json_escaped(std::string& out, std::string_view bytes);

/// Appends a whole JSON string, quotes included; each byte that is not UTF-8 becomes U+FFFD.
void append_json_string(std::string& out, std::string_view text);

/// The same with ASCII alone, for a text that must not steer the terminal that shows it.
[[nodiscard]] std::string json_string_in_ascii(std::string_view text);

}  // namespace coalesce
