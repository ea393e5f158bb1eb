// SPDX-License-Identifier: MIT
#include "versions.h"

#include <CLI/Version.hpp>
#include <fmt/core.h>
#include <hiredis/hiredis.h>
#include <nlohmann/json.hpp>
#include <sodium.h>
#include <spdlog/version.h>

#include <coalesce/io/loop.h>
#include <coalesce/protocol/format.h>
#include <coalesce/rules/rules_file.h>

namespace coalesce {

std::string library_versions() {
    return formatted("libuv {}, libsodium {}, hiredis {}.{}.{}, toml++ {}, CLI11 " CLI11_VERSION
                     ", fmt {}.{}.{}, spdlog {}.{}.{}, nlohmann-json {}.{}.{}",
                     Loop::library_version(), sodium_version_string(), HIREDIS_MAJOR, HIREDIS_MINOR, HIREDIS_PATCH,
                     toml_reader_version(), FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100,
                     SPDLOG_VER_MAJOR, SPDLOG_VER_MINOR, SPDLOG_VER_PATCH, NLOHMANN_JSON_VERSION_MAJOR,
                     NLOHMANN_JSON_VERSION_MINOR, NLOHMANN_JSON_VERSION_PATCH);
}

}  // namespace coalesce
