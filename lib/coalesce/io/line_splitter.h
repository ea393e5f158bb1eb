// SPDX-License-Identifier: MIT
// LineSplitter: bytes as they come, lines out, and memory for one block and one line.
//
// Put in what was read, take lines until there is none: whoever has had enough for now
// just stops taking. A line past the limit is told once, by its beginning, and skipped
// to its end without being kept. Nothing is looked at twice, however small the pieces
// are, and after a long line its memory is given back. It reads nothing itself: batch's
// input, the sessions of a server and the wrapper's connection differ in that alone.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace coalesce {

class LineSplitter {
  public:
    struct Line {
        std::string_view text;  ///< without its delimiter; valid until the next call of anything here
        bool too_long = false;  ///< text holds its beginning only
    };

    /// How much of a line that is too long is told of it.
    static constexpr std::size_t shown_of_a_long_line = 60;

    LineSplitter(char delimiter, std::size_t line_bytes_max) : delimiter_(delimiter), line_bytes_max_(line_bytes_max) {}

    /// Room for `bytes` more, to read into; taken() says how many of them came.
    [[nodiscard]] std::span<char> room(std::size_t bytes);
    void taken(std::size_t bytes) noexcept;
    /// The same for bytes that lie elsewhere.
    void add(std::string_view bytes);

    /// The next whole line; nothing: more must be added first.
    [[nodiscard]] std::optional<Line> next();
    /// At the end of the input: the last line, where it has no delimiter. Call it after next().
    [[nodiscard]] std::optional<Line> last();
    /// Whether nothing has been put in that next() has not looked at.
    [[nodiscard]] bool looked_through() const noexcept { return scanned_ == bytes_.size(); }

  private:
    [[nodiscard]] std::string_view rest() const noexcept { return std::string_view(bytes_).substr(begin_); }
    [[nodiscard]] Line cut(std::string_view text) const noexcept;
    void drop_given_out();

    const char delimiter_;
    const std::size_t line_bytes_max_;
    std::string bytes_;
    std::size_t had_ = 0;      // before the room that was asked for last
    std::size_t begin_ = 0;    // of what has not been given out
    std::size_t scanned_ = 0;  // no delimiter between begin_ and here
    bool skipping_ = false;    // inside a line that was too long
};

}  // namespace coalesce
