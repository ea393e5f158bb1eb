// SPDX-License-Identifier: MIT
// RunClass: of the runs in a class only so many are under way at a time on a machine (SPEC C1).
//
// It says nothing about what is run, so it is no part of a key. Who counts, and how, is the
// meeting place's business.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include <coalesce/command/result.h>

namespace coalesce {

struct RunClass {
    std::string name;   ///< letters, digits, '.', '_' and '-'
    unsigned jobs = 0;  ///< at a time; 0: as it is set up
    bool operator==(const RunClass&) const = default;
};

/// "NAME" or "NAME:N", and back.
[[nodiscard]] Result<RunClass> parse_run_class(std::string_view text);
[[nodiscard]] std::string text_of(const RunClass& run_class);

/// How many runs at a time there may be in each class that is set up.
using ClassJobs = std::map<std::string, unsigned>;

/// What the class itself says, else what was set up, else one.
[[nodiscard]] unsigned jobs_of(const RunClass& run_class, const ClassJobs& set_up);

}  // namespace coalesce
