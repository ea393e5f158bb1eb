// SPDX-License-Identifier: MIT
// RunLimits: within what a run is held by the wishes of who leads it. Who joins says its own, for the run behind that
// one may be its to lead (SPEC F7, F10).
#pragma once

#include <coalesce/command/run_class.h>

#include <chrono>
#include <optional>

namespace coalesce {

class Fields;
class Message;

struct RunLimits {
    std::optional<std::chrono::milliseconds> timeout;
    std::chrono::milliseconds grace{10'000};
    std::optional<RunClass> run_class;  ///< in which the run waits for its turn
};

/// Limits as members of the message that joins, and back.
void add_run_limits(Message& message, const RunLimits& limits);
[[nodiscard]] RunLimits run_limits_in(const Fields& message);

}  // namespace coalesce
