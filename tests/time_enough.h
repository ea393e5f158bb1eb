// SPDX-License-Identifier: MIT
// For tests of what a clock decides: a timeout, a wait, a silence. On a busy machine the
// time may be up before the command has done what the test is about, and that is no
// fault. Such a test is an attempt that says whether it came to what it is about; it is
// made again, with more time, until it did. What is checked in an attempt is checked
// each time, and one that never comes to it fails.
#pragma once

#include <chrono>
#include <string>

#include "catch.h"

/// `attempt` is told a time, and returns whether that was enough.
template <class Attempt>
void with_time_enough(Attempt attempt) {
    for (std::chrono::milliseconds time{50}; !attempt(time); time *= 2)
        if (time > std::chrono::minutes(1)) FAIL("no time was enough");
}

/// As an option or a field takes it, in seconds.
inline std::string in_seconds(std::chrono::milliseconds time) {
    return std::to_string(std::chrono::duration<double>(time).count());
}
