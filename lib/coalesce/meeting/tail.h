// SPDX-License-Identifier: MIT
// Tail: the last lines of both streams, for a requester that wants no more (SPEC A3).
//
// Takes the output as it comes, so that the run is not held up, and passes its end on when
// there is nothing to come: standard output, then standard error. It is the requester's
// own: whoever shares the run, or keeps it, has all of it.
#pragma once

#include <coalesce/command/result.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>

#include <coalesce/io/last_lines.h>
#include <coalesce/io/store.h>
#include <coalesce/io/stream.h>
#include <coalesce/meeting/output_relay.h>
#include <coalesce/meeting/run_end.h>

namespace coalesce {

class Tail {
  public:
    /// `directory` is for what is too much for the heap; empty: in memory.
    Tail(std::uint64_t lines, const std::string& directory)
        : limits_{.directory = directory}, streams_{{{lines, limits_}, {lines, limits_}}} {}
    Tail(const Tail&) = delete;  // its streams know its limits
    Tail& operator=(const Tail&) = delete;

    /// What comes next of a stream.
    Result<> take(Stream stream, const Extent& extent);
    /// Passes the lines on to our own stdout and stderr; as pass_on_past().
    [[nodiscard]] std::optional<RunEnd> pass_on(const std::string& title, OutputRelay& relay);

  private:
    const StoreLimits limits_;
    std::array<LastLines, 2> streams_;
};

}  // namespace coalesce
