// SPDX-License-Identifier: MIT
// The time since this machine was started, which goes on while it sleeps: for what others
// wait for, whatever becomes of this machine's clock.
#pragma once

#include <time.h>

#include <chrono>

namespace coalesce {

[[nodiscard]] inline std::chrono::milliseconds since_boot() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_BOOTTIME, &now);
    return std::chrono::milliseconds(now.tv_sec * 1000 + now.tv_nsec / 1'000'000);
}

}  // namespace coalesce
