// SPDX-License-Identifier: MIT
#include "obeyed_rules.h"

#include <coalesce/command/run_class.h>
#include <coalesce/rules/rules_file.h>

#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <iterator>

#include "option_values.h"
#include "usage.h"

namespace coalesce {
namespace {

// The options that a rule may set (SPEC Y3), and `share`, which is none.
constexpr std::string_view names_of_settings[] = {
    "match",      "directory",  // for the nearest name only: the reader has taken them
    "ttl",        "max-age",           "stale", "keep-failures", "depends", "modtime", "ignore-env", "only-env",
    "ignore-cwd", "ignore-namespaces", "scope", "key",           "timeout", "grace",   "wait",       "keep-running",
    "pty",        "pty-size",          "class", "verbose",       "share"};
constexpr std::string_view names_of_cache[] = {"max-size", "max-entry", "directory"};
constexpr std::string_view names_of_history[] = {"keep"};
constexpr std::string_view names_of_class[] = {"jobs"};

Error wrong(const Setting& setting, const std::string& sentence) {
    return {{}, setting.origin.text() + ": " + sentence};
}

template <class Names>
Result<> check_name(const Setting& setting, const Names& names) {
    if (std::find(std::begin(names), std::end(names), setting.name) != std::end(names)) return {};
    const std::vector<std::string> candidates(std::begin(names), std::end(names));
    const std::string near = nearest(setting.name, candidates);
    return wrong(setting,
                 "there is no setting '" + setting.name + "'" + (near.empty() ? "" : "; did you mean " + near + "?"));
}

Result<bool> truth(const Setting& setting) {
    if (setting.values.size() == 1 && setting.values.front() == "true") return true;
    if (setting.values.size() == 1 && setting.values.front() == "false") return false;
    return wrong(setting, setting.name + " is true or false");
}

bool names_paths(const Setting& setting) {
    return setting.name == "depends" || setting.name == "modtime" || setting.name == "directory";
}

template <class Names>
Result<> check_table(const std::vector<Setting>& table, const Names& names,
                     const std::function<Result<>(const Setting&)>& check_value) {
    for (const Setting& setting : table) {
        if (auto checked = check_name(setting, names); !checked) return checked;
        if (auto checked = check_value(setting); !checked) return checked;
    }
    return {};
}

Result<> check_one(const Setting& setting, const CommandLine::Take& take) {
    if (setting.values.size() != 1) return wrong(setting, setting.name + " has one value");
    if (auto taken = take(setting.name, values_of(setting).front()); !taken)
        return wrong(setting, taken.error().message());
    return {};
}

// A relative one would be another store in each directory. The ~ of who has no HOME is nobody's mistake.
Result<> check_absolute(std::string_view name, const std::string& path) {
    return with_home(path, "/").starts_with('/') ? Result<>() : wrong_value(name, path, "is no absolute path");
}

// With `..` in it, it begins with the name of another one.
bool is_name_of_directory(const std::string& path) {
    return path.starts_with('/') && (path + "/").find("/../") == std::string::npos;
}

void add_real_name(std::vector<std::string>& names, const std::string& path) {
    char real[PATH_MAX];
    if (::realpath(path.c_str(), real) != nullptr && path != real) names.emplace_back(real);
}

// The names that the directory goes by: the system's, and the one by which a shell came here.
std::vector<std::string> own_directories() {
    std::vector<std::string> names;
    char path[PATH_MAX];
    if (::getcwd(path, sizeof path) != nullptr) names.emplace_back(path);
    const char* const spelled = std::getenv("PWD");
    struct stat here {};
    struct stat there {};
    if (spelled != nullptr && is_name_of_directory(spelled) && ::stat(".", &here) == 0 &&
        ::stat(spelled, &there) == 0 && here.st_dev == there.st_dev && here.st_ino == there.st_ino)
        names.emplace_back(spelled);
    return names;
}

// As it is spelled, and as the system would name it. A relative one would be another home in each directory.
std::vector<std::string> own_homes() {
    const char* const spelled = std::getenv("HOME");
    if (spelled == nullptr || *spelled != '/') return {};
    std::vector<std::string> homes{spelled};
    add_real_name(homes, spelled);
    return homes;
}

}  // namespace

Result<Rules> own_rules() {
    return read_rules({.named = std::getenv("COALESCE_CONFIG"),
                       .config_home = std::getenv("XDG_CONFIG_HOME"),
                       .home = std::getenv("HOME")});
}

Result<> check_rules(const Rules& rules, CommandLine& every_option) {
    for (const CommandRule& rule : rules.commands)
        for (const Setting& setting : rule.settings)
            if (auto checked = check_name(setting, names_of_settings); !checked) return checked;
    for (const CommandRule& rule : rules.commands)
        if (auto supplied = supply_settings(rule.settings, every_option); !supplied) return supplied.error();
    std::uint64_t bytes = 0;
    auto checked = check_table(rules.cache, names_of_cache, [&](const Setting& setting) {
        return check_one(setting, setting.name == "directory" ? check_absolute : size(bytes));
    });
    if (!checked) return checked;
    checked = check_table(rules.history, names_of_history, [](const Setting& setting) {
        auto given = truth(setting);
        return given ? Result<>() : given.error();
    });
    if (!checked) return checked;
    for (const auto& [name, table] : rules.classes) {
        checked = check_table(table, names_of_class, [&, &name = name](const Setting& setting) -> Result<> {
            // As --class would have it: a class that nobody can name, or with no runs, would be silently without
            // effect.
            if (const auto named = parse_run_class(name); !named || named.value().name != name)
                return wrong(setting, "[class." + name + "]: no --class has that name");
            unsigned jobs = 0;
            auto given = check_one(setting, number(jobs));
            return given && jobs == 0 ? Result<>(wrong(setting, "jobs is at least 1")) : given;
        });
        if (!checked) return checked;
    }
    return {};
}

std::vector<std::string> values_of(const Setting& setting) {
    if (setting.name == "only-env" && setting.is_list) {
        std::string names;
        for (const std::string& name : setting.values) names += (names.empty() ? "" : ",") + name;
        return {names};
    }
    std::vector<std::string> values = setting.values;
    const char* const home = std::getenv("HOME");
    if (names_paths(setting) && home != nullptr && *home == '/')
        for (std::string& value : values) value = with_home(value, home);
    return values;
}

RuleSubject subject_here(std::vector<std::string> words) { return {std::move(words), own_directories(), own_homes()}; }

std::vector<std::string> names_of_directory(const std::string& path) {
    std::vector<std::string> names;
    if (is_name_of_directory(path)) names.push_back(path);
    add_real_name(names, path);
    return names;
}

Result<> find_applying(ObeyedRules& ruled, std::vector<std::string> words, const CommandLine& every_option) {
    if (ruled.rules.commands.empty()) return {};
    const auto rules = concerning(ruled.rules, subject_here(std::move(words)));
    ruled.concerned = !rules.empty();
    ruled.applying = settings_of(rules, [&](std::string_view name) { return every_option.may_be_repeated(name); });
    // In silence another file would be looked at. No mistake that stops every command, and a server: the file may be
    // the machine's.
    for (const Setting& setting : ruled.applying)
        for (const std::string& value : values_of(setting))
            if (names_paths(setting) && value != with_home(value, ""))
                return wrong(setting, setting.name + ": there is no HOME for the ~ of '" + value + "'");
    return {};
}

Result<bool> supply_settings(const std::vector<Setting>& settings, CommandLine& line) {
    bool shared = true;
    for (const Setting& setting : settings) {
        if (setting.name == "share") {
            auto given = truth(setting);
            if (!given) return given.error();
            shared = *given;
        } else if (auto supplied = line.supply(setting.name, values_of(setting), setting.origin.text()); !supplied) {
            return supplied.error();
        }
    }
    return shared;
}

ClassJobs class_jobs_of(const Rules& rules) {
    ClassJobs jobs;
    for (const auto& [name, table] : rules.classes)
        if (const Setting* const set = last(table, "jobs")) (void)number(jobs[name])(set->name, set->values.front());
    return jobs;
}

StoreBounds store_bounds(const Rules& rules) {
    StoreBounds bounds;
    if (const Setting* const all = last(rules.cache, "max-size"))
        (void)size(bounds.total_bytes.emplace())(all->name, all->values.front());
    if (const Setting* const one = last(rules.cache, "max-entry"))
        (void)size(bounds.entry_bytes.emplace())(one->name, one->values.front());
    return bounds;
}

bool remembers(const Rules& rules) {
    const Setting* const keep = last(rules.history, "keep");
    return keep == nullptr || keep->values.front() == "true";
}

std::string text_of(const Setting& setting) {
    std::string text = setting.name + " = ";
    for (std::size_t i = 0; i < setting.values.size(); ++i) text += (i == 0 ? "" : ", ") + setting.values[i];
    return text;
}

}  // namespace coalesce
