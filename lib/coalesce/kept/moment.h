// SPDX-License-Identifier: MIT
// Moment: one instant by two clocks, so that neither can stretch a result's life.
//
// The wall clock goes on over boots and may be set; the clock since boot counts suspend
// and cannot be set. An age is the larger of what the two say (SPEC T20), and what lies
// in the future by either has none. Nothing here reads a clock but now(): whoever decides
// is given a Moment, and a test gives another.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <optional>

namespace coalesce {

/// Names one boot of one machine (/proc/sys/kernel/random/boot_id); zeros: not known.
using BootId = std::array<unsigned char, 16>;

struct Moment {
    std::int64_t wall_ns = 0;  ///< since the epoch
    std::int64_t boot_ns = 0;  ///< since that boot, suspend included
    BootId boot{};

    bool operator==(const Moment&) const = default;
};

constexpr std::int64_t second_ns = 1'000'000'000;

/// Since the epoch, as a file's times are told.
[[nodiscard]] constexpr std::int64_t nanoseconds_of(const timespec& time) noexcept {
    return std::int64_t{time.tv_sec} * second_ns + time.tv_nsec;
}

/// This instant. `boot` is what own_boot() says.
[[nodiscard]] Moment now();

/// The boot that this process lives in; read once a process.
[[nodiscard]] const BootId& own_boot();

/// How long before `now` something happened; nothing if it lies in the future. Clocks of
/// two boots are not compared, nor of boots that are not known.
[[nodiscard]] std::optional<std::chrono::nanoseconds> age_of(const Moment& then, const Moment& now) noexcept;

}  // namespace coalesce
