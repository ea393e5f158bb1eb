// SPDX-License-Identifier: MIT
// Text: what may be shown to a terminal as it is, and how the rest is shown.
//
// The one judge of "printable" for command lines, key parts and messages: ASCII
// from space to tilde, and well-formed UTF-8 that neither controls a terminal nor
// reorders or breaks the line. It depends on no locale. How a command is quoted is
// command.h's.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace coalesce {

/// Length of the printable character that text begins with; 0 when it begins
/// with a control character, an unsafe one, or bytes that are not UTF-8.
[[nodiscard]] std::size_t printable_length(std::string_view text);

/// Whether all of it may be shown as it is.
[[nodiscard]] bool printable(std::string_view text);

/// Appends the byte as $'…' would be told of it: \n, \t, \r or three octal digits, so
/// that what follows cannot be read as a fourth.
void append_escaped(std::string& out, unsigned char byte);

/// The text on one line that no terminal obeys (SPEC O0): what is not printable is
/// escaped. For sentences of ours that quote what others wrote; a command by itself has
/// a title (title.h), which can be pasted as well.
[[nodiscard]] std::string visible(std::string_view text);

}  // namespace coalesce
