// SPDX-License-Identifier: MIT
// Expectations: the live flights of a reception, oldest first, and when those that wait have their turn.
//
// A flight waits for a place under the limit, for its turn in a class, or for the run of its key before it. How
// long that takes is guessed from how long the runs took before (SPEC H3), and promised to nobody.
#pragma once

#include <chrono>
#include <optional>
#include <vector>

#include <coalesce/reception/reception.h>

namespace coalesce {

struct Expected {
    LiveFlight* flight;                             ///< never null
    std::optional<std::chrono::milliseconds> turn;  ///< of one that waits; nothing: it does not, or who knows
};

/// All that somebody waits for, or whose end nobody has been told yet.
[[nodiscard]] std::vector<Expected> expectations(Reception& reception);

}  // namespace coalesce
