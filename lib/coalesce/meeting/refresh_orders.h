// SPDX-License-Identifier: MIT
// Refresh orders as a text: how a door with a loop tells another process of this program what to refresh.
//
// The whole of it, byte for byte: command, surroundings, the key as the door has it, so that both mean the
// same flight and the same kept result, and what the door goes by: a run under that key that is not as it
// would have been there is kept for all who ask. It goes by a file that nobody else sees, not by arguments, which
// everybody does. Who writes and who reads it is one program, so it may change with each version.
#pragma once

#include <coalesce/command/result.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <coalesce/kept/refreshes.h>
#include <coalesce/meeting/supervisor.h>

namespace coalesce {

/// What the door that orders them has for all.
struct RefreshSetting {
    std::vector<std::string> env = {};  ///< our own environment
    std::string place = {};             ///< the meeting place that the user named
    std::string engine = {};            ///< where requests with a cluster scope are shared, as typed; empty: nowhere
    ClassJobs class_jobs = {};          ///< the classes that are set up
    std::uint64_t replay_bytes = FlightOrders().replay_bytes;
    std::string spool_directory = {};
    bool remembers = true;  ///< how long runs took, and tells it (SPEC H)
};

/// The program that starts it: this one, told `orders`.
[[nodiscard]] RefreshProgram refresh_program(const RefreshOrders& orders, const RefreshSetting& setting);

struct RefreshTask {
    FlightOrders orders;
    std::string place;
    std::string engine;  ///< where the run is shared; empty: nowhere
};
/// What such a text says. This process stays where the door was started, from where what an engine's URL names is
/// found.
[[nodiscard]] Result<RefreshTask> refresh_task(std::string_view text);

/// The subcommand that reads it, which is for this program alone.
inline constexpr const char* refresh_subcommand = "refresh-kept-result";

}  // namespace coalesce
