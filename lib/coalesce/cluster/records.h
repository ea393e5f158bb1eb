// SPDX-License-Identifier: MIT
// Records: what is written of a run, before it is sealed.
//
// A chunk is a stretch of the output, from where the last one ended: its offset, then pieces of
// one stream each. The end says how the run ended and how much of each stream there was, so
// that whoever reads knows whether it has all of it. The info says who runs what, for people
// and for members on the same machine. None is believed: what does not add up is no record.
#pragma once

#include <coalesce/command/outcome.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include <coalesce/cluster/secret.h>
#include <coalesce/io/stream.h>

namespace coalesce {

/// A sealed chunk may have 65,000 bytes: a full 64 KiB would waste a quarter of the engine's memory.
inline constexpr std::size_t chunk_text_max = 65'000 - Seal::overhead;

class ChunkText {
  public:
    /// Its first byte is that of the output, both streams together.
    explicit ChunkText(std::uint64_t offset);
    /// Adds as much as there is room for; how much that was.
    std::size_t add(Stream stream, std::string_view bytes);
    [[nodiscard]] bool full() const noexcept;
    [[nodiscard]] bool empty() const noexcept;
    [[nodiscard]] std::string take() && { return std::move(text_); }

  private:
    std::string text_;
};

/// The offset of its first byte in the output; 0 where it tells none.
[[nodiscard]] std::uint64_t begin_of_chunk(std::string_view text);

/// Hands out the pieces of a chunk that begins at that offset, if all of it is right; its length.
std::optional<std::uint64_t> read_chunk(std::string_view text, std::uint64_t offset,
                                        const std::function<void(Stream, std::string_view)>& on_piece);

struct EndRecord {
    Outcome outcome;
    std::array<std::uint64_t, 2> sizes{};  ///< of the streams
    unsigned attempts = 0;
    std::chrono::milliseconds duration{0};
    bool for_all = false;  ///< somebody has ended it for everyone everywhere

    [[nodiscard]] std::string text() const;
    static std::optional<EndRecord> of(std::string_view text);
    bool operator==(const EndRecord&) const = default;
};

/// A process that can be told from a later one with its number.
struct ProcessName {
    std::int64_t pid = 0;
    std::int64_t started_ms = 0;

    static ProcessName of(std::int64_t pid);
    [[nodiscard]] bool alive() const;
    bool operator==(const ProcessName&) const = default;
};

struct RunInfo {
    std::string host;
    std::string boot;           ///< and where that is not ours, nothing is known of the processes
    std::string pid_namespace;  ///< the same
    ProcessName leader;
    ProcessName guard;
    std::string title;
    std::string parts;  ///< of its key: part_digests.h

    [[nodiscard]] std::string text() const;
    static std::optional<RunInfo> of(std::string_view text);
    /// This process, running what has that title, and a key of those parts.
    static RunInfo own(const std::string& host, std::int64_t guard_pid, std::string_view title, std::string_view parts);
    /// It was on this machine, and neither it nor its guard is alive (SPEC M32).
    [[nodiscard]] bool dead_here() const;
    bool operator==(const RunInfo&) const = default;
};

/// The name of this machine, as others are told it.
[[nodiscard]] std::string own_host();

}  // namespace coalesce
