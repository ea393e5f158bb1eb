// SPDX-License-Identifier: MIT
// The check of an engine: what a newcomer is told before the first run (SPEC M8).
//
// It goes over an own connection, step by step, since what is wrong has to be told by itself:
// a password that is not taken, a right that is missing, an engine that evicts. Then each
// script is played through on a scratch key, which has a time limit like all others.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include <coalesce/cluster/engine_line.h>

namespace coalesce {

class Loop;

struct EngineReport {
    std::vector<std::pair<std::string, std::string>> findings;  ///< what, and how it is
    std::vector<std::string> faults;                            ///< sentences, with the remedy; none: all is well
};

/// Runs the loop until it knows.
[[nodiscard]] EngineReport check_engine(Loop& loop, const EngineAccess& access);

}  // namespace coalesce
