// SPDX-License-Identifier: MIT
// Where a client finds the server that nobody has named: coalesce-protocol(7), "Connecting".
//
// It only looks. What the wrapper may do besides, making its meeting place and judging it,
// is no client's business.
#pragma once

#include <string>

namespace coalesce {

/// The path of the first server's socket that is there, or of the one that should be.
[[nodiscard]] std::string server_place();

}  // namespace coalesce
