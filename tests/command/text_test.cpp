// SPDX-License-Identifier: MIT
// What is UTF-8, what may be shown of it, and how a person is shown the rest (SPEC O0).
#include <coalesce/command/text.h>
#include <coalesce/command/title.h>
#include <coalesce/command/utf8.h>

#include "../catch.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

using namespace coalesce;

namespace {

// By the grammar of RFC 3629, section 4, spelled out; the check itself works by the
// Unicode standard's table.
bool by_the_grammar(std::string_view text) {
    const auto at = [&](std::size_t i) { return i < text.size() ? static_cast<unsigned char>(text[i]) : 0U; };
    const auto in = [](unsigned byte, unsigned low, unsigned high) { return byte >= low && byte <= high; };
    while (!text.empty()) {
        std::size_t length = 0;
        if (at(0) <= 0x7F)
            length = 1;
        else if (in(at(0), 0xC2, 0xDF) && in(at(1), 0x80, 0xBF))
            length = 2;
        else if ((at(0) == 0xE0 && in(at(1), 0xA0, 0xBF) && in(at(2), 0x80, 0xBF)) ||
                 (in(at(0), 0xE1, 0xEC) && in(at(1), 0x80, 0xBF) && in(at(2), 0x80, 0xBF)) ||
                 (at(0) == 0xED && in(at(1), 0x80, 0x9F) && in(at(2), 0x80, 0xBF)) ||
                 (in(at(0), 0xEE, 0xEF) && in(at(1), 0x80, 0xBF) && in(at(2), 0x80, 0xBF)))
            length = 3;
        else if ((at(0) == 0xF0 && in(at(1), 0x90, 0xBF) && in(at(2), 0x80, 0xBF) && in(at(3), 0x80, 0xBF)) ||
                 (in(at(0), 0xF1, 0xF3) && in(at(1), 0x80, 0xBF) && in(at(2), 0x80, 0xBF) && in(at(3), 0x80, 0xBF)) ||
                 (at(0) == 0xF4 && in(at(1), 0x80, 0x8F) && in(at(2), 0x80, 0xBF) && in(at(3), 0x80, 0xBF)))
            length = 4;
        if (length == 0 || length > text.size()) return false;
        text.remove_prefix(length);
    }
    return true;
}

std::vector<std::string> interesting_bytes() {
    std::vector<std::string> bytes;
    for (const int byte : {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF,
                           0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF})
        bytes.emplace_back(1, static_cast<char>(byte));
    return bytes;
}

}  // namespace

TEST_CASE("UTF-8: every boundary of the table is where RFC 3629 has it", "[utf8]") {
    const auto bytes = interesting_bytes();
    std::size_t valid = 0;
    const auto compare = [&](const std::string& text) {
        const bool is = is_utf8(text);
        valid += is ? 1 : 0;
        if (is != by_the_grammar(text))
            FAIL_CHECK("disagree on " << Catch::StringMaker<std::string>::convert(visible(text)));
    };
    compare("");
    for (const auto& a : bytes) {
        compare(a);
        for (const auto& b : bytes) {
            compare(a + b);
            for (const auto& c : bytes) {
                compare(a + b + c);
                for (const auto& d : bytes) compare(a + b + c + d);
            }
        }
    }
    CHECK(valid > 500);
}

TEST_CASE("UTF-8: where the pieces are split makes no difference", "[utf8]") {
    const unsigned seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    const auto bytes = interesting_bytes();
    const std::vector<std::string> characters{
        "a", "\xC2\x80", "\xED\x9F\xBF", "\xEF\xBF\xBF", "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF", "\0"};
    for (int round = 0; round < 20'000; ++round) {
        std::string text;
        for (auto i = random() % 8; i > 0; --i)
            text += random() % 6 == 0 ? bytes[random() % bytes.size()] : characters[random() % characters.size()];
        Utf8Check check;
        for (std::string_view rest = text; !rest.empty();) {
            const std::size_t length = std::min<std::size_t>(rest.size(), random() % 4);
            check.add(rest.substr(0, length));
            rest.remove_prefix(length);
        }
        if (check.valid() != by_the_grammar(text)) FAIL("disagree");
    }
}

TEST_CASE("UTF-8: what is cut inside a character is not UTF-8, and nothing mends what was wrong", "[utf8]") {
    Utf8Check cut;
    cut.add("a\xE2\x82");
    CHECK_FALSE(cut.valid());
    cut.add("\xAC");
    CHECK(cut.valid());
    Utf8Check wrong;
    wrong.add("\xFF");
    wrong.add("fine");
    CHECK_FALSE(wrong.valid());
    Utf8Check surrogate;
    surrogate.add("\xED");
    surrogate.add("\xA0\x80");
    CHECK_FALSE(surrogate.valid());
}

TEST_CASE("S4: UTF-8 is told from other bytes at every boundary, however the pieces fall", "[utf8]") {
    const auto valid = [](std::string_view bytes) {
        Utf8Check whole;
        whole.add(bytes);
        Utf8Check bytewise;
        for (const char& byte : bytes) bytewise.add(std::string_view(&byte, 1));
        CHECK(whole.valid() == bytewise.valid());
        return whole.valid();
    };
    for (const char* const good : {"", "a", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80",
                                   "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"})
        CHECK(valid(good));
    for (const char* const bad :
         {"\x80", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2\x7f", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xe1\x80",
          "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xe1\x80\xc0", "a\x80z"})
        CHECK_FALSE(valid(bad));
}

TEST_CASE("UTF-8: the first character is what the check takes, with its number", "[utf8]") {
    CHECK(first_character("").length == 0);
    CHECK(first_character("\xE2\x82\xAC.").code_point == 0x20AC);
    CHECK(first_character("\xF0\x9F\x98\x80").code_point == 0x1F600);
    CHECK(first_character("\xC3\xA9").code_point == 0xE9);
    CHECK(first_character("a\xFF").code_point == 'a');
    for (const auto& a : interesting_bytes())
        for (const auto& b : interesting_bytes())
            for (const auto& c : interesting_bytes())
                for (const auto& d : interesting_bytes()) {
                    const std::string text = a + b + c + d;
                    std::size_t wanted = 0;
                    for (std::size_t length = 4; length > 0; --length)
                        if (by_the_grammar(text.substr(0, length))) wanted = length;
                    if (first_character(text).length != wanted) FAIL_CHECK(visible(text));
                }
}

TEST_CASE("O0: what a terminal would obey is shown, on one line", "[text]") {
    CHECK(visible("plain, even 'quoted' \\ and gr\xC3\xBC\xC3\x9F") ==
          "plain, even 'quoted' \\ and gr\xC3\xBC\xC3\x9F");
    CHECK(visible("a\x1b[31m\nb\t\x07") == "a\\033[31m\\nb\\t\\007");
    CHECK(visible("\xC2\x9B"
                  "31m \xE2\x80\xAE \xFF") == "\\302\\23331m \\342\\200\\256 \\377");
    CHECK(visible(std::string("\0"
                              "1",
                              2)) == "\\0001");
}

TEST_CASE("O0: a command's title is the line as it was written, or a quoted one that means the same", "[title]") {
    CHECK(title("grep 'a b' | wc -l") == "grep 'a b' | wc -l");
    CHECK(title("printf 'a\tb'") == "$'printf \\'a\\tb\\''");
    CHECK(title("echo one\necho two") == "$'echo one\\necho two'");
    CHECK(title("echo \xE9") == "$'echo \\351'");
    CHECK(title("echo \x1b]0;owned\x07") == "$'echo \\033]0;owned\\007'");
    CHECK(title(std::vector<std::string>{"echo", "a b"}) == "echo 'a b'");
}
