// SPDX-License-Identifier: MIT
// completions SHELL TEMPLATE: fills in the completions of bash, zsh or fish, at build time.
//
// What can be completed comes from the definitions that the program itself reads its
// options by (options.cpp), so the two cannot disagree. What a shell needs besides, to
// walk its own words, is written in its own language: the templates in
// cmd/completions. An "@WORD@" there is replaced by lists of commands or options.

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "argument_texts.h"
#include "options.h"

namespace coalesce {
namespace {

using Kind = ArgumentText::Kind;
using Parts = std::map<std::string, std::string>;  // what stands for which @WORD@

const OptionText version_option{{"--version"}, "", "Print the versions of the program and its libraries.", ""};

const std::vector<CommandText>& all_texts() {
    static const std::vector<CommandText> texts = command_texts();
    return texts;
}

[[noreturn]] void give_up(const std::string& why) {
    std::cerr << "completions: " << why << '\n';
    std::exit(1);
}

const ArgumentText& argument_of(const OptionText& option) {
    for (const ArgumentText& argument : argument_texts)
        if (argument.word == option.argument) return argument;
    give_up("no ArgumentText for " + option.argument);
}

// What comes after a command's options, as its synopsis says.
enum class Operands { none, command, flights };

Operands operands_of(const CommandText& command) {
    if (command.synopsis.find(" COMMAND") != std::string::npos) return Operands::command;
    if (command.synopsis.find(" ID") != std::string::npos) return Operands::flights;
    return Operands::none;
}

std::string with_replaced(std::string_view text, std::string_view what, std::string_view by) {
    std::string out;
    while (true) {
        const std::size_t at = text.find(what);
        out += text.substr(0, at);
        if (at == std::string_view::npos) return out;
        out += by;
        text.remove_prefix(at + what.size());
    }
}

// In single quotes, for bash and zsh.
std::string single_quoted(std::string_view text) { return "'" + with_replaced(text, "'", "'\\''") + "'"; }

std::string fish_quoted(std::string_view text) {
    return "'" + with_replaced(with_replaced(text, "\\", "\\\\"), "'", "\\'") + "'";
}

std::string without_full_stop(std::string_view sentence) {
    return std::string(sentence.ends_with('.') ? sentence.substr(0, sentence.size() - 1) : sentence);
}

std::string joined(const std::vector<std::string>& names, std::string_view between) {
    std::string out;
    for (const std::string& name : names) out += (out.empty() ? "" : std::string(between)) + name;
    return out;
}

std::vector<std::string> all_commands() {
    std::vector<std::string> names;
    for (const CommandText& command : all_texts()) names.push_back(command.name);
    return names;
}

std::vector<std::string> commands_on(Operands operands) {
    std::vector<std::string> names;
    for (const CommandText& command : all_texts())
        if (operands_of(command) == operands) names.push_back(command.name);
    return names;
}

std::string bash_kind(const ArgumentText& argument) {
    switch (argument.kind) {
        case Kind::anything:
            return "anything";
        case Kind::file:
            return "file";
        case Kind::directory:
            return "directory";
        case Kind::variable:
            return "variable";
        case Kind::variables:
            return "variables";
        case Kind::user:
            return "user";
        case Kind::choice:
            return "choice:" + with_replaced(argument.choices, " ", "\n");
    }
    std::abort();
}

Parts bash() {
    std::string options;
    std::string arguments;
    for (const CommandText& command : all_texts()) {
        std::string names = joined(command.help.names, " ");
        for (const OptionText& option : command.options) {
            names += " " + joined(option.names, " ");
            if (option.argument.empty()) continue;
            std::string patterns;
            for (const std::string& name : option.names)
                patterns += (patterns.empty() ? "" : " | ") + command.name + name;
            arguments +=
                "        " + patterns + ") printf %s " + single_quoted(bash_kind(argument_of(option))) + " ;;\n";
        }
        options += "        " + command.name + ") printf '%s\\n' " + names + " ;;\n";
    }
    return {{"COMMANDS", joined(all_commands(), " ")},
            {"COMMANDS_ON_A_COMMAND", joined(commands_on(Operands::command), "|")},
            {"COMMANDS_ON_FLIGHTS", joined(commands_on(Operands::flights), "|")},
            {"OPTIONS\n", options},
            {"ARGUMENTS\n", arguments}};
}

std::string zsh_action(const ArgumentText& argument) {
    switch (argument.kind) {
        case Kind::anything:
            return " ";
        case Kind::file:
            return "_files";
        case Kind::directory:
            return "_files -/";
        case Kind::variable:
            return "_parameters -g \"*export*\"";
        case Kind::variables:
            return "_sequence _parameters -g \"*export*\"";
        case Kind::user:
            return "_users";
        case Kind::choice:
            return "(" + std::string(argument.choices) + ")";
    }
    std::abort();
}

// As _arguments takes it: '(-j --jobs)'{-j+,--jobs=}'[Run N at a time]:N: '
std::string zsh_option(const OptionText& option, const std::string& excludes) {
    const auto& names = option.names;
    std::string forms;
    for (const std::string& name : names) {
        forms += (forms.empty() ? "" : ",") + name;
        if (!option.argument.empty()) forms += name.starts_with("--") ? "=" : "+";
    }
    if (names.size() > 1) forms = "{" + forms + "}";
    const std::string brief = with_replaced(with_replaced(without_full_stop(option.brief), "[", "\\["), "]", "\\]");
    std::string rest = "[" + brief + "]";
    if (!option.argument.empty()) rest += ":" + option.argument + ":" + zsh_action(argument_of(option));
    return (excludes.empty() ? "" : single_quoted(excludes)) + forms + single_quoted(rest);
}

std::string zsh_option(const OptionText& option) {
    if (option.may_be_repeated) return zsh_option(option, "*");
    const auto& names = option.names;
    return zsh_option(option, names.size() > 1 ? "(" + joined(names, " ") + ")" : "");
}

Parts zsh() {
    std::string functions;
    std::string commands;
    for (const CommandText& command : all_texts()) {
        functions += "_coalesce-" + command.name + "() {\n    _arguments -s -S -A '-*' \"$@\" \\\n";
        for (const OptionText& option : command.options) functions += "        " + zsh_option(option) + " \\\n";
        if (operands_of(command) == Operands::command)
            functions += "        '(-)1:command: _command_names -e' \\\n        '*::argument: _normal' \\\n";
        if (operands_of(command) == Operands::flights) functions += "        '*:flight: _coalesce_flights' \\\n";
        functions += "        " + zsh_option(command.help, "(- *)") + "\n}\n\n";
        commands += "        " + single_quoted(command.name + ":" + without_full_stop(command.brief)) + "\n";
    }
    return {{"FUNCTIONS\n", functions},
            {"DESCRIBED_COMMANDS\n", commands},
            {"VERSION_OPTION", zsh_option(version_option, "(- *)")}};
}

// What is offered for an option's argument.
std::string fish_argument(const ArgumentText& argument) {
    switch (argument.kind) {
        case Kind::anything:
            return " -x";
        case Kind::file:
            return " -r -F";
        case Kind::directory:
            return " -x -a '(__fish_complete_directories)'";
        case Kind::variable:
            return " -x -a '(set -nx)'";
        case Kind::variables:
            return " -x -a '(__fish_complete_list , \"set -nx\")'";
        case Kind::user:
            return " -x -a '(__fish_complete_users)'";
        case Kind::choice:
            return " -x -a " + fish_quoted(argument.choices);
    }
    std::abort();
}

std::string fish_option(const std::string& condition, const OptionText& option) {
    std::string line = "complete -c coalesce -n " + fish_quoted(condition);
    for (const std::string& name : option.names)
        line += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
    if (!option.argument.empty()) line += fish_argument(argument_of(option));
    return line + " -d " + fish_quoted(without_full_stop(option.brief)) + "\n";
}

Parts fish() {
    std::string commands;
    std::string options = fish_option("__coalesce_no_command", version_option);
    std::string arguments;
    for (const CommandText& command : all_texts()) {
        const std::string& name = command.name;
        commands += "complete -c coalesce -n __coalesce_no_command -a " + name + " -d " +
                    fish_quoted(without_full_stop(command.brief)) + "\n";
        std::string with_argument;
        for (const OptionText& option : command.options) {
            options += fish_option("__coalesce_takes_options " + name, option);
            if (!option.argument.empty()) with_argument += " " + joined(option.names, " ");
        }
        options += fish_option("__coalesce_takes_options " + name, command.help);
        if (with_argument.empty()) continue;
        arguments += "        case " + name + "\n            printf '%s\\n'";
        arguments += with_argument + "\n";
    }
    return {{"COMMANDS", joined(all_commands(), " ")},
            {"COMMANDS_ON_A_COMMAND", joined(commands_on(Operands::command), " ")},
            {"COMMANDS_ON_FLIGHTS", joined(commands_on(Operands::flights), " ")},
            {"DESCRIBED_COMMANDS\n", commands},
            {"OPTIONS\n", options},
            {"ARGUMENTS\n", arguments}};
}

std::string filled_in(std::string text, const Parts& parts) {
    for (const auto& [word, stands_for] : parts) {
        const bool whole_lines = word.ends_with('\n');
        const std::string mark = whole_lines ? "@" + word.substr(0, word.size() - 1) + "@\n" : "@" + word + "@";
        if (text.find(mark) == std::string::npos) give_up("the template has no " + mark);
        text = with_replaced(text, mark, stands_for);
    }
    return text;
}

}  // namespace
}  // namespace coalesce

int main(int argc, char** argv) {
    using namespace coalesce;
    if (argc != 3) give_up("usage: completions bash|zsh|fish TEMPLATE");
    std::ifstream file(argv[2], std::ios::binary);
    if (!file) give_up(std::string("cannot read ") + argv[2]);
    const std::string text(std::istreambuf_iterator<char>(file), {});
    const std::string_view shell = argv[1];
    if (shell != "bash" && shell != "zsh" && shell != "fish") give_up("no such shell: " + std::string(shell));
    std::cout << filled_in(text, shell == "bash" ? bash() : shell == "zsh" ? zsh() : fish());
    return std::cout.flush() ? 0 : 1;
}
