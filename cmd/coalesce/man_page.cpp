// man_page TEMPLATE: fills in the manual, in mdoc, at build time.
//
// What the program also knows comes from the tables it uses itself: synopses and
// options (options.h), the variables that are no part of a key (key.h). So --help,
// behaviour and manual cannot disagree. A line of the template that is just
// "@WORD ARGUMENT@" is replaced; everything else is prose and stays as it is. A
// subcommand that the template forgets is an error.

#include <coalesce/command/key.h>

#include <cctype>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "options.h"
#include "usage.h"

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

bool ends_sentence(std::string_view word) { return word.ends_with('.') || word.ends_with('?'); }

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
            if (ends_sentence(word)) flush();
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

std::string options_of(const CommandText& command) {
    std::string out = ".Bl -tag -width Ds\n";
    std::vector<OptionText> options(command.options.begin(), command.options.end());
    options.push_back({"-h,--help", "", "Print a summary and exit."});
    for (const OptionText& option : options) {
        std::string names;
        for (const std::string_view name : names_of(option)) names += (names.empty() ? ".It " : " , ") + option_macro(name);
        if (!option.argument.empty()) names += " Ar " + std::string(option.argument);
        Prose prose(option.argument);
        prose.add(option.brief);
        prose.add(option.more);
        out += names + '\n' + prose.take();
    }
    return out + ".El\n";
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

std::string ignored_variables() {
    std::string out = ".Bl -tag -width Ds -compact\n";
    std::string_view reason;
    const auto variables = default_ignored_env();
    for (std::size_t i = 0; i < variables.size(); ++i) {
        const bool same = i > 0 && variables[i].reason == reason;
        out += (same ? ".It Ev " : ".It Ev ") + std::string(variables[i].pattern) + '\n';
        reason = variables[i].reason;
        const bool next_same = i + 1 < variables.size() && variables[i + 1].reason == reason;
        if (!next_same) out += escaped(reason) + '\n';
    }
    return out + ".El\n";
}

const CommandText& command_named(std::string_view name) {
    for (const CommandText* command : command_texts)
        if (command->name == name) return *command;
    give_up("the template names a command that is not there: " + std::string(name));
}

void fill_in(std::istream& manual) {
    std::set<std::string> described;
    std::string line;
    while (std::getline(manual, line)) {
        if (!line.starts_with('@') || !line.ends_with('@')) {
            std::cout << line << '\n';
            continue;
        }
        const auto words = split(std::string_view(line).substr(1, line.size() - 2), ' ');
        if (words.size() == 2 && words[0] == "SYNOPSIS") {
            std::cout << synopsis_of(command_named(words[1]));
        } else if (words.size() == 2 && words[0] == "OPTIONS") {
            described.insert(words[1]);
            std::cout << options_of(command_named(words[1]));
        } else if (words.size() == 1 && words[0] == "IGNORED_VARIABLES") {
            std::cout << ignored_variables();
        } else {
            give_up("the template has an unknown line: " + line);
        }
    }
    for (const CommandText* command : command_texts)
        if (!described.contains(std::string(command->name)))
            give_up("the template says nothing about " + std::string(command->name));
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
