// SPDX-License-Identifier: MIT
// How many commands run at a time, as GNU parallel's -j has it: a number, or one that is
// relative to the processors.
#pragma once

#include <coalesce/command/result.h>

#include <string_view>

namespace coalesce {

/// The processors that this process may use.
[[nodiscard]] unsigned available_processors();

/// "8", "50%" of the processors, "+2" more than they are, "-1" less; 0: no limit. What
/// is relative is rounded up, and at least 1.
[[nodiscard]] Result<unsigned> parse_job_count(std::string_view text, unsigned processors);

}  // namespace coalesce
