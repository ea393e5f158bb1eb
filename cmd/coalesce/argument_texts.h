// SPDX-License-Identifier: MIT
// What the words for arguments stand for: FILE, TIME, LEVEL …
#pragma once

#include <string_view>

namespace coalesce {

/// What the word for an argument stands for, so that a shell can offer something.
struct ArgumentText {
    enum class Kind { anything, file, directory, variable, variables, user, choice };
    std::string_view word;
    Kind kind;
    std::string_view choices = {};  ///< with Kind::choice, separated by spaces
};

//// Every word that the definitions use is here.
inline constexpr ArgumentText argument_texts[] = {
    {"FILE", ArgumentText::Kind::file},
    {"PATH", ArgumentText::Kind::file},
    {"DIR", ArgumentText::Kind::directory},
    {"PATTERN", ArgumentText::Kind::variable},
    {"NAMES", ArgumentText::Kind::variables},
    {"USER", ArgumentText::Kind::user},
    {"FORMAT", ArgumentText::Kind::choice, "text json"},
    {"LEVEL", ArgumentText::Kind::choice, "debug info warning error off"},
    {"WHEN", ArgumentText::Kind::choice, "soon,fail=1 now,fail=1 soon,fail=10% now,success=1 soon,done=50%"},
    {"N", ArgumentText::Kind::anything},
    {"TIME", ArgumentText::Kind::anything},
    {"SIZE", ArgumentText::Kind::anything},
    {"COLUMNSxLINES", ArgumentText::Kind::anything},
    {"NAME[:N]", ArgumentText::Kind::anything},
    {"TEXT", ArgumentText::Kind::anything},
    {"LINE", ArgumentText::Kind::anything},
    {"URL", ArgumentText::Kind::anything},
};

/// The entry for a word; a definition with another word does not compile.
consteval const ArgumentText& argument_text(std::string_view word) {
    for (const ArgumentText& text : argument_texts)
        if (text.word == word) return text;
    throw "no such word";
}

}  // namespace coalesce
