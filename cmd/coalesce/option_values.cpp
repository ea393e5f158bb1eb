// SPDX-License-Identifier: MIT
#include "option_values.h"

#include <coalesce/command/duration.h>
#include <coalesce/command/size.h>
#include <coalesce/engine/job_count.h>

#include <algorithm>
#include <fstream>

namespace coalesce {
namespace {

// From /etc/passwd itself: a static program has no name service.
std::optional<uid_t> user_of(const std::string& text) {
    uid_t user = 0;
    if (number(user)("", text)) return user;
    std::ifstream users("/etc/passwd");
    for (std::string line; std::getline(users, line);) {
        const std::size_t end_of_name = line.find(':');
        const std::size_t end_of_password = line.find(':', end_of_name + 1);
        if (end_of_password == std::string::npos || line.compare(0, end_of_name, text) != 0 ||
            end_of_name != text.size())
            continue;
        const std::size_t begin = end_of_password + 1;
        if (number(user)("", line.substr(begin, line.find(':', begin) - begin))) return user;
    }
    return std::nullopt;
}

}  // namespace

CommandLine::Take duration(std::chrono::milliseconds& into) { return parsed(parse_duration, into); }

CommandLine::Take duration(std::optional<std::chrono::milliseconds>& into) { return parsed(parse_duration, into); }

CommandLine::Take time_limit(std::optional<std::chrono::milliseconds>& into) {
    return [take = duration(into), &into](std::string_view name, const std::string& value) -> Result<> {
        auto taken = take(name, value);
        if (into && into->count() == 0) into.reset();
        return taken;
    };
}

CommandLine::Take size(std::uint64_t& into) { return parsed(parse_size, into); }
CommandLine::Take size(std::optional<std::uint64_t>& into) { return parsed(parse_size, into); }

CommandLine::Take choice(std::string& into, const ArgumentText& argument) {
    return [&into, &argument](std::string_view name, const std::string& value) -> Result<> {
        std::string told;
        for (std::string_view rest = argument.choices; !rest.empty();) {
            const std::string_view word = rest.substr(0, rest.find(' '));
            if (value == word) {
                into = value;
                return {};
            }
            rest.remove_prefix(std::min(word.size() + 1, rest.size()));
            told += (told.empty() ? "" : rest.empty() ? " or " : ", ") + std::string(word);
        }
        return wrong_value(name, value, "is not " + told);
    };
}

CommandLine::Take variable_names(std::optional<std::vector<std::string>>& into) {
    return [&into](std::string_view name, const std::string& value) -> Result<> {
        std::vector<std::string> names;
        for (std::string_view rest = value; !rest.empty();) {
            const std::string_view one = rest.substr(0, rest.find(','));
            rest.remove_prefix(std::min(one.size() + 1, rest.size()));
            if (one.find_first_of(" \t\n\r\f\v=") != std::string_view::npos)
                return wrong_value(name, one, "is no variable's name; names are separated by commas");
            if (!one.empty()) names.emplace_back(one);
        }
        into = std::move(names);
        return {};
    };
}

CommandLine::Take each(std::vector<std::string>& into) {
    return [&into](std::string_view, const std::string& value) -> Result<> {
        into.push_back(value);
        return {};
    };
}

CommandLine::Take each_user(std::vector<uid_t>& into) {
    return [&into](std::string_view name, const std::string& value) -> Result<> {
        const auto user = user_of(value);
        if (!user) return wrong_value(name, value, "is no user");
        into.push_back(*user);
        return {};
    };
}

CommandLine::Take jobs(unsigned& into) {
    return parsed([](const std::string& value) { return parse_job_count(value, available_processors()); }, into);
}

}  // namespace coalesce
