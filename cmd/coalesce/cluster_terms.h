// SPDX-License-Identifier: MIT
// Whether a command shares beyond this machine, with whom, and as what (SPEC M2, M9).
//
// Both an engine and a scope are needed. Who gave the engine as an option meant it, and hears
// that the scope is missing; a variable alone, set for all commands of a machine, leaves each
// local. Apart from wrapped_command.cpp, since most commands never come here.
#pragma once

#include <coalesce/cluster/cluster.h>
#include <coalesce/command/key.h>
#include <coalesce/meeting/supervisor.h>

#include <cstdlib>
#include <memory>
#include <optional>
#include <string>

#include "options.h"

namespace coalesce {

/// Whether there is anything to look at.
[[nodiscard]] inline bool wants_to_share(const TypedSharing& sharing) {
    return !sharing.url.empty() || !sharing.scope.empty() || std::getenv("COALESCE_CLUSTER") != nullptr;
}

struct ClusterTerms {
    std::unique_ptr<Circle> circle;  ///< null: with nobody
    std::optional<ClusterRules> rules;
    std::string stays_here;  ///< why not, though one of the two was given
};

/// Reads the secret and the password. Refused with a sentence for the user.
[[nodiscard]] Result<ClusterTerms> cluster_terms(const TypedSharing& sharing, bool no_share);

inline constexpr const char* terms_with_server = "--cluster is for runs here, and a server runs by its own";

/// The circle's, for a command whose key has been made with its rules.
[[nodiscard]] std::shared_ptr<const ClusterOrders> cluster_orders(Circle circle, const FlightOrders& orders);

/// Reads what the URL names. For `cluster check`, too.
[[nodiscard]] Result<EngineAccess> access_to(EngineUrl url);

}  // namespace coalesce
