// SPDX-License-Identifier: MIT
// LastLines: the end of a stream, by lines, whatever comes before it.
//
// Holds the last N lines of what was appended, a last line without a newline included, byte
// for byte; what went before is let go as the stream grows. It is a Store, so much leaves the
// heap. Where the lines begin is looked for backwards, and only when twice as much has come
// as was worth holding: that costs no more than a look at each byte, and no memory for each
// line, which a list of their beginnings would.
#pragma once

#include <coalesce/command/result.h>

#include <cstdint>
#include <span>
#include <vector>

#include <coalesce/io/store.h>

namespace coalesce {

class LastLines {
  public:
    /// `limits` outlive it.
    LastLines(std::uint64_t lines, const StoreLimits& limits) : lines_(lines), limits_(&limits), store_(limits) {}

    /// Refused where there is no room: for what does not fit the memory budget, or the directory.
    Result<> append(std::span<const char> bytes);

    /// The lines, in pieces, valid until the next append. Refused where they cannot be read back.
    Result<std::vector<Extent>> extents();

  private:
    Result<> let_go();
    [[nodiscard]] bool has_room() const;

    const std::uint64_t lines_;
    const StoreLimits* limits_;
    Store store_;
    std::uint64_t start_ = 0;  // what is before is not among the lines
    std::uint64_t look_at_ = least_look;

    static constexpr std::uint64_t least_look = 256 * 1024;
};

}  // namespace coalesce
