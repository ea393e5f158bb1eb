// SPDX-License-Identifier: MIT
// Bytes as JSON text: what is UTF-8 and what is not, and that pieces join up (SPEC F3, B2).
#include <coalesce/protocol/json_text.h>

#include <nlohmann/json.hpp>

#include <random>
#include <string>
#include <vector>

#include "../catch.h"

using namespace coalesce;

namespace {

bool is_utf8(std::string_view bytes) {
    Utf8Check check;
    check.add(bytes);
    return check.valid();
}

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

TEST_CASE("UTF-8: every boundary of the table is where RFC 3629 has it", "[json_text]") {
    const auto bytes = interesting_bytes();
    std::size_t valid = 0;
    const auto compare = [&](const std::string& text) {
        const bool is = is_utf8(text);
        valid += is ? 1 : 0;
        if (is != by_the_grammar(text))
            FAIL_CHECK("disagree on " << nlohmann::json::binary({text.begin(), text.end()}).dump());
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

TEST_CASE("UTF-8: where the pieces are split makes no difference", "[json_text]") {
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

TEST_CASE("UTF-8: what is cut inside a character is not UTF-8, and nothing mends what was wrong", "[json_text]") {
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

TEST_CASE("JSON: escaped bytes come back as they were, however they are split", "[json_text]") {
    std::string all;
    for (int byte = 0; byte < 0x80; ++byte) all += static_cast<char>(byte);
    all += "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xE2\x80\xA8";
    for (std::size_t split = 0; split <= all.size(); ++split) {
        std::string text = "\"";
        append_json_escaped(text, std::string_view(all).substr(0, split));
        append_json_escaped(text, std::string_view(all).substr(split));
        text += '"';
        REQUIRE(nlohmann::json::parse(text).get<std::string>() == all);
        CHECK(text.find('\n') == std::string::npos);  // a result is one line
        CHECK(text.find('\x7f') == std::string::npos);
    }
}

TEST_CASE("JSON: a string that is not UTF-8 is still a JSON string", "[json_text]") {
    std::string text;
    append_json_string(text, "a\xff\"\n");
    CHECK(text == "\"a\xEF\xBF\xBD\\\"\\n\"");
    CHECK(nlohmann::json::parse(text).is_string());
}

TEST_CASE("base64: pieces of three join up to the base64 of the whole", "[json_text]") {
    const auto encoded = [](std::initializer_list<std::string_view> pieces) {
        std::string text = "=";  // what was there stays
        for (const std::string_view piece : pieces) append_base64(text, piece);
        return text.substr(1);
    };
    CHECK(encoded({""}).empty());
    CHECK(encoded({"f"}) == "Zg==");
    CHECK(encoded({"fo"}) == "Zm8=");
    CHECK(encoded({"foo"}) == "Zm9v");
    CHECK(encoded({"foo", "bar"}) == "Zm9vYmFy");
    CHECK(encoded({"foo", "ba"}) == "Zm9vYmE=");
    CHECK(encoded({std::string_view("\0\xff\0", 3), ""}) == "AP8A");
}
