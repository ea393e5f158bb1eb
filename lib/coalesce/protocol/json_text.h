// SPDX-License-Identifier: MIT
// Bytes as JSON text, in pieces: what a whole-output library cannot do for a gigabyte.
//
// Everything small goes through the JSON library; only recorded output, which may
// not fit in memory twice, is written by these.
#pragma once

#include <string>
#include <string_view>

namespace coalesce {

/// Appends UTF-8 `bytes` escaped for the inside of a JSON string. Pieces may split a character.
void append_json_escaped(std::string& out, std::string_view bytes);

/// Appends a whole JSON string, quotes included; what is not UTF-8 becomes U+FFFD.
void append_json_string(std::string& out, std::string_view text);

/// Appends base64; all pieces but the last must be a multiple of 3 long.
void append_base64(std::string& out, std::string_view bytes);

}  // namespace coalesce
