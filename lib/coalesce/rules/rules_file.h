// SPDX-License-Identifier: MIT
// Rules files: where they lie, whose are read, and what they may say (SPEC Y1, Y5–Y7).
//
// The format is TOML 1.0, read by toml++. Nothing that is written is passed over in silence: what is not
// understood, and a file that others may change, is an error that names file and line, since a rule that
// is not applied is found out when it is too late. Only another user's file counts for nothing: that is
// the file of whoever called sudo. No file is looked for in the directory at hand: a repository
// that was cloned must not decide what is shared.
#pragma once

#include <coalesce/command/result.h>

#include <string>
#include <string_view>

#include <coalesce/rules/rules.h>

namespace coalesce {

/// What the environment says about where rules lie; null: the variable is not there.
struct RulesPlaces {
    const char* named = nullptr;        ///< COALESCE_CONFIG: this file alone; empty: none
    const char* config_home = nullptr;  ///< XDG_CONFIG_HOME
    const char* home = nullptr;         ///< HOME
};

/// Reads the named file, or /etc/coalesce/config.toml and then coalesce/config.toml in the configuration's home
/// (else ~/.config). Two opens where neither exists. An error names file and line.
[[nodiscard]] Result<Rules> read_rules(const RulesPlaces& places);

/// Of the reader: "3.3.0".
[[nodiscard]] std::string toml_reader_version();

/// Adds what the text says. `file` is for the origins.
[[nodiscard]] Result<> add_rules(Rules& rules, std::string_view text, const std::string& file);

}  // namespace coalesce
