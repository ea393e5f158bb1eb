// SPDX-License-Identifier: MIT
// TerminalQuestions: leaves out of a command's output what a terminal would answer (SPEC P5).
//
// A recording is shown on many terminals, later, or on none: each would answer where nobody
// reads, so that the answer lands at the user's prompt. What asks is left out, all else is
// passed on byte by byte: where the cursor is (DSR), what the terminal is (DA, DECID, XTVERSION,
// terminfo), how a mode or a setting stands (DECRQM, DECRQSS, kitty's keyboard), colours, sizes, the
// clipboard, and kitty's graphics when they ask. A sequence may come in any number of pieces; what
// could still become a question is held back until that is decided, and given out as it is where it
// never was, or is longer than any question.
//
// Sequences begin with ESC here. Their 8-bit forms are parts of letters in UTF-8.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace coalesce {

class TerminalQuestions {
  public:
    /// Calls `pass` with what is to be recorded of `bytes`, in order, in as many pieces as it takes.
    template <class Pass>
    void filter(std::span<const char> bytes, Pass&& pass) {
        while (!bytes.empty()) {
            const std::size_t taken = step(bytes);
            if (!ready_.empty()) pass(ready_);
            bytes = bytes.subspan(taken);
        }
    }
    /// What was held back and has no end: no more output will come.
    [[nodiscard]] std::string rest();

  private:
    enum class State {
        text,
        escape,   // after ESC
        control,  // CSI: after ESC [
        command,  // a string (OSC, DCS, APC) of which it is not known yet what it is about
        string,   // one that may ask
        asking,   // one that does
    };

    std::size_t step(std::span<const char> bytes);
    void take(char byte);
    void take_in_escape(char byte);
    void take_in_control(char byte);
    void take_in_string(char byte);
    void take_of_string(char byte);
    void decide_on_command(char byte);
    void decide_on_field(char byte);
    void end_string();
    void begin_anew();
    void let_go();
    void leave_out();

    State state_ = State::text;
    char kind_ = 0;                // of a string: ] P _
    bool ends_ = false;            // in a string, after an ESC
    unsigned command_ = 0;         // of an OSC
    std::size_t field_ = 0;        // where in held_ the present one begins
    std::string held_;             // from its ESC on
    std::string let_go_;           // what is none
    std::span<const char> ready_;  // to be passed on
};

}  // namespace coalesce
