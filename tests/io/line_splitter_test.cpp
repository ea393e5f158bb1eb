// SPDX-License-Identifier: MIT
// Lines out of bytes: however they come, the lines are the same, and a long one costs nothing for good.
#include <coalesce/io/line_splitter.h>

#include "../catch.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

using namespace coalesce;

namespace {

using Lines = std::vector<std::string>;

void take(LineSplitter& splitter, Lines& lines) {
    while (const auto line = splitter.next()) lines.push_back(std::string(line->text) + (line->too_long ? "!" : ""));
}

}  // namespace

TEST_CASE("lines end with their delimiter, the last one with the input", "[line_splitter]") {
    LineSplitter splitter('\n', 100);
    Lines lines;
    take(splitter, lines);
    CHECK_FALSE(splitter.last());
    splitter.add("a\n\nb");
    take(splitter, lines);
    CHECK(lines == Lines{"a", ""});
    splitter.add("c");
    CHECK_FALSE(splitter.next());
    CHECK(splitter.last()->text == "bc");
    CHECK_FALSE(splitter.last());
    LineSplitter by_nul('\0', 100);
    by_nul.add(std::string_view("a\nb\0c\0", 6));
    Lines nul;
    take(by_nul, nul);
    CHECK(nul == Lines{"a\nb", "c"});
    CHECK_FALSE(by_nul.last());
}

TEST_CASE("a line that is too long is told once, by its beginning, and the next is whole", "[line_splitter]") {
    const std::string shown = std::string(60, 'x') + "!";
    for (const bool in_pieces : {false, true}) {
        LineSplitter splitter('\n', 100);
        Lines lines;
        const std::string text = std::string(100, 'x') + "\n" + std::string(101, 'x') + "\nb\n" + std::string(500, 'x');
        for (std::string_view rest = text; !rest.empty();) {
            const std::size_t length = in_pieces ? std::min<std::size_t>(rest.size(), 90) : rest.size();
            const auto room = splitter.room(200 + length);
            std::memcpy(room.data(), rest.data(), length);
            splitter.taken(length);
            take(splitter, lines);
            rest.remove_prefix(length);
        }
        if (const auto last = splitter.last()) lines.push_back(std::string(last->text) + (last->too_long ? "!" : ""));
        CHECK(lines == Lines{std::string(100, 'x'), shown, "b", shown});
    }
}

TEST_CASE("whoever stops taking lines finds them there later", "[line_splitter]") {
    LineSplitter splitter('\n', 100);
    CHECK(splitter.looked_through());
    splitter.add("a\nb\nc");
    CHECK(splitter.next()->text == "a");
    CHECK_FALSE(splitter.looked_through());
    splitter.add("d\n");
    CHECK(splitter.next()->text == "b");
    CHECK(splitter.next()->text == "cd");
    CHECK_FALSE(splitter.next());
    CHECK(splitter.looked_through());
}
