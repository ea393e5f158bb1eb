// SPDX-License-Identifier: MIT
// Threads beside the one that has the loop, which is where signals are heard.
#pragma once

#include <coalesce/flight/unique_function.h>

#include <thread>

namespace coalesce {

/// A thread that no signal interrupts. Not joinable where there is no room for one.
[[nodiscard]] std::thread thread_without_signals(UniqueFunction<void()> work);

}  // namespace coalesce
