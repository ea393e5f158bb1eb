// SPDX-License-Identifier: MIT
// The program that end-to-end tests drive: that of this build, or a release of it
// (COALESCE_RELEASE; see coalesce_release_test in CMakeLists.txt).
#pragma once

#include <cstdlib>
#include <string>

inline const char* tested_release() {
    static const char* const release = std::getenv("COALESCE_RELEASE");
    return release;
}

[[nodiscard]] inline std::string tested_program() {
    return tested_release() != nullptr ? tested_release() : COALESCE_PROGRAM;
}

/// Whether the program is slowed down and fattened by sanitizers.
[[nodiscard]] inline bool sanitized() { return COALESCE_SANITIZED != 0 && tested_release() == nullptr; }

/// Whether the full numbers are asked for, which take long (coalesce_long_test).
[[nodiscard]] inline bool full_numbers() { return std::getenv("COALESCE_LONG") != nullptr; }
