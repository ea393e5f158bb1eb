// SPDX-License-Identifier: MIT
// CommandRule: what holds for the commands that a pattern names (SPEC Y2, Y3).
//
// A rule is data: whose words it concerns, where, and a list of settings, each under the name of
// an option and with the place where it was written. What a setting means is the options'
// business; here it is only decided which ones concern a command, and in what order they hold.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace coalesce {

/// Where something was written.
struct Origin {
    std::string file;
    unsigned line = 0;

    /// "/etc/coalesce/config.toml:7"
    [[nodiscard]] std::string text() const { return file + ":" + std::to_string(line); }
};

/// One line of a table: an option's name without dashes, and its values.
struct Setting {
    std::string name;
    std::vector<std::string> values;  ///< "true" and "false" for a switch
    bool is_list = false;             ///< written as one: of an option that may be repeated an empty one clears
    Origin origin;
};

struct CommandRule {
    std::vector<std::string> match;        ///< patterns of the first words; empty: every command
    std::optional<std::string> directory;  ///< a pattern of the directory
    std::vector<Setting> settings;
    Origin origin;
};

/// Which command it is, as far as a rule can tell.
struct RuleSubject {
    std::vector<std::string> words;        ///< of argv, or those that a line begins with
    std::vector<std::string> directories;  ///< the names that the directory goes by
    std::vector<std::string> homes;        ///< what `~` of a pattern stands for; without one it means nothing
};

/// The path, or pattern of one, with the home in place of a first component `~`.
[[nodiscard]] std::string with_home(const std::string& path, const std::string& home);

/// The words that a shell line is matched by, whatever newlines and comments are before it: all of them where it
/// is a plain command, and those before the first that the shell would do more with where it is not.
[[nodiscard]] std::vector<std::string> words_of_line(std::string_view line);

/// Whether the path is one that the pattern means: `*`, `?` and `[…]` within a component, `**` for
/// any number of components, also none.
[[nodiscard]] bool matches_path(std::string_view pattern, std::string_view path);

/// Whether the rule concerns the command: pattern by pattern against its first words, the program by
/// the last component of its name unless the pattern has a slash.
[[nodiscard]] bool concerns(const CommandRule& rule, const RuleSubject& subject);

}  // namespace coalesce
