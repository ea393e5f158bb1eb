// SPDX-License-Identifier: MIT
// The end of a stream by lines (SPEC A3).
#include <coalesce/io/last_lines.h>

#include <unistd.h>

#include <random>
#include <string>

#include "../catch.h"

using namespace coalesce;

namespace {

std::string text_of(LastLines& lines) {
    std::string text;
    auto extents = lines.extents();
    REQUIRE(extents);
    for (const Extent& extent : *extents) {
        if (extent.file < 0) {
            text += extent.bytes;
            continue;
        }
        std::string part(static_cast<std::size_t>(extent.length), '\0');
        REQUIRE(::pread(extent.file, part.data(), part.size(), static_cast<off_t>(extent.offset)) ==
                static_cast<ssize_t>(part.size()));
        text += part;
    }
    return text;
}

std::string last_lines(std::uint64_t count, const std::string& text) {
    const StoreLimits limits;
    LastLines lines(count, limits);
    REQUIRE(lines.append(text));
    return text_of(lines);
}

// As tail(1) has it, in the simplest words.
std::string reference(std::uint64_t count, const std::string& text) {
    std::size_t at = text.size();
    for (std::uint64_t line = 0; line < count && at > 0; ++line) {
        --at;
        while (at > 0 && text[at - 1] != '\n') --at;
    }
    return text.substr(at);
}

}  // namespace

TEST_CASE("A3: the last lines are those of tail(1)", "[io]") {
    CHECK(last_lines(2, "a\nb\nc\n") == "b\nc\n");
    CHECK(last_lines(2, "a\nb\nc") == "b\nc");
    CHECK(last_lines(2, "a\n\n\n") == "\n\n");
    CHECK(last_lines(9, "a\nb\n") == "a\nb\n");
    CHECK(last_lines(1, "").empty());
    CHECK(last_lines(1, "\n") == "\n");
    CHECK(last_lines(1, "whole") == "whole");
    CHECK(last_lines(0, "a\nb").empty());
    CHECK(last_lines(1, std::string("a\n\0b\n", 5)) == std::string("\0b\n", 3));
    CHECK(last_lines(~std::uint64_t{0}, "a\nb\n") == "a\nb\n");
}

TEST_CASE("A3: of any stream in any pieces the same lines remain, on the heap or not", "[io]") {
    std::mt19937 random(7);
    const auto up_to = [&](unsigned most) { return std::uniform_int_distribution<unsigned>(0, most)(random); };
    for (int round = 0; round < 40; ++round) {
        const StoreLimits limits{.heap_bytes = up_to(1) == 0 ? 1000U : 1U << 20};
        const std::uint64_t count = 1 + up_to(4000);
        const unsigned longest = 1 + up_to(3000);
        const std::size_t bytes = up_to(3) == 0 ? up_to(50) : 500'000 + up_to(800'000);
        LastLines lines(count, limits);
        std::string text;
        while (text.size() < bytes) {
            std::string piece(1 + up_to(70'000), 'x');
            for (std::size_t at = up_to(longest); at < piece.size(); at += 1 + up_to(longest)) piece[at] = '\n';
            REQUIRE(lines.append(piece));
            text += piece;
        }
        REQUIRE((text_of(lines) == reference(count, text)));
    }
}

TEST_CASE("F9, A3: what is before the last lines is let go", "[io]") {
    MemoryBudget budget(4 << 20);
    const StoreLimits limits{.heap_bytes = 1000, .budget = &budget};
    LastLines lines(10, limits);
    const std::string piece(65535, 'x');
    for (int i = 0; i < 1000; ++i) {
        REQUIRE(lines.append(piece + "\n"));
        REQUIRE(budget.used() < 2 << 20);
    }
    CHECK(text_of(lines).size() == 10 * 65536);
}

TEST_CASE("F9, A3: last lines that do not fit the memory are refused, and none of them is cut", "[io]") {
    MemoryBudget budget(1 << 20);
    const StoreLimits limits{.heap_bytes = 1000, .budget = &budget};
    LastLines lines(1, limits);
    const std::string piece(65536, 'x');  // of one line that has no end
    Result<> appended;
    for (int i = 0; i < 100 && appended; ++i) appended = lines.append(piece);
    REQUIRE_FALSE(appended);
    CHECK(appended.error().message() == "keep the last lines of the output: Cannot allocate memory");
}
