// SPDX-License-Identifier: MIT
// Questions to a terminal are left out of what is recorded, and nothing else is (SPEC P5).
#include <coalesce/io/terminal_questions.h>

#include <string>
#include <string_view>
#include <vector>

#include "../catch.h"

using namespace coalesce;
using namespace std::string_literals;

namespace {

// Given out in pieces of that length; what is still held back at the end included.
std::string recorded(std::string_view output, std::size_t piece = 1'000'000) {
    TerminalQuestions questions;
    std::string kept;
    for (std::size_t at = 0; at < output.size(); at += piece)
        questions.filter(output.substr(at, piece),
                         [&kept](std::span<const char> passed) { kept.append(passed.begin(), passed.end()); });
    return kept + questions.rest();
}

const std::vector<std::string> asking{"\x1b[c",
                                      "\x1b[0c",
                                      "\x1b[>c",
                                      "\x1b[>0;0c",
                                      "\x1b[=c",
                                      "\x1bZ",
                                      "\x1b[5n",
                                      "\x1b[6n",
                                      "\x1b[06n",
                                      "\x1b[?6n",
                                      "\x1b[?15n",
                                      "\x1b[?996n",
                                      "\x1b[?2026$p",
                                      "\x1b[4$p",
                                      "\x1b[>q",
                                      "\x1b[>0q",
                                      "\x1b[?u",
                                      "\x1b[1$u",
                                      "\x1b[&u",
                                      "\x1b[x",
                                      "\x1b[1x",
                                      "\x1b[11t",
                                      "\x1b[14;2t",
                                      "\x1b[18t",
                                      "\x1b[21t",
                                      "\x1b[?1;1;0S",
                                      "\x1b[?4m",
                                      "\x1b[?4g",
                                      "\x1b[1;1;1;1;2;2*y",
                                      "\x1b[1$w",
                                      "\x1b[\"v",
                                      "\x1b['|",
                                      "\x1b[#R",
                                      "\x1b[1;1;2;2#|",
                                      "\x1b[6\nn",
                                      "\x1b[\x7f"
                                      "6n",
                                      "\x1b]4;0;?\a",
                                      "\x1b]4;0;?;1;?\x1b\\",
                                      "\x1b]5;0;?\a",
                                      "\x1b]10;?\a",
                                      "\x1b]11;?\x1b\\",
                                      "\x1b]12;?\a",
                                      "\x1b]10;?;?;?\a",
                                      "\x1b]10;#fff;?\a",
                                      "\x1b]19;?\a",
                                      "\x1b]21;foreground=?;background=?\x1b\\",
                                      "\x1b]52;c;?\a",
                                      "\x1b]99;i=1:p=?;\x1b\\",
                                      "\x1b]1337;ReportCellSize\a",
                                      "\x1bP$qm\x1b\\",
                                      "\x1bP$q q\x1b\\",
                                      "\x1bP+q544e;52474\x1b\\",
                                      "\x1b_Gi=31,s=1,v=1,a=q,t=d,f=24;AAAA\x1b\\",
                                      "\x1b_Ga=q\x1b\\",
                                      "\x1b]11;?\x1b\x1b\\"};

const std::vector<std::string> shown{"plain text, 5n 6n c",
                                     "caf\xc3\xa9 \x9b"
                                     "6n \xc2\x9b"
                                     "6n",
                                     "\0\xff\n\r\t\a"s,
                                     "\x1b[31m",
                                     "\x1b[38;5;1m",
                                     "\x1b[0K",
                                     "\x1b[2;5H",
                                     "\x1b[?25l",
                                     "\x1b[?1049h",
                                     "\x1b[1;2c",
                                     "\x1b[?1;2c",
                                     "\x1b[?0c",
                                     "\x1b[0n",
                                     "\x1b[>4n",
                                     "\x1b[!p",
                                     "\x1b[61;1\"p",
                                     "\x1b[>1p",
                                     "\x1b[2 q",
                                     "\x1b[q",
                                     "\x1b[>1u",
                                     "\x1b[<u",
                                     "\x1b[=1;1u",
                                     "\x1b[u",
                                     "\x1b[2x",
                                     "\x1b[8;24;80t",
                                     "\x1b[22;0t",
                                     "\x1b[3S",
                                     "\x1b[>4;2m",
                                     "\x1b[1;1;2;2$v",

                                     "\x1b(B",
                                     "\x1b(0",
                                     "\x1b#8",
                                     "\x1b=",
                                     "\x1bM",
                                     "\x1b(Z",
                                     "\x1b]0;what?\a",
                                     "\x1b]2;?\a",
                                     "\x1b]0;?\x1b\\",
                                     "\x1b]4;1;rgb:00/00/00\a",
                                     "\x1b]4;1;rgb:?\a",
                                     "\x1b]11;#123456\x1b\\",
                                     "\x1b]104\a",
                                     "\x1b]110\a",
                                     "\x1b]8;;http://x/?;?\x1b\\link\x1b]8;;\x1b\\",
                                     "\x1b]52;c;Zm9v\a",
                                     "\x1b]1337;File=name=eA==:AAAA\a",
                                     "\x1b]133;A\a",
                                     "\x1b]7;file://host/?\a",
                                     "\x1b]9;4;1;50\a",
                                     "\x1bPq#0;2;0;0;0~-\x1b\\",
                                     "\x1bP1$r0m\x1b\\",
                                     "\x1bP>|xterm(1)\x1b\\",
                                     "\x1b_Ga=T,f=100,q=1;AAAA\x1b\\",
                                     "\x1b_Ga=query;x\x1b\\",
                                     "\x1b_other\x1b\\",
                                     "\x1b^x?\x1b\\",
                                     "\x1bX?\x1b\\",
                                     "\x1b[6\x18n",
                                     "\x1b]11;?\x18",
                                     "\x1b]11;?\x1a\a",
                                     "\x1b]11\a",
                                     "\x1b];?\a",
                                     "\x1b]123456;?\a",
                                     "\x1b[6\x80n"};

}  // namespace

TEST_CASE("P5: what asks is left out, whatever stands around it and however it is cut", "[terminal]") {
    for (const std::string& question : asking) {
        CAPTURE(question);
        CHECK(recorded(question).empty());
        for (std::size_t piece = 1; piece <= question.size(); ++piece)
            CHECK(recorded("<" + question + ">", piece) == "<>");
        CHECK(recorded("\x1b" + question + "\x1b[m") == "\x1b\x1b[m");
        CHECK(recorded("\x1b[3" + question + question) == "\x1b[3");
    }
}

TEST_CASE("P5: what is shown stays, byte by byte, however it is cut", "[terminal]") {
    std::string all;
    for (const std::string& text : shown) {
        CAPTURE(text);
        for (std::size_t piece = 1; piece <= text.size(); ++piece)
            CHECK((recorded("<" + text + ">", piece) == "<" + text + ">"));
        all += text;
    }
    for (const std::size_t piece : {1, 2, 3, 7, 64, 4096}) CHECK((recorded(all, piece) == all));
}

TEST_CASE("P5: a question that has no end is none", "[terminal]") {
    for (const std::string& question : asking)
        for (std::size_t length = 1; length < question.size(); ++length) {
            const std::string begun = question.substr(0, length);
            CAPTURE(begun);
            if (begun != "\x1b]11;?\x1b") CHECK((recorded(begun, 1) == begun));
        }
}

TEST_CASE("P5: what is longer than any question is passed on, and is not waited for", "[terminal]") {
    for (const char* begin : {"\x1b]11;", "\x1b]11;?;", "\x1bP+q", "\x1b_Ga=q;", "\x1b]52;c;", "\x1b[?"}) {
        const std::string text = begin + std::string(20'000, '1');
        CHECK((recorded(text + "\x1b\\", 1000) == text + "\x1b\\"));
        TerminalQuestions questions;
        std::size_t passed = 0;
        questions.filter(text, [&passed](std::span<const char> bytes) { passed += bytes.size(); });
        CHECK(passed > text.size() - 9000);
    }
}

TEST_CASE("P5: an answer that was asked for through tmux is not asked for either", "[terminal]") {
    CHECK(recorded("\x1bPtmux;\x1b\x1b]11;?\a\x1b\\") == "\x1bPtmux;\x1b\x1b\\");
    CHECK(recorded("\x1bPtmux;\x1b\x1b]11;?\x1b\x1b\\\x1b\\") == "\x1bPtmux;\x1b\x1b\\");
}
