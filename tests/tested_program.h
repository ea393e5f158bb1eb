// SPDX-License-Identifier: MIT
// The program that end-to-end tests drive (COALESCE; see coalesce_program_test in CMakeLists.txt).
#pragma once

#include <cstdlib>
#include <stdexcept>
#include <string>
#include <string_view>

[[nodiscard]] inline const std::string& tested_program() {
    static const std::string program = [] {
        const char* const given = std::getenv("COALESCE");
        if (given == nullptr) throw std::runtime_error("COALESCE has to name the program");
        return std::string(given);
    }();
    return program;
}

/// Whether the program is slowed down and fattened by sanitizers.
[[nodiscard]] inline bool sanitized() {
    const char* const told = std::getenv("COALESCE_SANITIZED");
    return told != nullptr && std::string_view(told) == "1";
}

/// Whether the full numbers are asked for, which take long (coalesce_long_test).
[[nodiscard]] inline bool full_numbers() { return std::getenv("COALESCE_LONG") != nullptr; }
