// SPDX-License-Identifier: MIT
#include <coalesce/io/terminal_questions.h>

#include <algorithm>
#include <cstring>
#include <string_view>
#include <utility>

#include <coalesce/command/number.h>

namespace coalesce {
namespace {

constexpr char escape = '\x1b';
constexpr char bell = '\a';
constexpr std::size_t question_bytes_max = 8192;  // with room for the payload of one about graphics

bool is_control(char byte) { return static_cast<unsigned char>(byte) < 0x20 || byte == '\x7f'; }
bool cancels(char byte) { return byte == '\x18' || byte == '\x1a'; }

// A control sequence: ESC [ prefix parameters intermediate final.
struct Control {
    char prefix = '-';  // '-': none
    unsigned first = 0;
    char intermediate = '-';
    char final = 0;
};

// Control characters in it are obeyed by a terminal, and are no part of it.
Control control_in(std::string_view held) {
    Control control{.final = held.back()};
    bool in_first = true;
    for (const char byte : held.substr(1, held.size() - 2)) {
        if (is_control(byte) || byte == '[') continue;
        if (byte >= '<' && byte <= '?')
            control.prefix = byte;
        else if (byte >= ' ' && byte <= '/')
            control.intermediate = byte;
        else if (!is_digit(byte))
            in_first = false;
        else if (in_first)
            control.first = std::min(control.first * 10 + static_cast<unsigned>(byte - '0'), 100'000U);
    }
    return control;
}

// NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): in the order of a sequence's parts; there are few
struct Question {
    char final;
    std::string_view prefixes;
    char intermediate;
    bool (*asks)(unsigned first);
};

constexpr auto always = [](unsigned) { return true; };

constexpr Question questions[] = {
    {'c', "->=", '-', [](unsigned what) { return what == 0; }},               // DA1, DA2, DA3
    {'n', "-", '-', [](unsigned what) { return what == 5 || what == 6; }},    // DSR
    {'n', "?", '-', always},                                                  // DSR of DEC, of the colour scheme
    {'p', "-?", '$', always},                                                 // DECRQM
    {'q', ">", '-', always},                                                  // XTVERSION
    {'u', "?", '-', always},                                                  // kitty's keyboard
    {'u', "-", '$', always},                                                  // DECRQTSR
    {'u', "-", '&', always},                                                  // DECRQUPSS
    {'x', "-", '-', [](unsigned what) { return what <= 1; }},                 // DECREQTPARM
    {'t', "-", '-', [](unsigned what) { return what >= 11 && what <= 21; }},  // XTWINOPS, those that report
    {'S', "?", '-', always},                                                  // XTSMGRAPHICS
    {'m', "?", '-', always},                                                  // XTQMODKEYS
    {'g', "?", '-', always},                                                  // XTQFMTKEYS
    {'y', "-", '*', always},                                                  // DECRQCRA
    {'w', "-", '$', always},                                                  // DECRQPSR
    {'v', "-", '"', always},                                                  // DECRQDE
    {'|', "-", '\'', always},                                                 // DECRQLP
    {'|', "-", '#', always},                                                  // XTREPORTSGR
    {'R', "-", '#', always},                                                  // XTREPORTCOLORS
};

bool asks(const Control& control) {
    return std::any_of(std::begin(questions), std::end(questions), [&control](const Question& question) {
        return question.final == control.final && question.intermediate == control.intermediate &&
               question.prefixes.find(control.prefix) != std::string_view::npos && question.asks(control.first);
    });
}

// Operating system commands that may ask: colours, the pointer, font, clipboard, notifications.
constexpr unsigned asked_with_a_mark[] = {4, 5, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 21, 22, 50, 52, 99};
constexpr unsigned iterm = 1337;
constexpr std::string_view iterm_asks = "Report";

bool may_ask(unsigned command) {
    return command == iterm || std::find(std::begin(asked_with_a_mark), std::end(asked_with_a_mark), command) !=
                                   std::end(asked_with_a_mark);
}

// "a=q" among the keys of a graphics command.
bool asks_about_graphics(std::string_view keys) {
    return ("," + std::string(keys) + ",").find(",a=q,") != std::string::npos;
}

}  // namespace

std::size_t TerminalQuestions::step(std::span<const char> bytes) {
    if (state_ == State::text) {
        const auto* const found = static_cast<const char*>(std::memchr(bytes.data(), escape, bytes.size()));
        const std::size_t before = found == nullptr ? bytes.size() : static_cast<std::size_t>(found - bytes.data());
        ready_ = bytes.first(before);
        if (found == nullptr) return before;
        held_ = escape;
        state_ = State::escape;
        return before + 1;
    }
    let_go_.clear();
    take(bytes.front());
    if (held_.size() > question_bytes_max) let_go();
    ready_ = let_go_;
    return 1;
}

std::string TerminalQuestions::rest() {
    state_ = State::text;
    return std::exchange(held_, {});
}

void TerminalQuestions::take(char byte) {
    if (state_ == State::command || state_ == State::string || state_ == State::asking) return take_in_string(byte);
    if (byte == escape) return begin_anew();
    held_ += byte;
    if (cancels(byte)) return let_go();
    if (is_control(byte)) return;
    if (state_ == State::escape)
        take_in_escape(byte);
    else
        take_in_control(byte);
}

void TerminalQuestions::take_in_escape(char byte) {
    switch (byte) {
        case '[':
            state_ = State::control;
            return;
        case ']':
        case 'P':
        case '_':
            state_ = State::command;
            kind_ = byte;
            ends_ = false;
            command_ = 0;
            field_ = held_.size();
            return;
        case 'Z':  // DECID
            return leave_out();
        default:
            let_go();
    }
}

void TerminalQuestions::take_in_control(char byte) {
    if (byte >= ' ' && byte <= '?') return;
    if (byte >= '@' && byte <= '~' && asks(control_in(held_))) return leave_out();
    let_go();
}

// A string ends with ESC \ (twice ESC where it is handed through tmux), an OSC with BEL, too. Any other escape
// sequence, and what cancels, breaks it off: nobody answers that.
void TerminalQuestions::take_in_string(char byte) {
    const bool at_end = ends_ ? byte == '\\' : byte == bell && kind_ == ']';
    if (byte == escape) {
        held_ += byte;
        ends_ = true;
    } else if (at_end) {
        held_ += byte;
        end_string();
    } else if (ends_) {
        held_.pop_back();
        begin_anew();
        const std::string before = std::exchange(let_go_, {});
        take(byte);
        let_go_.insert(0, before);
    } else {
        held_ += byte;
        if (cancels(byte)) return let_go();
        take_of_string(byte);
    }
}

void TerminalQuestions::take_of_string(char byte) {
    if (state_ == State::command)
        decide_on_command(byte);
    else if (state_ == State::string)
        decide_on_field(byte);
}

void TerminalQuestions::decide_on_command(char byte) {
    const std::string_view so_far = std::string_view(held_).substr(field_);
    if (kind_ == 'P') {  // DECRQSS, XTGETTCAP
        if (so_far == "$q" || so_far == "+q")
            state_ = State::asking;
        else if (so_far != "$" && so_far != "+")
            let_go();
    } else if (kind_ == '_') {
        if (byte != 'G') return let_go();
        state_ = State::string;
        field_ = held_.size();
    } else if (is_digit(byte) && so_far.size() <= 4) {
        command_ = command_ * 10 + static_cast<unsigned>(byte - '0');
    } else if (byte == ';' && so_far.size() > 1 && may_ask(command_)) {
        state_ = State::string;
        field_ = held_.size();
    } else {
        let_go();
    }
}

void TerminalQuestions::decide_on_field(char byte) {
    std::string_view field = std::string_view(held_).substr(field_);
    if (kind_ == ']' && command_ == iterm) {
        if (field == iterm_asks)
            state_ = State::asking;
        else if (!iterm_asks.starts_with(field))
            let_go();
        return;
    }
    if (byte != ';') return;
    field.remove_suffix(1);
    if (kind_ == '_') {
        if (!asks_about_graphics(field)) return let_go();
        state_ = State::asking;
    } else if (field == "?" || field.ends_with("=?")) {
        state_ = State::asking;
    }
    field_ = held_.size();
}

void TerminalQuestions::end_string() {
    if (state_ == State::string) {  // its last field has no mark behind it
        std::string_view field = std::string_view(held_).substr(field_);
        field.remove_suffix(1);
        while (field.ends_with(escape)) field.remove_suffix(1);
        const bool asks = kind_ == '_' ? asks_about_graphics(field) : field == "?" || field.ends_with("=?");
        if (asks) state_ = State::asking;
    }
    if (state_ == State::asking)
        leave_out();
    else
        let_go();
}

void TerminalQuestions::begin_anew() {
    let_go_ = std::exchange(held_, std::string(1, escape));
    state_ = State::escape;
}

void TerminalQuestions::let_go() {
    let_go_ += std::exchange(held_, {});
    state_ = State::text;
}

void TerminalQuestions::leave_out() {
    held_.clear();
    state_ = State::text;
}

}  // namespace coalesce
