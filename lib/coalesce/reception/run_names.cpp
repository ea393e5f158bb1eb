// SPDX-License-Identifier: MIT
#include <coalesce/reception/run_names.h>

#include <unistd.h>

#include <chrono>

#include <coalesce/engine/key_hash.h>

namespace coalesce {

RunNames::RunNames()
    : process_(std::to_string(::getpid()) + " " +
               std::to_string(std::chrono::system_clock::now().time_since_epoch().count()) + " " +
               std::to_string(std::chrono::steady_clock::now().time_since_epoch().count())) {}

std::string RunNames::name_of(std::string_view key, FlightId id) const {
    return key_hash({nullptr, process_ + " " + std::to_string(id) + " " + std::string(key)});
}

}  // namespace coalesce
