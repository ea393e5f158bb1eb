// SPDX-License-Identifier: MIT
// Title: a command as a person reads it: in messages, tables, logs and accounts.
//
// One line that no terminal obeys and no table is broken by (SPEC O0), and that means
// the same when it is pasted into a shell. Machines that want the bytes get them from
// JSON, where they are escaped anyway.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace coalesce {

/// Of a shell line: as it was written, or quoted in $'…' style where that cannot be shown.
[[nodiscard]] std::string title(std::string_view line);

/// Of a command of words: display().
[[nodiscard]] std::string title(const std::vector<std::string>& argv);

}  // namespace coalesce
