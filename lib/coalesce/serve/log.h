// SPDX-License-Identifier: MIT
// Log: a server's lines on standard error (SPEC S10), and the level by itself where that is the journal.
//
// spdlog writes them, but none that standard error does not take at once: a pager at the end of a pipe would hold
// everybody up for as long as nobody turns its page. How many are missing is said once there is room. What is logged is
// the server's to say; environments and input never are.
#pragma once

#include <bit>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include <coalesce/protocol/format.h>

namespace spdlog {
class logger;
}

namespace coalesce {

class Log {
  public:
    /// From that level on: "debug", "info", "warn", "error", "off".
    explicit Log(const std::string& level);
    Log(const Log&) = delete;
    Log& operator=(const Log&) = delete;
    ~Log();

    /// A line of that level, in fmt's syntax.
    template <class... Value>
    void debug(fmt::format_string<const Value&...> sentence, const Value&... values) {
        write(Level::debug, sentence, fmt::make_format_args(values...));
    }
    template <class... Value>
    void info(fmt::format_string<const Value&...> sentence, const Value&... values) {
        write(Level::info, sentence, fmt::make_format_args(values...));
    }
    template <class... Value>
    void warn(fmt::format_string<const Value&...> sentence, const Value&... values) {
        write(Level::warn, sentence, fmt::make_format_args(values...));
    }
    template <class... Value>
    void critical(fmt::format_string<const Value&...> sentence, const Value&... values) {
        write(Level::critical, sentence, fmt::make_format_args(values...));
    }

  private:
    enum class Level { debug, info, warn, critical };

    void write(Level level, fmt::string_view sentence, fmt::format_args values);

    std::unique_ptr<spdlog::logger> logger_;
    std::uint64_t missing_ = 0;  // lines, since the last that was taken
};

/// Of what strangers can cause as often as they like: the first is worth a line, and then each that doubles their
/// number.
class Repeated {
  public:
    [[nodiscard]] bool worth_a_line() noexcept { return std::has_single_bit(++times_); }
    /// For behind that line: nothing of the first.
    [[nodiscard]] std::string so_far() const {
        return times_ > 1 ? " (" + std::to_string(times_) + " times so far)" : std::string();
    }

  private:
    std::uint64_t times_ = 0;
};

/// A command as a log shows it: its line is one line, and not a page.
[[nodiscard]] std::string for_the_log(const std::string& title);

/// A flight's name as a log shows it.
[[nodiscard]] inline std::string_view short_name(std::string_view name) { return name.substr(0, 12); }

}  // namespace coalesce
