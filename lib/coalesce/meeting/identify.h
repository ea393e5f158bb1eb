// SPDX-License-Identifier: MIT
// What a wrapper's command is identified by, and what it is told of that (SPEC K1, F11).
//
// One order of steps: the key is made of what the command would see, and only then is it
// given what differs from run to run, the chain of flights that it is part of.
#pragma once

#include <coalesce/command/command.h>
#include <coalesce/command/key.h>

#include <memory>

#include <coalesce/meeting/supervisor.h>

namespace coalesce {

/// Gives the orders, whose command has its arguments and input, the key of that command in `surroundings`, which are
/// this process's own: the supervisor will be its child. They become the command's.
void identify(FlightOrders& orders, std::shared_ptr<Surroundings> surroundings, const KeyRules& rules);

}  // namespace coalesce
