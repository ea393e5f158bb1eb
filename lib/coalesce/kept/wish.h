// SPDX-License-Identifier: MIT
// Wish: what one request asks of what is kept (SPEC T2–T7), and what follows for a result.
//
// The decisions of retention, without a file or a clock: a Wish, the facts of a result and
// a Moment give a Verdict. A request that wishes nothing is served nothing and keeps
// nothing (T1). None of it is part of a key (T12).
#pragma once

#include <coalesce/command/result.h>

#include <chrono>
#include <optional>

#include <coalesce/kept/moment.h>

namespace coalesce {

struct Wish {
    std::optional<std::chrono::milliseconds> ttl;            ///< serve what ended that long ago, keep that long
    std::optional<std::chrono::milliseconds> max_age;        ///< serve what started that long ago
    std::optional<std::chrono::milliseconds> stale;          ///< serve what is older, and refresh it
    std::optional<std::chrono::milliseconds> keep_failures;  ///< keep and serve failures for that long
    bool fresh = false;                                      ///< nothing kept will do, live or not (F7)
    bool warm = false;                                       ///< no output, only see that one is kept (T6)

    /// Whether the store is to be looked at, and whether it is to be written.
    [[nodiscard]] bool reads() const noexcept { return !fresh && (ttl || max_age); }
    [[nodiscard]] bool keeps() const noexcept { return ttl.has_value(); }
    [[nodiscard]] bool anything() const noexcept { return ttl || max_age || warm; }
};

/// Refuses what contradicts itself, naming the option: a time to be stale that is not below
/// the time to live, a warming or failures kept without one (T4, T6, T28). `--ttl 0` is none.
[[nodiscard]] Result<> check(Wish& wish);

/// How long a result of several requesters is kept: the longest of their times (T2).
void widen(Wish& wish, const Wish& other) noexcept;

/// What has to be granted where several requesters are served by one result: the strictest of their wishes. Who
/// is served nothing that was kept says so for all.
void narrow(Wish& wish, const Wish& other) noexcept;

/// What a wish is held against.
struct KeptTimes {
    Moment started;
    Moment ended;
    bool failed = false;  ///< an exit status other than 0
};

struct Verdict {
    bool serve = false;
    bool refresh = false;            ///< served, and older than the wish would have it
    std::chrono::nanoseconds age{};  ///< since the run's end, if served
};

/// Whether the wish is granted by such a result now.
[[nodiscard]] Verdict judge(const Wish& wish, const KeptTimes& times, const Moment& now) noexcept;

/// Whether a run that started then may be joined by a request made now (T3).
[[nodiscard]] bool may_join(const Wish& wish, const Moment& started, const Moment& now) noexcept;

}  // namespace coalesce
