// SPDX-License-Identifier: MIT
// Log: a server's lines on standard error (SPEC S10), and the level by itself where that is the journal.
//
// What is logged is the server's to say; environments and input never are.
#pragma once

#include <string>

// spdlog with Debian's own fmt, both header-only: no static archive of either exists.
#define SPDLOG_HEADER_ONLY
#define SPDLOG_FMT_EXTERNAL_HO
#include <spdlog/spdlog.h>

namespace coalesce {

/// A log of that level: "debug", "info", "warn", "error", "off".
[[nodiscard]] spdlog::logger make_log(const std::string& level);

/// A command as a log shows it: its line is one line, and not a page.
[[nodiscard]] std::string for_the_log(const std::string& title);

}  // namespace coalesce
