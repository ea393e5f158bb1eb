// SPDX-License-Identifier: MIT
// Base64 (RFC 4648), strict: how bytes that are no text travel in JSON.
//
// In pieces where it matters: recorded output may not fit in memory twice.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace coalesce {

/// Appends base64; all pieces but the last must be a multiple of 3 long.
void append_base64(std::string& out, std::string_view bytes);

[[nodiscard]] std::string to_base64(std::string_view bytes);

/// The bytes that base64 with its padding means; nothing for what is none, blanks included.
[[nodiscard]] std::optional<std::string> from_base64(std::string_view text);

}  // namespace coalesce
