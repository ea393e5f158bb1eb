// SPDX-License-Identifier: MIT
// RunEnd: how the wrapper ends.
#pragma once

namespace coalesce {

/// A status, or the signal to die of as the command or the user's terminal would have it.
struct RunEnd {
    int status = 0;
    int die_of = 0;
};

}  // namespace coalesce
