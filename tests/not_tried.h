// SPDX-License-Identifier: MIT
// What a test, or a part of one, could not try here is told, not passed over in silence:
//
//     if (::geteuid() != 0) return not_tried("root is needed");
//
// See the script of that name, which does the same for the tests that are not in C++.
// What is left to the release program's turn of the same test (coalesce_release_test in
// CMakeLists.txt) is tried, and needs no telling.
#pragma once

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <string>

#include "catch.h"

inline void not_tried(const std::string& what, const std::string& why) {
    const std::string line = "not tried: " + what + " (" + why + ")\n";
    std::cerr << line << std::flush;
    // One write each: tests run side by side.
    if (const char* const file = std::getenv("COALESCE_NOT_TRIED"))
        std::ofstream(file, std::ios::app) << line << std::flush;
}

/// The test that is running, or what is left of it.
inline void not_tried(const std::string& why) {
    not_tried(std::string(Catch::getResultCapture().getCurrentTestName()), why);
}
