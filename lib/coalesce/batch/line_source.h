// SPDX-License-Identifier: MIT
// LineSource: input taken as it comes, a line at a time, without blocking the loop.
//
// Works for files, pipes, terminals and sockets, and leaves the flags of a shared
// descriptor alone. A byte order mark before the first line is none of its bytes. What
// is a line, and what becomes of one that is too long, is LineSplitter's; the reader
// decides when to stop: memory holds one block and one line.
#pragma once

#include <coalesce/command/result.h>
#include <coalesce/flight/unique_function.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include <coalesce/io/line_splitter.h>
#include <coalesce/io/watch.h>

namespace coalesce {

class Loop;

class LineSource {
  public:
    struct Line {
        std::string_view text;  ///< without its delimiter; valid during the call
        std::uint64_t number;   ///< from 1
        bool too_long;          ///< text holds its beginning only
    };
    struct Events {
        UniqueFunction<void(const Line&)> on_line;
        UniqueFunction<void(std::optional<Error>)> on_end;  ///< once, with the error if reading failed
    };

    LineSource(Loop& loop, int fd, char delimiter, std::size_t line_bytes_max, Events events);
    ~LineSource();
    LineSource(const LineSource&) = delete;
    LineSource& operator=(const LineSource&) = delete;

    /// Starts, or goes on after pause(). Lines come on later turns.
    void resume();
    /// No further line until resume(); may be called from on_line.
    void pause() noexcept;
    /// No further line, and no on_end.
    void stop() noexcept;

  private:
    void turn(bool readable);
    void schedule();
    bool fill();
    void hand_out_lines();
    void finish(std::optional<Error> error);

    Loop& loop_;
    const int fd_;
    Events events_;
    LineSplitter lines_;
    std::uint64_t number_ = 0;
    bool at_end_ = false;
    bool paused_ = true;
    bool stopped_ = false;
    bool scheduled_ = false;
    std::optional<Error> error_;
    Watch watch_;
    // Posted turns outlive us otherwise.
    std::shared_ptr<LineSource*> self_ = std::make_shared<LineSource*>(this);
};

}  // namespace coalesce
