// SPDX-License-Identifier: MIT
// Platform: the kind of machine that this is, as far as it changes what commands say.
#pragma once

#include <string>

namespace coalesce {

/// "Linux x86_64 debian 12": system and machine by uname(2), ID and VERSION_ID of os-release(5).
[[nodiscard]] std::string own_platform();

}  // namespace coalesce
