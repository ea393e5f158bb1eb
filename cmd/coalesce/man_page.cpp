// SPDX-License-Identifier: MIT
// man_page TEMPLATE: fills in the manual, in mdoc, at build time.
//
// What the program also knows comes from the definitions it uses itself: synopses and
// options (options.cpp), the variables that are no part of a key (key.h). So --help,
// behaviour and manual cannot disagree. A line of the template that is just
// "@WORD@" is replaced; everything else is prose and stays as it is.

#include <coalesce/command/key.h>

#include <cctype>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "options.h"

namespace coalesce {
namespace {

[[noreturn]] void give_up(const std::string& why) {
    std::cerr << "man_page: " << why << '\n';
    std::exit(1);
}

std::vector<std::string> split(std::string_view text, char separator) {
    std::vector<std::string> parts;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find(separator), text.size());
        if (end > 0) parts.emplace_back(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
    }
    return parts;
}

// A word as roff takes it: no escapes, hyphens that can be pasted, plain dots.
std::string escaped(std::string_view word) {
    std::string out;
    for (std::size_t i = 0; i < word.size(); ++i) {
        if (word[i] == '\\')
            out += "\\e";
        else if (word[i] == '-' && (i == 0 || word[i - 1] == '-'))
            out += "\\-";
        else if (word.substr(i).starts_with("…"))
            out += "...", i += std::string_view("…").size() - 1;
        else
            out += word[i];
    }
    return out;
}

// Prose: a sentence begins a line, lines are short, and the option's argument is
// set as one where the text names it.
class Prose {
  public:
    explicit Prose(std::string_view argument) : argument_(argument) {}

    void add(std::string_view text) {
        for (const std::string& word : split(text, ' ')) {
            const std::size_t end = word.find_last_not_of(".,:;");
            const std::string_view bare = std::string_view(word).substr(0, end + 1);
            if (!argument_.empty() && bare == argument_)
                macro(bare, std::string_view(word).substr(bare.size()));
            else
                plain(escaped(word));
            if (word.ends_with('.')) flush();
        }
        flush();
    }

    std::string take() { return std::move(text_); }

  private:
    static constexpr std::size_t columns = 76;

    void plain(const std::string& word) {
        if (line_.size() + 1 + word.size() > columns) flush();
        if (line_.empty() && (word.front() == '.' || word.front() == '\''))
            line_ = "\\&";
        else if (!line_.empty())
            line_ += ' ';
        line_ += word;
    }
    void macro(std::string_view word, std::string_view punctuation) {
        flush();
        line_ = ".Ar " + std::string(word);
        for (const char mark : punctuation) line_ += std::string(" ") + mark;
        flush();
    }
    void flush() {
        if (!line_.empty()) text_ += line_ + '\n';
        line_.clear();
    }

    const std::string_view argument_;
    std::string line_;
    std::string text_;
};

std::string option_macro(std::string_view name) { return "Fl " + std::string(name.substr(1)); }

std::string names_as_macros(const OptionText& option) {
    std::string names;
    for (const std::string& name : option.names) names += (names.empty() ? "" : " , ") + option_macro(name);
    return names;
}

bool same(const OptionText& a, const OptionText& b) {
    return a.names == b.names && a.argument == b.argument && a.brief == b.brief && a.more == b.more;
}

const std::vector<CommandText>& all_commands() {
    static const std::vector<CommandText> texts = command_texts();
    return texts;
}

// The command before this one that has the very same option.
const CommandText* told_before(const CommandText& command, const OptionText& option) {
    for (const CommandText& earlier : all_commands()) {
        if (&earlier == &command) return nullptr;
        for (const OptionText& other : earlier.options)
            if (same(option, other)) return &earlier;
    }
    return nullptr;
}

std::string entry(const OptionText& option) {
    std::string out = ".It " + names_as_macros(option);
    if (!option.argument.empty()) out += " Ar " + option.argument;
    Prose prose(option.argument);
    prose.add(option.brief);
    prose.add(option.more);
    return out + '\n' + prose.take();
}

// What an earlier command has too is only named.
std::string described_options(const CommandText& command) {
    if (command.options.empty()) return {};
    std::string entries;
    std::map<const CommandText*, std::string> elsewhere;
    for (const OptionText& option : command.options) {
        if (const CommandText* earlier = told_before(command, option))
            elsewhere[earlier] += "." + names_as_macros(option) + " ,\n";
        else
            entries += entry(option);
    }
    std::string out = ".Ss coalesce " + command.name + '\n';
    if (!entries.empty()) out += ".Bl -tag -width Ds\n" + entries + ".El\n";
    for (const CommandText& earlier : all_commands()) {
        std::string& names = elsewhere[&earlier];
        if (names.empty()) continue;
        names.resize(names.size() - std::string_view(" ,\n").size());
        if (!entries.empty()) out += ".Pp\n";
        out += "As for\n.Cm " + earlier.name + " :\n" + names + " .\n";
    }
    return out;
}

// "coalesce run [OPTION…] [--] COMMAND" → .Nm, .Cm run, .Op Ar OPTION ..., .Op Fl Fl, .Ar COMMAND
std::string synopsis_of(const CommandText& command) {
    std::string out;
    for (std::string word : split(command.synopsis, ' ')) {
        if (word == "coalesce") {
            out += ".Nm\n";
            continue;
        }
        std::string line = ".";
        if (word.front() == '[' && word.back() == ']') {
            line += "Op ";
            word = word.substr(1, word.size() - 2);
        }
        const bool repeats = word.ends_with("…");
        if (repeats) word.resize(word.size() - std::string_view("…").size());
        if (word == "--")
            line += "Fl Fl";
        else if (word == "<")
            line = "<";
        else if (std::isupper(static_cast<unsigned char>(word.front())) != 0)
            line += "Ar " + word;
        else
            line += "Cm " + word;
        out += line + (repeats ? " ...\n" : "\n");
    }
    return out;
}

// Neighbours that share a reason share an entry.
std::string ignored_variables() {
    std::string out = ".Bl -tag -width Ds -compact\n";
    std::string_view reason;
    for (const IgnoredVariable& variable : default_ignored_env()) {
        if (variable.reason == reason) {
            out += " , Ev " + escaped(variable.pattern);
            continue;
        }
        if (!reason.empty()) out += '\n' + escaped(reason) + '\n';
        out += ".It Ev " + escaped(variable.pattern);
        reason = variable.reason;
    }
    return out + '\n' + escaped(reason) + "\n.El\n";
}

void fill_in(std::istream& manual) {
    std::string line;
    while (std::getline(manual, line)) {
        if (line == "@SYNOPSES@")
            for (const CommandText& command : all_commands()) std::cout << synopsis_of(command);
        else if (line == "@OPTIONS@")
            for (const CommandText& command : all_commands()) std::cout << described_options(command);
        else if (line == "@IGNORED_VARIABLES@")
            std::cout << ignored_variables();
        else if (line.starts_with('@'))
            give_up("the template has an unknown line: " + line);
        else
            std::cout << line << '\n';
    }
}

}  // namespace
}  // namespace coalesce

int main(int argc, char** argv) {
    if (argc != 2) coalesce::give_up("usage: man_page TEMPLATE");
    std::ifstream manual(argv[1]);
    if (!manual) coalesce::give_up(std::string("cannot read ") + argv[1]);
    coalesce::fill_in(manual);
    return std::cout.flush() ? 0 : 1;
}
