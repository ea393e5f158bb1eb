// SPDX-License-Identifier: MIT
// JSON is read as RFC 8259 has it: the JSON library, which is not used for it, is the reference.
#include <coalesce/protocol/json_reader.h>

#include <nlohmann/json.hpp>

#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "../catch.h"
#include "json_tree.h"

using namespace coalesce;

namespace {

// A value that was taken without a look must be judged as one that was looked at.
bool accepts(std::string_view text) {
    const auto judge = [text](auto take) {
        try {
            JsonReader reader(text, 100);
            take(reader);
            reader.end();
            return true;
        } catch (const JsonReader::Malformed& malformed) {
            CHECK_FALSE(malformed.why.empty());
            return false;
        }
    };
    const bool skipped = judge([](JsonReader& reader) { static_cast<void>(reader.value()); });
    CHECK(skipped == judge([](JsonReader& reader) { static_cast<void>(tree_of(reader)); }));
    return skipped;
}

void compare(const std::string& text) {
    INFO(text);
    const auto expected = nlohmann::json::parse(text, nullptr, false);
    if (expected.is_discarded() && beyond_the_library(text) && accepts(text)) return;
    REQUIRE(accepts(text) == !expected.is_discarded());
    if (expected.is_discarded()) return;
    JsonReader reader(text, 100);
    CHECK(tree_of(reader) == expected);
}

}  // namespace

TEST_CASE("JSON: what is one by RFC 8259, and what is none", "[json_reader]") {
    for (const char* const text : {"",
                                   " ",
                                   "null",
                                   "nul",
                                   "nulll",
                                   "true",
                                   "false",
                                   "tru",
                                   "True",
                                   "0",
                                   "-0",
                                   "-",
                                   "01",
                                   "1.",
                                   ".5",
                                   "1.5",
                                   "-1.5e+10",
                                   "1e",
                                   "1e+",
                                   "1E5",
                                   "+1",
                                   "0x1",
                                   "NaN",
                                   "Infinity",
                                   "\"\"",
                                   "\"a\"",
                                   "\"a",
                                   "a\"",
                                   "'a'",
                                   "\"\\n\\\"\\\\\\/\\b\\f\\r\\t\"",
                                   "\"\\a\"",
                                   "\"\\",
                                   "\"\\u0041\"",
                                   "\"\\u00e9\"",
                                   "\"\\u20AC\"",
                                   "\"\\ud83d\\ude00\"",
                                   "\"\\ud83d\"",
                                   "\"\\ude00\"",
                                   "\"\\ud83d\\u0041\"",
                                   "\"\\ud83dx\"",
                                   "\"\\u12\"",
                                   "\"\\u12g4\"",
                                   "\"\\u0000\"",
                                   "\"\x7f\"",
                                   "\"\x01\"",
                                   "\"\n\"",
                                   "\"\xc3\xa9\"",
                                   "\"\xc3\"",
                                   "\"\xff\"",
                                   "\"\xed\xa0\x80\"",
                                   "[]",
                                   "[ ]",
                                   "[1]",
                                   "[1,2]",
                                   "[1,]",
                                   "[,1]",
                                   "[1 2]",
                                   "[",
                                   "]",
                                   "[1",
                                   "[1,",
                                   "[[[]]]",
                                   "{}",
                                   "{ }",
                                   "{\"a\":1}",
                                   "{\"a\":1,\"b\":[{}]}",
                                   "{\"a\":1,}",
                                   "{,}",
                                   "{a:1}",
                                   "{\"a\" 1}",
                                   "{\"a\"}",
                                   "{\"a\":}",
                                   "{1:2}",
                                   "{\"a\":1 \"b\":2}",
                                   "{",
                                   "}",
                                   "{\"a\":1",
                                   "{\"\\u0061\":1}",
                                   " { \"a\"\t:\r\n1 } ",
                                   "1 1",
                                   "[] []",
                                   "//",
                                   "/**/1",
                                   "1//",
                                   "[1]x",
                                   "\"a\"b"})
        compare(text);
    compare(std::string("\"\0\"", 3));
    CHECK_FALSE(accepts(std::string("1\0", 2)));  // which ends the text for the library
}

TEST_CASE("JSON: mutated texts are accepted and refused as the library does it", "[json_reader]") {
    const unsigned seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    const std::vector<std::string> seeds{
        R"({"id":1,"argv":["a","b\n"],"env":{"A":null,"B":"\u00e9"},"timeout":1.5e0,"fresh":true})",
        R"([{"a":[[],{},"\ud83d\ude00"]},-0.0,[false,null]])", "{\"line\":\"\xc3\xa9\xf0\x9f\x98\x80\",\"x\":[1,2,3]}"};
    const std::string alphabet = "{}[]\":,\\/truefalsn0123.eE+-u \t\n\x01\x7f\xc3\xa9\xff";
    for (int round = 0; round < 20'000; ++round) {
        std::string text = seeds[random() % seeds.size()];
        for (auto edits = 1 + random() % 3; edits > 0; --edits) {
            const std::size_t at = random() % (text.size() + 1);
            switch (random() % 3) {
                case 0:
                    text.insert(at, 1, alphabet[random() % alphabet.size()]);
                    break;
                case 1:
                    if (at < text.size()) text[at] = alphabet[random() % alphabet.size()];
                    break;
                default:
                    text.erase(at, random() % 4);
            }
        }
        compare(text);
    }
}

TEST_CASE("JSON: the depth is bounded, and what was left open does not count", "[json_reader]") {
    const auto accepted = [](std::string_view text, unsigned depth) {
        try {
            JsonReader reader(text, depth);
            static_cast<void>(reader.value());
            return true;
        } catch (const JsonReader::Malformed&) {
            return false;
        }
    };
    CHECK(accepted("[[1],[2],[3]]", 2));
    CHECK_FALSE(accepted("[[1],[[2]]]", 2));
    CHECK(accepted("1", 0));
    CHECK_FALSE(accepted(std::string(1'000'000, '['), 100));
}

TEST_CASE("JSON: a value's text is what stands there", "[json_reader]") {
    JsonReader reader(R"( {"a" : [1, "x,]"] , "b":-1.50 } )");
    std::vector<std::pair<std::string, std::string>> members;
    reader.members([&](std::string_view name) {
        const std::string kept(name);
        members.emplace_back(kept, reader.value());
    });
    reader.end();
    CHECK(members == std::vector<std::pair<std::string, std::string>>{{"a", R"([1, "x,]"])"}, {"b", "-1.50"}});
}
