// SPDX-License-Identifier: MIT
#include <coalesce/rules/command_rule.h>

#include <fnmatch.h>

#include <algorithm>

#include <coalesce/command/shell_line.h>

namespace coalesce {
namespace {

std::vector<std::string> components(std::string_view path) {
    std::vector<std::string> found;
    while (!path.empty()) {
        const std::size_t slash = std::min(path.find('/'), path.size());
        if (slash > 0) found.emplace_back(path.substr(0, slash));
        path.remove_prefix(std::min(slash + 1, path.size()));
    }
    return found;
}

bool matches(const std::string& pattern, const std::string& text) {
    return ::fnmatch(pattern.c_str(), text.c_str(), 0) == 0;
}

// Where a `**` was passed last it may always take one component more: greedy, so in time that grows with the
// product of the lengths and no faster.
bool match_components(const std::vector<std::string>& patterns, const std::vector<std::string>& names) {
    std::size_t pattern = 0;
    std::size_t name = 0;
    std::optional<std::pair<std::size_t, std::size_t>> any;  // behind the `**`, and what it has taken
    while (name < names.size()) {
        if (pattern < patterns.size() && patterns[pattern] == "**") {
            any = {++pattern, name};
        } else if (pattern < patterns.size() && matches(patterns[pattern], names[name])) {
            ++pattern;
            ++name;
        } else if (any) {
            pattern = any->first;
            name = ++any->second;
        } else {
            return false;
        }
    }
    while (pattern < patterns.size() && patterns[pattern] == "**") ++pattern;
    return pattern == patterns.size();
}

// Without what a shell passes over before the first word: blanks, newlines and whole lines of comment.
std::string_view from_first_word(std::string_view line) {
    while (true) {
        line.remove_prefix(std::min(line.find_first_not_of(" \t\n"), line.size()));
        if (!line.starts_with('#')) return line;
        line.remove_prefix(std::min(line.find('\n'), line.size()));
    }
}

}  // namespace

std::string with_home(const std::string& path, const std::string& home) {
    if (path != "~" && !path.starts_with("~/")) return path;
    return home + path.substr(1);
}

std::vector<std::string> words_of_line(std::string_view line) {
    line = from_first_word(line);
    if (auto words = plain_words(line)) return std::move(*words);
    std::vector<std::string> words;
    while (true) {
        line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
        const std::size_t end = std::min(line.find_first_of(" \t"), line.size());
        const std::string_view word = line.substr(0, end);
        const std::size_t special = word.find_first_of("\n|&;<>()$`\\\"'*?[]#~{}!");
        // What is glued to an operator is still a word: "make;", "make>log". What a quote or a variable
        // is a part of is none that can be known here.
        const bool ends = special == std::string_view::npos ||
                          std::string_view("\n|&;<>()").find(word[special]) != std::string_view::npos;
        if (const std::string_view known = word.substr(0, special); ends && !known.empty()) words.emplace_back(known);
        if (word.empty() || special != std::string_view::npos) return words;
        line.remove_prefix(end);
    }
}

bool matches_path(std::string_view pattern, std::string_view path) {
    return match_components(components(pattern), components(path));
}

bool concerns(const CommandRule& rule, const RuleSubject& subject) {
    if (subject.words.size() < rule.match.size()) return false;
    for (std::size_t i = 0; i < rule.match.size(); ++i) {
        std::string word = subject.words[i];
        if (i == 0 && rule.match[0].find('/') == std::string::npos) word = word.substr(word.rfind('/') + 1);
        if (!matches(rule.match[i], word)) return false;
    }
    if (!rule.directory) return true;
    const auto means_here = [&](const std::string& pattern) {
        return std::any_of(subject.directories.begin(), subject.directories.end(),
                           [&](const std::string& directory) { return matches_path(pattern, directory); });
    };
    if (with_home(*rule.directory, "") == *rule.directory) return means_here(*rule.directory);
    return std::any_of(subject.homes.begin(), subject.homes.end(),
                       [&](const std::string& home) { return means_here(with_home(*rule.directory, home)); });
}

}  // namespace coalesce
