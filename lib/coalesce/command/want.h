// SPDX-License-Identifier: MIT
// Want: what was refused because there was no room, and may well be had in a moment (SPEC F14).
//
// Somebody else's processes, descriptors or memory were in the way, not what was asked for: so nothing has been learnt
// about that, and who can wait asks again.
#pragma once

#include <cerrno>

namespace coalesce {

/// Whether an errno says that there was no room. Of pseudo-terminals there are so many: ENOSPC.
[[nodiscard]] constexpr bool is_want(int errno_value) noexcept {
    return errno_value == EAGAIN || errno_value == ENOMEM || errno_value == EMFILE || errno_value == ENFILE ||
           errno_value == ENOBUFS || errno_value == ENOSPC;
}

}  // namespace coalesce
