// SPDX-License-Identifier: MIT
#include <coalesce/meeting/identify.h>

#include <utility>

#include <coalesce/command/ancestry.h>
#include <coalesce/command/identity.h>
#include <coalesce/engine/key_hash.h>

namespace coalesce {

void identify(FlightOrders& orders, std::shared_ptr<Surroundings> surroundings, const KeyRules& rules) {
    surroundings->identity = own_identity();
    orders.canonical_surroundings = canonical_surroundings(*surroundings, rules);
    orders.canonical_words = words_of_key(orders.command.argv, orders.command.stdin_bytes, rules);
    const CanonicalSurroundings canonical(orders.canonical_surroundings);
    orders.key = key_hash({&canonical, orders.canonical_words});
    orders.ancestry = ancestry_in(surroundings->env);
    enter_flight(surroundings->env, orders.key);
    orders.directory = std::exchange(surroundings->cwd, {});  // it is where we are: nothing to enter
    orders.command.surroundings = std::move(surroundings);
}

}  // namespace coalesce
