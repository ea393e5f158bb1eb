// SPDX-License-Identifier: MIT
// What the user's rules (SPEC Y) do to a command line.
//
// A rule's settings are options by other means: they are taken by the options' own definitions, after the
// command line has been read, for what neither it nor a variable has said. Every name and value of every
// rule is looked at, whether it holds for the command at hand or not, so that a mistake is told by
// the next command and not by the one that it would have protected.
#pragma once

#include <coalesce/command/result.h>
#include <coalesce/command/run_class.h>
#include <coalesce/kept/store_place.h>
#include <coalesce/rules/rules.h>

#include <string>
#include <string_view>
#include <vector>

#include "command_line.h"

namespace coalesce {

/// The rules of whoever runs this, and what they came to for one command.
struct ObeyedRules {
    bool off = false;  ///< --no-config
    Rules rules;
    std::vector<Setting> applying;  ///< to the command
    bool concerned = false;         ///< a rule concerns it
    bool apart = false;             ///< share = false: nobody else is to have to do with it
};

/// Reads the rules of this user. An error is a sentence that names file and line.
[[nodiscard]] Result<Rules> own_rules();

/// Refuses the first name that is no option, with the one that is near, and the first value that is none, by
/// supplying each to `every_option`, which has been read and serves nothing else.
[[nodiscard]] Result<> check_rules(const Rules& rules, CommandLine& every_option);

/// As the option has them: `~` of a path is HOME where there is one, and names in one list are one value, separated
/// by commas.
[[nodiscard]] std::vector<std::string> values_of(const Setting& setting);

/// A command of these words in this process's directory.
[[nodiscard]] RuleSubject subject_here(std::vector<std::string> words);

/// The names that another directory goes by: the system's, and the path itself.
[[nodiscard]] std::vector<std::string> names_of_directory(const std::string& path);

/// Which rules concern a command of these words in this directory, and what holds for it. An error: that needs a HOME.
[[nodiscard]] Result<> find_applying(ObeyedRules& ruled, std::vector<std::string> words,
                                     const CommandLine& every_option);

/// Gives the options their settings; returns whether the command is to be shared.
[[nodiscard]] Result<bool> supply_settings(const std::vector<Setting>& settings, CommandLine& line);

/// The bounds that [cache] gives a store (SPEC Y6); the values have been checked.
[[nodiscard]] StoreBounds store_bounds(const Rules& rules);

/// How many runs at a time each [class] has (SPEC C1); the values have been checked.
[[nodiscard]] ClassJobs class_jobs_of(const Rules& rules);

/// Whether [history] lets be remembered how long runs took (SPEC Y6).
[[nodiscard]] bool remembers(const Rules& rules);

/// "ttl = 10m"
[[nodiscard]] std::string text_of(const Setting& setting);

}  // namespace coalesce
