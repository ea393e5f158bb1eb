// SPDX-License-Identifier: MIT
// Log: a server's lines on standard error (SPEC S10), and the level by itself where that is the journal.
//
// spdlog writes them. What is logged is the server's to say; environments and input never are.
#pragma once

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
};

/// A command as a log shows it: its line is one line, and not a page.
[[nodiscard]] std::string for_the_log(const std::string& title);

/// A flight's name as a log shows it.
[[nodiscard]] inline std::string_view short_name(std::string_view name) { return name.substr(0, 12); }

}  // namespace coalesce
