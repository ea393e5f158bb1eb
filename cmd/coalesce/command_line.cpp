// SPDX-License-Identifier: MIT
#include "command_line.h"

#include <CLI/CLI.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <utility>

#include "complain.h"
#include "usage.h"

namespace coalesce {
namespace {

// What CLI11 would misread is marked for as long as CLI11 has it, by a byte that no argument
// can contain; a word may be marked whoever's it is, for all are unmarked. At the end of
// --name=value: an empty value is one after all (2.1 would take the next word), and a
// switch's is none that a switch has ("true"). Before the second hyphen of -v-fresh: that
// is an option "-", which nobody has, and not --fresh.
constexpr char mark = '\0';

std::string marked(std::string word) {
    if (word.starts_with("--")) {
        if (word.find('=') != std::string::npos) word += mark;
    } else if (word.starts_with('-')) {
        if (const std::size_t hyphen = word.find('-', 2); hyphen != std::string::npos) word.insert(hyphen, 1, mark);
    }
    return word;
}

std::string unmarked(std::string word) {
    std::erase(word, mark);
    return word;
}

std::vector<std::string> names_of(const CLI::Option& option) {
    std::vector<std::string> names;
    for (const std::string& name : option.get_snames()) names.push_back("-" + name);
    for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
    return names;
}

// Before the newline, and after it.
std::pair<std::string, std::string> parted(const std::string& text) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    return {text.substr(0, end), text.substr(std::min(end + 1, text.size()))};
}

OptionText text_of(const CLI::Option& option) {
    const auto [brief, more] = parted(option.get_description());
    OptionText text{names_of(option), option.get_type_name(), brief, more,
                    option.get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll};
    const auto add = [&text](const std::string& sentence) { text.more += (text.more.empty() ? "" : " ") + sentence; };
    if (text.may_be_repeated) add("May be repeated.");
    if (!option.get_envname().empty()) add("Without it the variable " + option.get_envname() + " counts.");
    return text;
}

// Calls `call` with each of "-k,--keep-order", "--bar,--no-bar{no}", without its dashes and what it stands for.
template <class Call>
void for_each_name(std::string_view names, Call call) {
    while (!names.empty()) {
        const std::string_view name = names.substr(0, names.find(','));
        names.remove_prefix(std::min(name.size() + 1, names.size()));
        call(name.substr(name.starts_with("--") ? 2 : 1, name.find('{') - (name.starts_with("--") ? 2 : 1)));
    }
}

// Whether the word may give an option of these names: rather once too often, for CLI11 reads it.
bool may_name(std::string_view word, std::string_view names) {
    if (!word.starts_with('-')) return false;
    bool may = false;
    for_each_name(names, [&](std::string_view name) {
        if (!word.starts_with("--"))
            may = may || (name.size() == 1 && word.find(name.front()) != std::string_view::npos);
        else
            may = may || word.substr(2, word.find('=') - 2) == name;
    });
    return may;
}

// What a switch has as its value when it is given without one.
constexpr std::string_view given_alone = "true";
constexpr std::string_view off = "no";  // of "--no-progress{no}"

}  // namespace

CommandLine::CommandLine(Words words) : app_(std::make_unique<CLI::App>()), words_(words) {
    app_->set_help_flag("-h,--help", words == Words::told ? "Print a summary." : "");
    app_->prefix_command();  // options end at the first word that is none
    app_->allow_windows_style_options(false);
}

CommandLine::~CommandLine() = default;

void CommandLine::is(const char* name, const char* synopsis, const char* brief, const char* examples) {
    app_->name(name);
    if (words_ == Words::left_out) return;
    app_->description(std::string(synopsis) + "\n" + brief);
    app_->footer(examples);
}

void CommandLine::define(Defined defined, const char* argument, const char* words) {
    defined_.push_back(std::move(defined));
    if (words_ == Words::left_out) return;
    make_option(defined_.back());
    defined_.back().option->description(words);
    if (*argument != '\0') defined_.back().option->type_name(argument);
}

void CommandLine::flag(const char* names, std::function<void(bool on)> take, const char* words) {
    define({.kind = Kind::flag, .names = names, .variable = nullptr, .take_switch = std::move(take), .take = {}}, "",
           words);
}

void CommandLine::flag(const char* names, bool& into, const char* words) {
    flag(
        names, [&into](bool value) { into = value; }, words);
}

void CommandLine::option(const char* names, const char* argument, Take take, const char* words, const char* variable) {
    define({.kind = Kind::option, .names = names, .variable = variable, .take_switch = {}, .take = std::move(take)},
           argument, words);
}

void CommandLine::list(const char* names, const char* argument, Take take, const char* words) {
    define({.kind = Kind::list, .names = names, .variable = nullptr, .take_switch = {}, .take = std::move(take)},
           argument, words);
}

void CommandLine::make_option(Defined& defined) {
    if (defined.option != nullptr) return;
    if (defined.kind == Kind::flag) {
        defined.option = app_->add_flag(defined.names);
        return;
    }
    defined.option = app_->add_option(defined.names, CLI::callback_t());
    defined.option->multi_option_policy(defined.kind == Kind::list ? CLI::MultiOptionPolicy::TakeAll
                                                                   : CLI::MultiOptionPolicy::TakeLast);
    if (defined.variable != nullptr) defined.option->envname(defined.variable);
}

void CommandLine::make_every_option() {
    for (Defined& defined : defined_) make_option(defined);
}

void CommandLine::make_options_typed() {
    // An option has at most one word after it, so two that are none begin the command.
    std::size_t end = 0;
    for (bool after_option = false; end < typed_.size(); ++end) {
        const bool is_option = typed_[end].starts_with('-');
        if (!after_option && (!is_option || typed_[end] == "--")) break;
        after_option = is_option;
    }
    for (Defined& defined : defined_) {
        const bool typed = std::any_of(typed_.begin(), typed_.begin() + static_cast<std::ptrdiff_t>(end),
                                       [&](const std::string& word) { return may_name(word, defined.names); });
        defined.typed = typed;
        if (typed || (defined.variable != nullptr && std::getenv(defined.variable) != nullptr)) make_option(defined);
    }
}

void CommandLine::operation(std::string& into) { operation_ = &into; }
void CommandLine::operands(std::vector<std::string>& into) { operands_ = &into; }

CommandLine::Read CommandLine::read(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) typed_.push_back(marked(argv[i]));
    std::vector<std::string> rest;
    if (const Read end = parse_typed(rest); end != Read::done) return end;
    if (operation_ != nullptr && !rest.empty() && !rest.front().empty() && rest.front() != "--") {
        *operation_ = unmarked(rest.front());
        typed_.erase(typed_.end() - static_cast<std::ptrdiff_t>(rest.size()));
        if (const Read end = parse_typed(rest); end != Read::done) return end;
    }
    if (!rest.empty() && rest.front() == "--") rest.erase(rest.begin());
    for (std::string& word : rest) word = unmarked(std::move(word));
    if (operands_ == nullptr && !rest.empty()) return refuse("unexpected argument '" + rest.front() + "'");
    for (const Defined& defined : defined_)
        if (take_given(defined) == Read::refused) return Read::refused;
    if (operands_ != nullptr) *operands_ = std::move(rest);
    return Read::done;
}

// `rest` are the words behind the options, with the `--` that may end these.
CommandLine::Read CommandLine::parse_typed(std::vector<std::string>& rest) {
    make_options_typed();
    bool help_wanted = false;
    bool value_missing = false;
    try {
        app_->parse(std::vector<std::string>(typed_.rbegin(), typed_.rend()));  // as CLI11 takes them
    } catch (const CLI::CallForHelp&) {
        help_wanted = true;
    } catch (const CLI::ArgumentMismatch&) {
        value_missing = true;
    }
    // An unknown option is left over as a command is, and what follows it too.
    rest = app_->remaining();
    if (!rest.empty() && rest.front() != "--" && rest.front().starts_with('-') && rest.front() != "-")
        return refuse_unknown(std::move(rest.front()));
    if (value_missing) return refuse("option " + unmarked(typed_.back()) + " needs an argument");
    if (help_wanted) {
        const CLI::Option& help = *app_->get_help_ptr();
        return help.results().back() == given_alone ? Read::help_wanted : refuse_value_of_switch(help);
    }
    return Read::done;
}

// By what was given, rather than by CLI11's callbacks: 2.4 reads "{}" as an empty list there.
CommandLine::Read CommandLine::take_given(const Defined& defined) const {
    if (defined.option == nullptr) return Read::done;
    const CLI::Option& option = *defined.option;
    const std::vector<std::string>& given = option.results();
    if (given.empty()) return Read::done;
    if (defined.take_switch) {
        for (const std::string& value : given)
            if (value != given_alone && value != off) return refuse_value_of_switch(option);
        defined.take_switch(given.back() == given_alone);
        return Read::done;
    }
    const std::string culprit = defined.typed || defined.variable == nullptr ? option.get_name() : defined.variable;
    for (auto value = defined.kind == Kind::list ? given.begin() : given.end() - 1; value != given.end(); ++value)
        if (auto taken = defined.take(culprit, unmarked(*value)); !taken) return refuse(taken.error().message());
    return Read::done;
}

CommandLine::Read CommandLine::refuse(const std::string& sentence) const {
    misuse(app_->get_name(), sentence);
    return Read::refused;
}

CommandLine::Read CommandLine::refuse_unknown(std::string word) {
    make_every_option();
    std::vector<std::string> names;
    for (const CLI::Option* option : std::as_const(*app_).get_options())
        for (std::string& name : names_of(*option)) names.push_back(std::move(name));
    if (word[1] == mark)  // what is left of -v-fresh, which is told whole
        word = *std::find_if(typed_.begin(), typed_.end(), [end = word.substr(1)](const std::string& one) {
            return one.starts_with('-') && one.ends_with(end);
        });
    word = unmarked(std::move(word));
    const std::string bare = word.substr(0, word.find('='));
    const std::string near = bare.starts_with("--") && bare.size() > 2 ? nearest(bare, names) : std::string();
    return refuse("unknown option " + word + (near.empty() ? "" : "; did you mean " + near + "?"));
}

CommandLine::Read CommandLine::refuse_value_of_switch(const CLI::Option& option) const {
    const std::vector<std::string> names = names_of(option);
    for (const std::string& word : typed_)  // the culprit has both a name and a value of this option
        if (std::find(names.begin(), names.end(), word.substr(0, word.find('='))) != names.end() &&
            word.ends_with(mark))
            return refuse("option " + unmarked(word) + " takes no argument");
    return refuse("option " + names.back() + " takes no argument");
}

const CommandLine::Defined* CommandLine::find(std::string_view name) const {
    for (const Defined& defined : defined_) {
        bool found = false;
        for_each_name(defined.names, [&](std::string_view one) { found = found || (one.size() > 1 && one == name); });
        if (found) return &defined;
    }
    return nullptr;
}

bool CommandLine::has(std::string_view name) const { return find(name) != nullptr; }

bool CommandLine::may_be_repeated(std::string_view name) const {
    const Defined* const defined = find(name);
    return defined != nullptr && defined->kind == Kind::list;
}

bool CommandLine::given(std::string_view name) const {
    const Defined* const defined = find(name);
    return defined != nullptr && defined->option != nullptr && !defined->option->results().empty();
}

Result<> CommandLine::supply(std::string_view name, const std::vector<std::string>& values, std::string_view origin) {
    const Defined* const defined = find(name);
    if (defined == nullptr) return {};
    const auto wrong = [&](const std::string& sentence) { return Error{{}, std::string(origin) + ": " + sentence}; };
    const bool all = defined->kind == Kind::list;
    if (!all && given(name)) return {};
    if (!all && values.size() != 1) return wrong(std::string(name) + " has one value");
    for (const std::string& value : values) {
        if (defined->take_switch) {
            if (value != "true" && value != "false")
                return wrong(std::string(name) + ": '" + value + "' is not true or false");
            defined->take_switch(value == "true");
        } else if (auto taken = defined->take(name, value); !taken) {
            return wrong(taken.error().message());
        }
    }
    return {};
}

CommandText CommandLine::text() const {
    const auto [synopsis, brief] = parted(app_->get_description());
    CommandText text{app_->get_name(), synopsis, brief, app_->get_footer(), {}, text_of(*app_->get_help_ptr())};
    for (const Defined& defined : defined_) text.options.push_back(text_of(*defined.option));
    return text;
}

}  // namespace coalesce
