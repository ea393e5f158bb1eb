// SPDX-License-Identifier: MIT
// Text: which bytes may be shown to a terminal as they are.
//
// The one judge of "printable" for command lines and key parts: ASCII from
// space to tilde, and well-formed UTF-8 that neither controls a terminal nor
// reorders or breaks the line. It depends on no locale.
#pragma once

#include <cstddef>
#include <string_view>

namespace coalesce {

/// Length of the printable character that text begins with; 0 when it begins
/// with a control character, an unsafe one, or bytes that are not UTF-8.
[[nodiscard]] std::size_t printable_length(std::string_view text);

}  // namespace coalesce
