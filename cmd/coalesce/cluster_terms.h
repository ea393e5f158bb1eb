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
    std::shared_ptr<const Circle> circle;  ///< null: with nobody
    std::optional<ClusterRules> rules;
    std::string stays_here;  ///< why not, though one of the two was given
};

/// Reads the secret and the password. Refused with a sentence for the user.
[[nodiscard]] Result<ClusterTerms> cluster_terms(const TypedSharing& sharing, bool no_share);

/// The same for a request to a server, which has an engine of its own: there is no circle, and what the rules say is
/// passed on.
[[nodiscard]] Result<ClusterTerms> terms_for_server(const TypedSharing& sharing, bool no_share);

/// The engine that was typed, or else that of the variable; empty: none.
[[nodiscard]] std::string engine_text(const TypedSharing& sharing);

/// Who shares at the engine of that URL: reads the secret and the password.
[[nodiscard]] Result<std::shared_ptr<const Circle>> circle_at(const std::string& text);

/// Reads what the URL names. For `cluster check`, too.
[[nodiscard]] Result<EngineAccess> access_to(EngineUrl url);

}  // namespace coalesce
