// SPDX-License-Identifier: MIT
// ResolvedRequest: a request put into its surroundings: what is to be run, and the
// key that decides with whom it is shared. The same for a batch and for a server.
#pragma once

#include <coalesce/command/command.h>
#include <coalesce/command/key.h>

#include <memory>
#include <optional>
#include <string>

#include <coalesce/engine/command_executor.h>
#include <coalesce/protocol/request.h>

namespace coalesce {

struct ResolvedRequest {
    Job job;
    /// None where the request leaves both the base and the rules as they are: then they
    /// are the base's, which the caller works out once for all.
    std::optional<std::string> canonical_surroundings;
    std::string canonical_words;
    bool crosses_machines = false;  ///< it has a cluster scope, and there is an engine
};

/// `base` is what the request changes; `defaults` has what it may leave open
/// (timeout, retries, grace); `rules` hold beside its own.
[[nodiscard]] ResolvedRequest resolve(Request& request, const std::shared_ptr<const Surroundings>& base, KeyRules rules,
                                      const std::string& shell, Job defaults);

}  // namespace coalesce
