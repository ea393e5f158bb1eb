// SPDX-License-Identifier: MIT
// The versions of the libraries in this program: what a report of a bug should name.
#pragma once

#include <string>

namespace coalesce {

/// "libuv 1.44.2, libsodium 1.0.18, …". Those of which only headers are used have the
/// version they were compiled from, the others that of what was linked.
[[nodiscard]] std::string library_versions();

}  // namespace coalesce
