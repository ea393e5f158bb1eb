// SPDX-License-Identifier: MIT
// EngineFacts: what an engine tells of itself, and whether leases are safe with it (SPEC M6).
//
// One that evicts throws leases away, a replica takes none, an old one lacks what the
// scripts need. One that keeps no log and has just been started may have forgotten leases
// that it had granted, so it grants none until all of those have passed.
#pragma once

#include <coalesce/command/result.h>

#include <chrono>
#include <string>
#include <string_view>

namespace coalesce {

struct EngineFacts {
    std::string product = "Redis";  ///< or Valkey
    std::string version;            ///< the product's own
    unsigned protocol_major = 0;    ///< of the Redis whose scripts it takes
    std::string role;
    std::string policy;  ///< of eviction
    std::chrono::seconds uptime{0};
    bool append_only = false;
    bool log_failing = false;  ///< its log could not be written

    /// From the answer to INFO.
    static EngineFacts of(std::string_view info);

    /// Refused, with the remedy.
    [[nodiscard]] Result<> fit() const;
    /// For how long it may have forgotten leases of that length.
    [[nodiscard]] std::chrono::milliseconds too_young_for(std::chrono::milliseconds lease) const;
};

}  // namespace coalesce
