// SPDX-License-Identifier: MIT
// coalesce rules: what the rules files say, and what of it holds for a command (SPEC Y5).

#include <coalesce/command/text.h>

#include <cstdio>
#include <string>
#include <vector>

#include "commands.h"
#include "complain.h"
#include "obeyed_rules.h"
#include "options.h"

namespace coalesce {
namespace {

void print_setting(const Setting& setting) {
    std::printf("  %-40s  %s\n", visible(text_of(setting)).c_str(), visible(setting.origin.text()).c_str());
}

void print_table(const std::string& title, const std::vector<Setting>& table) {
    if (table.empty()) return;
    std::printf("%s\n", visible(title).c_str());
    for (const Setting& setting : table) print_setting(setting);
}

void print_all(const Rules& rules) {
    for (const std::string& file : rules.files) std::printf("file %s\n", visible(file).c_str());
    for (const std::string& file : rules.passed_over)
        std::printf("passed over, since it is another user's: %s\n", visible(file).c_str());
    for (const CommandRule& rule : rules.commands) {
        std::string title = rule.match.empty() ? "every command" : "";
        for (const std::string& word : rule.match) title += (title.empty() ? "" : " ") + word;
        if (rule.directory) title += " in " + *rule.directory;
        print_table(title, rule.settings);
    }
    print_table("[cache]", rules.cache);
    print_table("[history]", rules.history);
    for (const auto& [name, table] : rules.classes) print_table("[class." + name + "]", table);
}

}  // namespace

int rules_command(int argc, char** argv) {
    TypedRules typed;
    if (const auto status = read_rules_question(argc, argv, typed)) return *status;
    if (typed.line && !typed.words.empty())
        return misuse("rules", "-c LINE takes no command besides; there is '" + typed.words.front() + "'");
    const bool of_a_command = typed.line || !typed.words.empty();
    // Who looks for a rule that is not obeyed is told which of the two it is.
    if (typed.ruled.rules.files.empty())
        fail("no rules file is read; for where they are looked for see FILES in coalesce(1)");
    else if (of_a_command && typed.ruled.applying.empty())
        fail("no rule concerns this command");
    if (of_a_command)
        for (const Setting& setting : typed.ruled.applying) print_setting(setting);
    else
        print_all(typed.ruled.rules);
    return flush_output();
}

}  // namespace coalesce
