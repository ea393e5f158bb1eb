// SPDX-License-Identifier: MIT
// Verdict: whether a result grants a wish now (SPEC T2–T7).
//
// The decisions of retention, without a file or a clock: a Wish, the facts of a result and
// a Moment give a Verdict. A live run is judged by the same age as a kept one (T3).
#pragma once

#include <coalesce/command/wish.h>
#include <coalesce/engine/run.h>

#include <chrono>

#include <coalesce/kept/moment.h>

namespace coalesce {

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
[[nodiscard]] bool may_join(const Wish& wish, std::chrono::system_clock::time_point started,
                            const Moment& now) noexcept;
/// The same of the flight that a request would join; null: there is none. One that has yet to start is young.
[[nodiscard]] bool may_join(const Wish& wish, const Run* run, const Moment& now) noexcept;

}  // namespace coalesce
