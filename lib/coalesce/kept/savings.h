// SPDX-License-Identifier: MIT
// Savings: what wrappers' flights have spared, summed in the meeting place; what hits on kept results
// have spared, in the store.
//
// A wrapper's flight has no server that could count: its supervisor goes when it
// ends. So the sum is a line of text in a file there, which the supervisor of a
// flight that was shared adds to before anybody is told of its end (who asks on
// completion finds it counted). A flight that nobody joined touches no file: alone,
// `coalesce run true` pays nothing, which is also why runs as such are not counted.
//
// Text and not a mapping with atomic counters: whoever truncated that file would kill
// the supervisor with a SIGBUS, and its requesters would lose their result. Not a
// record a flight either, which would grow without end. The lock dies with its
// holder; one who is stopped while he holds it costs others a moment and their count,
// never their result. A file that makes no sense counts as none.
#pragma once

#include <chrono>
#include <cstdint>

namespace coalesce {

struct Savings {
    std::uint64_t runs = 0;            ///< that were shared; in a store: refreshes
    std::uint64_t joins = 0;           ///< requests that were served by another's run; in a store: hits
    std::chrono::nanoseconds time{0};  ///< their runs would have taken
    std::int64_t since = 0;            ///< when the first was counted, in seconds since the epoch; 0: none was

    Savings& operator+=(const Savings& more) noexcept;
};

/// Its name there.
inline constexpr const char* savings_file = "savings";

/// Adds to the sum in that directory; does nothing where that is impossible.
void add_savings(int directory, const Savings& more) noexcept;

/// The sum so far.
[[nodiscard]] Savings read_savings(int directory) noexcept;

}  // namespace coalesce
