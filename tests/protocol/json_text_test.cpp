// SPDX-License-Identifier: MIT
// Bytes as JSON text: that pieces join up (SPEC F3, B2).
#include <coalesce/protocol/base64.h>
#include <coalesce/protocol/json_text.h>

#include <sodium.h>

#include <nlohmann/json.hpp>

#include <optional>
#include <random>
#include <string>
#include <vector>

#include "../catch.h"

using namespace coalesce;

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

TEST_CASE("base64: what is decoded is what libsodium decodes, and what it refuses is refused", "[json_text]") {
    const auto reference = [](std::string_view text) -> std::optional<std::string> {
        std::string bytes(text.size(), '\0');
        std::size_t length = 0;
        const char* end = nullptr;
        if (sodium_base642bin(reinterpret_cast<unsigned char*>(bytes.data()), bytes.size(), text.data(), text.size(),
                              nullptr, &length, &end, sodium_base64_VARIANT_ORIGINAL) != 0 ||
            end != text.data() + text.size())
            return std::nullopt;
        bytes.resize(length);
        return bytes;
    };
    // Each text of up to five of these, and so each way to break one.
    constexpr std::string_view alphabet = "AQg/+= -\n";
    std::vector<std::string> texts{""};
    for (std::size_t at = 0; at < texts.size(); ++at) {
        CAPTURE(texts[at]);
        REQUIRE(from_base64(texts[at]) == reference(texts[at]));
        if (texts[at].size() < 5)
            for (const char next : alphabet) texts.push_back(texts[at] + next);
    }
    std::mt19937 random(1);
    for (std::size_t length = 0; length < 300; ++length) {
        std::string bytes(length, '\0');
        for (char& byte : bytes) byte = static_cast<char>(random());
        REQUIRE(from_base64(to_base64(bytes)) == bytes);
    }
}
