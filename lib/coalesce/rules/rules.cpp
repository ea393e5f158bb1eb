// SPDX-License-Identifier: MIT
#include <coalesce/rules/rules.h>

#include <algorithm>

namespace coalesce {

std::vector<const CommandRule*> concerning(const Rules& rules, const RuleSubject& subject) {
    std::vector<const CommandRule*> found;
    for (const CommandRule& rule : rules.commands)
        if (concerns(rule, subject)) found.push_back(&rule);
    return found;
}

std::vector<Setting> settings_of(const std::vector<const CommandRule*>& rules,
                                 const std::function<bool(std::string_view name)>& adds) {
    std::vector<Setting> holding;
    for (const CommandRule* rule : rules)
        for (const Setting& setting : rule->settings) {
            const bool clears = setting.is_list && setting.values.empty();
            if (!adds(setting.name) || clears)
                std::erase_if(holding, [&](const Setting& earlier) { return earlier.name == setting.name; });
            if (!(adds(setting.name) && clears)) holding.push_back(setting);
        }
    return holding;
}

const Setting* last(const std::vector<Setting>& table, std::string_view name) {
    const auto found = std::find_if(table.rbegin(), table.rend(), [&](const Setting& one) { return one.name == name; });
    return found == table.rend() ? nullptr : &*found;
}

}  // namespace coalesce
