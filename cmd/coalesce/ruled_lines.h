// SPDX-License-Identifier: MIT
// RuledLines: what the user's rules (SPEC Y2, Y3) make of a batch's options for some of its commands.
//
// Commands that the same rules concern have the same options, made once: the batch's own command line, read again,
// with what the rules say beside it. Most commands of most batches are concerned by none.
#pragma once

#include <coalesce/batch/batch.h>
#include <coalesce/rules/rules.h>

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace coalesce {

class RuledLines {
  public:
    /// The command line must outlive it; it has been read without a mistake. `cluster` is the batch's part of each key.
    RuledLines(Rules rules, std::optional<ClusterRules> cluster, int argc, char** argv);

    [[nodiscard]] bool any() const noexcept { return !rules_.commands.empty(); }
    /// As OptionsFor says.
    [[nodiscard]] const BatchOptions* options_for(const std::string* line, const std::vector<std::string>& argv,
                                                  const std::string* directory);

  private:
    const Rules rules_;
    const bool by_directory_;  // else nobody needs to ask the system for a directory's name
    const RuleSubject here_;   // without words
    const std::optional<ClusterRules> cluster_;
    const int argc_;
    char** const argv_;
    std::map<std::vector<const CommandRule*>, std::unique_ptr<BatchOptions>> made_;
    std::set<std::string> said_;
};

}  // namespace coalesce
