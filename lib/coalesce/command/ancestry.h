// SPDX-License-Identifier: MIT
// Ancestry: the chain of flights that a command runs under (SPEC F11).
//
// A command that asks for itself, directly or through others, would wait for ever. So each
// is given, in a variable of its environment, the keys of the flights above it, and whoever
// asks on its behalf finds them there: "KEY:KEY", the nearest last. This is the one place
// that knows the form. The variable is never part of a key. Where it got lost (env -i,
// sudo) the processes above tell the same (io/process_facts.h), in the same form.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace coalesce {

/// The variable. It is never part of a key, whatever the rules say.
inline constexpr std::string_view kAncestryVariable = "COALESCE_ANCESTRY";

/// The ancestry that an environment tells; empty: none.
[[nodiscard]] std::string_view ancestry_in(const std::vector<std::string>& env);

/// That of what runs for the flight `key` under `above`.
[[nodiscard]] std::string ancestry_below(std::string_view above, std::string_view key);

/// Writes into the environment of flight `key`'s command what it runs under, given what that environment says already.
void enter_flight(std::vector<std::string>& env, std::string_view key);

/// The nearest flight, on whose behalf one with this ancestry asks; empty: none.
[[nodiscard]] std::string_view nearest_flight(std::string_view ancestry);

/// The ancestry of that nearest flight.
[[nodiscard]] std::string_view above_nearest(std::string_view ancestry);

/// Is the flight `key` among them?
[[nodiscard]] bool runs_under(std::string_view ancestry, std::string_view key);

}  // namespace coalesce
