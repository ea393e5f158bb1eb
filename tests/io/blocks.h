// SPDX-License-Identifier: MIT
// What a file takes of its file system, holes not counted.
#pragma once

#include <sys/stat.h>

#include <cstdint>

#include "../catch.h"

namespace coalesce::test {

/// Bytes.
inline std::uint64_t blocks_of(int file) {
    struct stat info {};
    REQUIRE(::fstat(file, &info) == 0);
    return static_cast<std::uint64_t>(info.st_blocks) * 512;
}

}  // namespace coalesce::test
