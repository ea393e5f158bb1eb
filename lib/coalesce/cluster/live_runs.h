// SPDX-License-Identifier: MIT
// Live runs: what machines share now, for a person who looks at it or ends one of them (SPEC M21).
//
// All that the engine has of one circle, whichever namespace: what another secret has sealed is
// passed over. It asks and waits, on a loop that runs for nothing else, and takes no part itself.
#pragma once

#include <coalesce/command/result.h>

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <coalesce/cluster/circle.h>
#include <coalesce/cluster/records.h>

namespace coalesce {

class Loop;

struct LiveRun {
    std::string key;   ///< what the engine knows the command by
    std::string name;  ///< of the run, which no other has
    RunInfo info;
    bool ending = false;  ///< it has been cancelled, and its process has yet to go
    std::chrono::milliseconds age{0};
    std::size_t machines = 0;  ///< that wait for it
};

/// Those under a lease, oldest first.
[[nodiscard]] Result<std::vector<LiveRun>> live_runs(Loop& loop, const Circle& circle);

/// Ends for everyone everywhere the one run whose name begins with `id`. Refused with a sentence.
[[nodiscard]] Result<> cancel_run(Loop& loop, const Circle& circle, std::string_view id);

}  // namespace coalesce
