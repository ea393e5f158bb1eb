// SPDX-License-Identifier: MIT
// Scripts: what the engine does in one step (*.lua; the protocol is in README.md).
//
// Each is sent whole with every call: as quick as by its digest, and never unknown to an
// engine that has been restarted.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace coalesce {

enum class Script : std::uint8_t { acquire, renew, beat, leave, cancel, finish, bury };

/// "acquire"
[[nodiscard]] std::string_view name_of(Script script);
[[nodiscard]] std::string_view text_of(Script script);

/// The request that plays it.
[[nodiscard]] std::vector<std::string> call_of(Script script, std::span<const std::string> keys,
                                               std::span<const std::string> arguments);

/// The keys at the engine of a key whose name is `name`: all in one hash slot.
struct EngineKeys {
    explicit EngineKeys(const std::string& name)
        : state("coalesce:1:{" + name + "}:m"),
          waiters("coalesce:1:{" + name + "}:w"),
          streams("coalesce:1:{" + name + "}:s:") {}

    std::string state;
    std::string waiters;
    std::string streams;  ///< and the run's name behind it

    [[nodiscard]] std::string stream(std::string_view run) const { return streams + std::string(run); }
    [[nodiscard]] std::string to_runner() const { return state + ":r"; }   ///< the channel
    [[nodiscard]] std::string to_waiters() const { return state + ":j"; }  ///< the channel
};

}  // namespace coalesce
