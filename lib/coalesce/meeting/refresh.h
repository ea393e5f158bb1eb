// SPDX-License-Identifier: MIT
// Refresh: a run for the store, behind the back of who was served from it (SPEC T4–T6).
//
// A flight in the meeting place like any other, with a supervisor of its own, so that it is one for all
// processes and doors, can be joined, shows in `status` and can be cancelled, and nobody who asked for it
// waits for it or lends it a descriptor. Where a run of the key is under way already, that one is asked to
// be kept.
#pragma once

#include <coalesce/command/result.h>

#include <string>
#include <vector>

#include <coalesce/meeting/supervisor.h>

namespace coalesce {

/// Starts one in a child of this process, unless somebody has been quicker; `orders.kept` says what for. `env` and
/// `place` say where it is met. Refused: there is no room for the child, nor has there been for a moment.
/// What goes wrong later is nobody's concern: the next stale hit tries again.
Result<> start_refresh(const FlightOrders& orders, const std::vector<std::string>& env, const std::string& place);

}  // namespace coalesce
