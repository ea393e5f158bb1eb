// SPDX-License-Identifier: MIT
// Refresh orders as a text: how a door with a loop tells another process of this program what to refresh.
//
// The whole of it, byte for byte: command, surroundings, the key as the door has it, so that both mean the
// same flight and the same kept result. It goes by a file that nobody else sees, not by arguments, which
// everybody does. Who writes and who reads it is one program, so it may change with each version.
#pragma once

#include <coalesce/command/result.h>

#include <string>
#include <string_view>

#include <coalesce/kept/refreshes.h>
#include <coalesce/meeting/supervisor.h>

namespace coalesce {

/// The program that starts it: this one, told `orders`. `env` is our own environment, `place` the meeting place that
/// the user named.
[[nodiscard]] RefreshProgram refresh_program(const RefreshOrders& orders, const std::vector<std::string>& env,
                                             const std::string& place);

struct RefreshTask {
    FlightOrders orders;
    std::string place;
};
/// What such a text says. It runs where this process is.
[[nodiscard]] Result<RefreshTask> refresh_task(std::string_view text);

/// The subcommand that reads it, which is for this program alone.
inline constexpr const char* refresh_subcommand = "refresh-kept-result";

}  // namespace coalesce
