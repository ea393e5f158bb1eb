// SPDX-License-Identifier: MIT
// A Request as the line that asks for it: what parse_request() reads, written.
//
// Every field that is not at its default is written, byte for byte. Whoever asks a server
// writes its requests here.
#pragma once

#include <string>

#include <coalesce/protocol/request.h>

namespace coalesce {

/// One line, with its newline. Of times what is less than a microsecond is lost.
[[nodiscard]] std::string request_line(const Request& request);

}  // namespace coalesce
