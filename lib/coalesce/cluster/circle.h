// SPDX-License-Identifier: MIT
// Circle: who shares, and by what.
#pragma once

#include <string>
#include <string_view>

#include <coalesce/cluster/engine_line.h>
#include <coalesce/cluster/secret.h>

namespace coalesce {

/// Machines that have one engine and one secret.
struct Circle {
    EngineAccess access;
    Secret secret;

    /// What two requests on one machine have to agree on, for a person to see: engine, secret's fingerprint, ns.
    [[nodiscard]] std::string words() const;
};

/// What the circle knows a command by: nothing can be guessed from it. `surroundings` are what its machines have in
/// common of the key's (cluster_surroundings() in command/key.h).
[[nodiscard]] std::string name_at_engine(const Circle& circle, std::string_view surroundings, std::string_view words);

}  // namespace coalesce
