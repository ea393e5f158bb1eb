// SPDX-License-Identifier: MIT
// Wish: what one request asks of what is kept (SPEC T2–T7).
//
// Every door asks in these words, whether they came as options or as a request's fields. What
// follows for a result, which takes a clock, is decided where results are kept. A request that
// wishes nothing is served nothing and keeps nothing (T1). None of it is part of a key (T12).
#pragma once

#include <coalesce/command/result.h>

#include <chrono>
#include <optional>

namespace coalesce {

struct Wish {
    std::optional<std::chrono::milliseconds> ttl;            ///< serve what ended that long ago, keep that long
    std::optional<std::chrono::milliseconds> max_age;        ///< serve what started that long ago
    std::optional<std::chrono::milliseconds> stale;          ///< serve what is older, and refresh it
    std::optional<std::chrono::milliseconds> keep_failures;  ///< keep and serve failures for that long
    bool fresh = false;                                      ///< nothing kept will do, live or not (F7)
    bool warm = false;                                       ///< no output, only see that one is kept (T6)

    bool operator==(const Wish&) const = default;

    /// Whether the store is to be looked at, and whether it is to be written.
    [[nodiscard]] bool reads() const noexcept { return !fresh && (ttl || max_age); }
    [[nodiscard]] bool keeps() const noexcept { return ttl.has_value(); }
    [[nodiscard]] bool anything() const noexcept { return ttl || max_age || warm; }
};

/// How the user wrote it: as `--keep-failures`, or as the field `"keep_failures"`.
enum class WishWords { options, fields };

/// Refuses what contradicts itself, naming the culprit: a time to be stale that is not below
/// the time to live, a warming or failures kept without one (T4, T6, T28). A ttl of 0 is none.
[[nodiscard]] Result<> check(Wish& wish, WishWords words = WishWords::options);

/// How long a result of several requesters is kept: the longest of their times (T2).
void widen(Wish& wish, const Wish& other) noexcept;

/// What has to be granted where several requesters are served by one result: the strictest of their wishes. Who
/// is served nothing that was kept says so for all.
void narrow(Wish& wish, const Wish& other) noexcept;

}  // namespace coalesce
