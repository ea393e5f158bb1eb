// SPDX-License-Identifier: MIT
// GroupStats: what a group has done so far, in numbers.
//
// Counted where it happens, on the loop, so the sums always balance: every
// request led, joined or was refused. They only grow; rates and resets are left
// to whoever shows them.
#pragma once

#include <cstdint>

namespace coalesce {

/// Counters of one group since it was made.
struct GroupStats {
    std::uint64_t flights = 0;   ///< begun by a request that found nothing to join
    std::uint64_t joins = 0;     ///< requests that shared a flight already there
    std::uint64_t refusals = 0;  ///< requests that would wait for themselves, or came already stopped
    std::uint64_t runs = 0;      ///< flights whose start was called
    std::uint64_t leaves = 0;    ///< requesters that stopped waiting before the landing
    std::uint64_t cancels = 0;   ///< runs told to stop: the last one left, or cancel()
    std::uint64_t landings = 0;  ///< runs that ended
};

}  // namespace coalesce
