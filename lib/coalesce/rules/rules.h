// SPDX-License-Identifier: MIT
// Rules: all that the configuration of one user says, in the order in which it holds (SPEC Y).
//
// Later ones win: of the files in the order in which they are read, of the tables in the order of a
// file. A setting that is a list adds to what earlier ones say, and an empty list clears that. Reading
// files is rules_file.h's.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <coalesce/rules/command_rule.h>

namespace coalesce {

struct Rules {
    std::vector<std::string> files;        ///< that were read
    std::vector<std::string> passed_over;  ///< those of other users, not read
    std::vector<CommandRule> commands;
    std::vector<Setting> cache;                           ///< of [cache]
    std::vector<Setting> history;                         ///< of [history]
    std::map<std::string, std::vector<Setting>> classes;  ///< of [class.NAME]

    [[nodiscard]] bool empty() const noexcept {
        return commands.empty() && cache.empty() && history.empty() && classes.empty();
    }
};

/// The rules that concern the command, in the order in which they hold.
[[nodiscard]] std::vector<const CommandRule*> concerning(const Rules& rules, const RuleSubject& subject);

/// What these say together: each setting once, with its last values, but for one that may be repeated every
/// one that adds to it. `adds` says of a name whether its option may be repeated.
[[nodiscard]] std::vector<Setting> settings_of(const std::vector<const CommandRule*>& rules,
                                               const std::function<bool(std::string_view name)>& adds);

/// The last value of a table's setting; null: it is not there.
[[nodiscard]] const Setting* last(const std::vector<Setting>& table, std::string_view name);

}  // namespace coalesce
