// SPDX-License-Identifier: MIT
#include "parse.h"

#include <getopt.h>

#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "usage.h"

namespace coalesce {
namespace {

// A long option returns its place in the table, plus this; a short one its letter.
constexpr int first_long = 1000;

struct GetoptTables {
    explicit GetoptTables(const CommandText& command) {
        for (std::size_t i = 0; i < command.options.size(); ++i) {
            const OptionText& text = command.options[i];
            const int argument = text.argument.empty() ? no_argument : required_argument;
            for (const std::string_view name : names_of(text)) {
                if (name.starts_with("--")) {
                    terminated.emplace_back(name.substr(2));  // getopt wants them so
                    arguments.push_back(argument);
                    long_names.push_back(name);
                } else {
                    short_options += name[1];
                    if (argument == required_argument) short_options += ':';
                    short_names.emplace_back(name[1], names_of(text).back());
                }
            }
        }
        for (std::size_t i = 0; i < terminated.size(); ++i)
            long_options.push_back({terminated[i].c_str(), arguments[i], nullptr, first_long + static_cast<int>(i)});
        long_options.push_back({"help", no_argument, nullptr, 'h'});
        long_options.push_back({nullptr, 0, nullptr, 0});
    }

    std::string_view name_of(int returned) const {
        if (returned >= first_long) return long_names[static_cast<std::size_t>(returned - first_long)];
        for (const auto& [letter, name] : short_names)
            if (letter == returned) return name;
        return {};
    }

    std::vector<std::string_view> long_names;
    std::vector<std::pair<int, std::string_view>> short_names;
    std::vector<std::string> terminated;
    std::vector<int> arguments;
    std::vector<option> long_options;
    std::string short_options = "+:h";  // + : options end at the first word that is none
};

int unknown_option(const CommandText& command, const std::string& word) {
    std::vector<std::string_view> names{"--help"};
    for (const OptionText& option : command.options)
        for (const std::string_view name : names_of(option)) names.push_back(name);
    const std::string bare = word.substr(0, word.find('='));
    const std::string_view near = bare.starts_with("--") ? nearest(bare, names) : std::string_view();
    return misuse(command,
                  "unknown option " + word + (near.empty() ? "" : "; did you mean " + std::string(near) + "?"));
}

}  // namespace

int misuse(const CommandText& command, const std::string& sentence) {
    return fail(sentence + " (see coalesce " + std::string(command.name) + " --help)");
}

std::optional<int> parse(const CommandText& command, int argc, char** argv, const TakeOption& take, int& first) {
    const GetoptTables tables(command);
    opterr = 0;
    while (true) {
        const int word = optind;
        optopt = 0;
        const int found = ::getopt_long(argc, argv, tables.short_options.c_str(), tables.long_options.data(), nullptr);
        first = optind;
        if (found == -1) return std::nullopt;
        if (found == 'h') {
            std::fputs(help_of(command).c_str(), stdout);
            return flush_output();
        }
        const std::string given = argv[word];
        if (found == ':') return misuse(command, "option " + given + " needs an argument");
        if (found == '?') {
            if (optopt >= first_long) return misuse(command, "option " + given + " takes no argument");
            return unknown_option(command, optopt != 0 ? std::string("-") + static_cast<char>(optopt) : given);
        }
        if (auto taken = take(tables.name_of(found), optarg == nullptr ? "" : optarg); !taken)
            return misuse(command, taken.error().message());
    }
}

std::optional<int> refuse_words(const CommandText& command, int argc, char** argv, int first) {
    if (first >= argc) return std::nullopt;
    return misuse(command, std::string("unexpected argument '") + argv[first] + "'");
}

}  // namespace coalesce
