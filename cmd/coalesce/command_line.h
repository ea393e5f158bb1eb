// SPDX-License-Identifier: MIT
// A subcommand's command line: a CLI::App that reads it, and the words that its options
// are told by.
//
// A definition (options.cpp) fills one in. Its words then stand in CLI11's options, and
// help, manual, completions and suggestions come from walking those. What CLI11 has to be
// told so that a command line reads as getopt_long(3) would read it is told here, once;
// so is what it may not do: no files, no groups, no process ended.
//
// CLI11 takes some microseconds for an option, more with each that it has: to read a command
// line it is given those whose names are in it, or whose variable is set.
//
// CLI11's own headers bring iostreams and some ten static objects to each source that
// includes them, so one does: command_line.cpp.
#pragma once

#include <coalesce/command/result.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace coalesce {

/// An option as a user is told of it.
struct OptionText {
    std::vector<std::string> names;  ///< "-j", "--jobs"
    std::string argument;            ///< "N"; empty for a switch
    std::string brief;               ///< one line of --help, and the first sentence in the manual
    std::string more;                ///< what the manual says beyond that
    bool may_be_repeated = false;
};

/// A subcommand as a user is told of it.
struct CommandText {
    std::string name;
    std::string synopsis;
    std::string brief;
    std::string examples;  ///< lines of --help
    std::vector<OptionText> options;
    OptionText help;  ///< -h, --help
};

class CommandLine {
  public:
    /// What is done with an option's value. A refusal names the option and what was wrong.
    using Take = std::function<Result<>(std::string_view name, const std::string& value)>;

    /// Words are told when somebody asks for them; to read a command line none are made.
    enum class Words { left_out, told };
    explicit CommandLine(Words words);
    ~CommandLine();
    CommandLine(const CommandLine&) = delete;
    CommandLine& operator=(const CommandLine&) = delete;

    /// The subcommand's own words.
    void is(const char* name, const char* synopsis, const char* brief, const char* examples);

    /// A switch: "-k,--keep-order". With "--bar,--no-bar{no}" the second turns it off.
    /// `words` is the brief line, and after a newline what the manual says beyond it.
    /// Names are literals, here and below.
    void flag(const char* names, std::function<void(bool on)> take, const char* words);
    void flag(const char* names, bool& into, const char* words);

    /// An option with an argument. Given twice the last holds; `variable`, if there is
    /// one, is its value in the environment, used when the option is not given.
    void option(const char* names, const char* argument, Take take, const char* words, const char* variable = nullptr);

    /// One that may be repeated: each value is taken.
    void list(const char* names, const char* argument, Take take, const char* words);

    /// Takes the first word that is none of the options, unless it comes after `--`. Options go on behind it.
    void operation(std::string& into);

    /// Takes the words after the options, which are refused otherwise.
    void operands(std::vector<std::string>& into);

    /// Reads options up to the first word that is none. A mistake has been explained.
    enum class Read { done, help_wanted, refused };
    [[nodiscard]] Read read(int argc, char** argv);

    /// After read(): takes values from elsewhere for the option of that name (without dashes), unless it was given
    /// or has its variable; of one that may be repeated they add to what was given. `origin` is where they were
    /// written, and begins the error. Nothing is done where there is no such option.
    [[nodiscard]] Result<> supply(std::string_view name, const std::vector<std::string>& values,
                                  std::string_view origin);

    /// Whether an option of that name is there, and whether it may be repeated.
    [[nodiscard]] bool has(std::string_view name) const;
    [[nodiscard]] bool may_be_repeated(std::string_view name) const;
    /// Whether it was typed, or is in its variable; nothing that was supplied counts.
    [[nodiscard]] bool given(std::string_view name) const;

    /// The words, from CLI11's options.
    [[nodiscard]] CommandText text() const;

  private:
    enum class Kind { flag, option, list };
    struct Defined {
        Kind kind;
        const char* names;
        const char* variable;  // or null
        std::function<void(bool)> take_switch;
        Take take;
        CLI::Option* option = nullptr;  // for as long as nobody needs CLI11 to have it
        bool typed = false;             // else it may come from its variable
    };
    void define(Defined defined, const char* argument, const char* words);
    void make_option(Defined& defined);
    void make_options_typed();
    [[nodiscard]] Read parse_typed(std::vector<std::string>& rest);
    void make_every_option();
    [[nodiscard]] const Defined* find(std::string_view name) const;
    Read take_given(const Defined& defined) const;
    Read refuse(const std::string& sentence) const;
    Read refuse_unknown(std::string word);
    Read refuse_value_of_switch(const CLI::Option& option) const;

    std::unique_ptr<CLI::App> app_;
    const Words words_;
    std::vector<Defined> defined_;
    std::string* operation_ = nullptr;
    std::vector<std::string>* operands_ = nullptr;
    std::vector<std::string> typed_;  // the words, marked
};

}  // namespace coalesce
