// SPDX-License-Identifier: MIT
#include <coalesce/rules/rules_file.h>

#define TOML_HEADER_ONLY 1
#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#include <toml++/toml.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <optional>
#include <utility>

#include <coalesce/io/descriptor.h>

namespace coalesce {
namespace {

constexpr const char* system_file = "/etc/coalesce/config.toml";
constexpr std::size_t file_bytes_max = 1 << 20;  // of what somebody wrote by hand

Error wrong(const Origin& origin, const std::string& sentence) { return {{}, origin.text() + ": " + sentence}; }

// toml++'s table with the file's name, which its own positions lack.
class Reading {
  public:
    Reading(Rules& rules, const std::string& file) : rules_(rules), file_(file) {}

    Result<> read(const toml::table& root) {
        for (const auto& [key, node] : root) {
            const std::string name(key.str());
            Result<> taken;
            if (name == "command")
                taken = read_commands(node);
            else if (name == "class")
                taken = read_classes(node);
            else if (name == "cache")
                taken = read_table(node, name, rules_.cache);
            else if (name == "history")
                taken = read_table(node, name, rules_.history);
            else
                taken = wrong(at(key.source()), "there is no '" + name +
                                                    "' here; there are [[command]], [class.NAME], [cache] and "
                                                    "[history]");
            if (!taken) return taken;
        }
        return {};
    }

  private:
    [[nodiscard]] Origin at(const toml::source_region& region) const { return {file_, region.begin.line}; }

    Result<> read_commands(const toml::node& node) {
        const toml::array* const tables = node.as_array();
        if (tables == nullptr || !tables->is_array_of_tables())
            return wrong(at(node.source()), "a rule begins with [[command]], in two brackets");
        for (const toml::node& table : *tables) {
            CommandRule rule{.origin = at(table.source())};
            for (const auto& [key, value] : *table.as_table()) {
                auto setting = read_setting(key, value);
                if (!setting) return setting.error();
                if (setting->name != "match" && setting->name != "directory") {
                    rule.settings.push_back(std::move(*setting));
                    continue;
                }
                if (!value.is_string() || setting->values.front().find_first_not_of(" \t\n") == std::string::npos)
                    return wrong(setting->origin, setting->name + " is a text, and not an empty one");
                if (setting->name == "match")
                    rule.match = words_in(setting->values.front());
                else if (setting->values.front().starts_with("**") ||
                         with_home(setting->values.front(), "/").starts_with('/'))
                    rule.directory = std::move(setting->values.front());
                else  // which no directory's name is like, so that the rule would hold nowhere
                    return wrong(setting->origin, "directory: '" + setting->values.front() +
                                                      "' is no absolute path, and begins with neither ~/ nor **");
            }
            rules_.commands.push_back(std::move(rule));
        }
        return {};
    }

    Result<> read_classes(const toml::node& node) {
        const toml::table* const classes = node.as_table();
        if (classes == nullptr) return wrong(at(node.source()), "a class is a table, [class.NAME]");
        for (const auto& [name, table] : *classes)
            if (auto taken =
                    read_table(table, "class." + std::string(name.str()), rules_.classes[std::string(name.str())]);
                !taken)
                return taken;
        return {};
    }

    Result<> read_table(const toml::node& node, const std::string& name, std::vector<Setting>& into) {
        const toml::table* const table = node.as_table();
        if (table == nullptr) return wrong(at(node.source()), name + " is a table, [" + name + "]");
        for (const auto& [key, value] : *table) {
            auto setting = read_setting(key, value);
            if (!setting) return setting.error();
            into.push_back(std::move(*setting));
        }
        return {};
    }

    Result<Setting> read_setting(const toml::key& key, const toml::node& value) {
        Setting setting{.name = std::string(key.str()), .origin = at(key.source())};
        if (const toml::array* const list = value.as_array()) {
            setting.is_list = true;
            for (const toml::node& one : *list) {
                auto text = text_of(one);
                if (!text) return not_a_value(setting, one);
                setting.values.push_back(std::move(*text));
            }
        } else {
            auto text = text_of(value);
            if (!text) return not_a_value(setting, value);
            setting.values.push_back(std::move(*text));
        }
        return setting;
    }

    [[nodiscard]] Error not_a_value(const Setting& setting, const toml::node& node) const {
        const bool nul = node.is_string();
        return wrong(at(node.source()), nul ? setting.name + " has a NUL in it"
                                            : setting.name + " is a text, a number, true or false, or a list of these");
    }

    static std::optional<std::string> text_of(const toml::node& node) {
        if (const auto* text = node.as_string()) {
            if (text->get().find('\0') != std::string::npos) return std::nullopt;  // no option could have it
            return text->get();
        }
        if (const auto* number = node.as_integer()) return std::to_string(number->get());
        if (const auto* number = node.as_floating_point()) {
            char digits[64];
            const auto end = std::to_chars(digits, digits + sizeof digits, number->get(), std::chars_format::fixed, 3);
            if (end.ec != std::errc()) return std::nullopt;
            return std::string(digits, end.ptr);
        }
        if (const auto* truth = node.as_boolean()) return truth->get() ? "true" : "false";
        return std::nullopt;
    }

    static std::vector<std::string> words_in(std::string_view text) {
        std::vector<std::string> words;
        while (true) {
            text.remove_prefix(std::min(text.find_first_not_of(" \t\n"), text.size()));
            if (text.empty()) return words;
            const std::size_t end = std::min(text.find_first_of(" \t\n"), text.size());
            words.emplace_back(text.substr(0, end));
            text.remove_prefix(end);
        }
    }

    Rules& rules_;
    const std::string& file_;
};

// One that may not be read lies where only another may look, or is that one's.
bool is_anothers(const std::string& file) {
    struct stat info {};
    if (::stat(file.c_str(), &info) != 0) return errno == EACCES;
    return info.st_uid != ::geteuid() && info.st_uid != 0;
}

// No value: there is no such file, or it is another user's.
Result<std::optional<std::string>> read_trusted(const std::string& file, bool named, Rules& rules) {
    const Descriptor open(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!open) {
        if (!named && (errno == ENOENT || errno == ENOTDIR)) return std::optional<std::string>();
        const Error refused = system_error_now("open " + file);
        if (named || errno != EACCES || !is_anothers(file)) return refused;
        rules.passed_over.push_back(file);
        return std::optional<std::string>();
    }
    struct stat info {};
    if (::fstat(open.get(), &info) != 0) return system_error_now("look at " + file);
    if (!S_ISREG(info.st_mode)) {
        if (S_ISCHR(info.st_mode) && file == "/dev/null") return std::optional<std::string>();
        return Error{{}, file + " is no regular file"};
    }
    if (info.st_uid != ::geteuid() && info.st_uid != 0) {
        rules.passed_over.push_back(file);
        return std::optional<std::string>();
    }
    if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0)
        return Error{{}, file + ":1: others may write this file, so it is not obeyed; chmod go-w " + file};
    std::string text;
    char block[2048];  // small: each start of a wrapper has it on its stack, read or not
    while (true) {
        const ssize_t got = ::read(open.get(), block, sizeof block);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return system_error_now("read " + file);
        if (got == 0) break;
        text.append(block, static_cast<std::size_t>(got));
        if (text.size() > file_bytes_max) return Error{{}, file + " is longer than 1 MiB"};
    }
    rules.files.push_back(file);
    return std::optional(std::move(text));
}

Result<> add_file(Rules& rules, const std::string& file, bool named) {
    auto text = read_trusted(file, named, rules);
    if (!text) return text.error();
    return *text ? add_rules(rules, **text, file) : Result<>();
}

}  // namespace

Result<> add_rules(Rules& rules, std::string_view text, const std::string& file) {
    const toml::parse_result parsed = toml::parse(text);
    if (!parsed) {
        const toml::parse_error& error = parsed.error();
        return wrong({file, error.source().begin.line}, std::string(error.description()));
    }
    return Reading(rules, file).read(parsed.table());
}

std::string toml_reader_version() {
    return std::to_string(TOML_LIB_MAJOR) + "." + std::to_string(TOML_LIB_MINOR) + "." + std::to_string(TOML_LIB_PATCH);
}

Result<Rules> read_rules(const RulesPlaces& places) {
    Rules rules;
    if (places.named != nullptr) {
        if (*places.named == '\0') return rules;
        if (auto added = add_file(rules, places.named, true); !added) return added.error();
        return rules;
    }
    if (auto added = add_file(rules, system_file, false); !added) return added.error();
    std::string own;
    if (places.config_home != nullptr && *places.config_home == '/')
        own = places.config_home;
    else if (places.home != nullptr && *places.home == '/')
        own = std::string(places.home) + "/.config";
    else
        return rules;
    if (auto added = add_file(rules, own + "/coalesce/config.toml", false); !added) return added.error();
    return rules;
}

}  // namespace coalesce
