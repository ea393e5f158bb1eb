// SPDX-License-Identifier: MIT
// Progress: how far a batch is, on stderr.
//
// One line that is drawn over on a terminal, about ten times a second, and taken
// away before anything else is written there; elsewhere a plain line every ten
// seconds. What it shows are facts handed in, it counts nothing itself. What else a
// batch has to say on stderr is said here, too, so that the line is never in its way.
#pragma once

#include <cstdint>
#include <chrono>
#include <optional>
#include <string>

#include <coalesce/flight/unique_function.h>
#include <coalesce/io/watch.h>

namespace coalesce {

class Loop;

struct ProgressFacts {
    std::uint64_t done = 0;
    std::uint64_t read = 0;    ///< requests taken from the input so far
    bool total_known = false;  ///< the input has ended: read is the total
    std::uint64_t running = 0;
    std::uint64_t shared = 0;
    std::uint64_t failed = 0;
};

/// The line shown for these facts, at most `columns` wide.
[[nodiscard]] std::string progress_line(const ProgressFacts& facts, std::chrono::nanoseconds elapsed, int columns);

class Progress {
  public:
    /// Asks `facts` whenever it draws; draws nothing unless `shown`.
    Progress(Loop& loop, bool shown, UniqueFunction<ProgressFacts()> facts);
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    /// Takes the line off the terminal; it is drawn again at its next turn.
    void clear() noexcept;

    /// Writes `text` on stderr as it is.
    void say(const std::string& text);
    /// The same for a sentence of ours, with our prefix, on one line that no terminal obeys.
    void complain(const std::string& sentence);

  private:
    void draw();

    UniqueFunction<ProgressFacts()> facts_;
    std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
    Timer timer_;
    bool terminal_;
    bool drawn_ = false;
};

}  // namespace coalesce
