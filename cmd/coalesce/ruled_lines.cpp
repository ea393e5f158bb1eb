// SPDX-License-Identifier: MIT
#include "ruled_lines.h"

#include <algorithm>
#include <utility>

#include "complain.h"
#include "options.h"
#include "own_terminal.h"

namespace coalesce {

RuledLines::RuledLines(Rules rules, std::optional<ClusterRules> cluster, int argc, char** argv)
    : rules_(std::move(rules)),
      by_directory_(std::any_of(rules_.commands.begin(), rules_.commands.end(),
                                [](const CommandRule& rule) { return rule.directory.has_value(); })),
      here_(any() ? subject_here({}) : RuleSubject()),
      cluster_(std::move(cluster)),
      argc_(argc),
      argv_(argv) {}

const BatchOptions* RuledLines::options_for(const std::string* line, const std::vector<std::string>& argv,
                                            const std::string* directory) {
    RuleSubject subject = here_;
    subject.words = line != nullptr ? words_of_line(*line) : argv;
    if (directory != nullptr && by_directory_) subject.directories = names_of_directory(*directory);
    auto rules = concerning(rules_, subject);
    if (rules.empty()) return nullptr;
    std::unique_ptr<BatchOptions>& made = made_[rules];
    if (made) return made.get();
    TypedBatch typed;
    // Names and values have been checked: what is left is what they come to together.
    const auto read = read_batch_with(rules, argc_, argv_, typed, [this](const std::string& why) {
        if (said_.insert(why).second) fail(why);
    });
    if (!read && said_.insert(read.error().message()).second) fail(read.error().message());
    if (!read || typed.options.rules.no_share) typed.options.wish = {};
    typed.options.rules.cluster = cluster_;
    typed.options.terminal = terminal_of(typed.terminal);
    made = std::make_unique<BatchOptions>(std::move(typed.options));
    return made.get();
}

}  // namespace coalesce
