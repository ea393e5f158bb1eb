// SPDX-License-Identifier: MIT
// Messages: what one side writes the other reads, and what is no message is told apart.
#include <coalesce/command/utf8.h>
#include <coalesce/protocol/base64.h>
#include <coalesce/protocol/message.h>

#include <nlohmann/json.hpp>

#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "../catch.h"

using namespace coalesce;

TEST_CASE("S4: a message is one line of JSON that any library reads", "[message]") {
    const std::string odd = std::string("quote\" back\\ newline\n tab\t nul") + '\0' + "\x01 \x7f é 漢 𝄞";
    const std::string line =
        Message().text("t", odd).number("n", -7).seconds("s", 1.5).flag("f", true).raw("r", "[1]").line();
    CHECK(line.find('\n') == line.size() - 1);
    const auto parsed = nlohmann::json::parse(line);
    CHECK(parsed["t"] == odd);
    CHECK(parsed["n"] == -7);
    CHECK(parsed["s"] == 1.5);
    CHECK(parsed["f"] == true);
    CHECK(parsed["r"] == nlohmann::json::array({1}));
    const auto fields = Fields::parse(line);
    REQUIRE(fields);
    CHECK(fields->text("t") == odd);
    CHECK(fields->number("n") == -7);
    CHECK(fields->seconds("s") == 1.5);
    CHECK(fields->flag("f"));
    CHECK(fields->raw("r") == "[1]");
    CHECK(fields->text("missing").empty());
    CHECK(fields->number("missing") == 0);
}

TEST_CASE("S4: seconds are written as printf writes six decimals", "[message]") {
    for (const double value :
         {0.0, 0.05, 1.05, 0.000001, 0.0000004, 0.9999999, 59.999999, -0.5, -1.25, 1'764'268'000.123456, 3.15e9}) {
        char expected[40];
        std::snprintf(expected, sizeof expected, "{\"s\":%.6f}\n", value);
        CHECK(Message().seconds("s", value).line() == expected);
    }
}

TEST_CASE("S3: bytes go as they are, and in base64 where one is not UTF-8", "[message]") {
    for (const std::vector<std::string>& values :
         {std::vector<std::string>{}, {""}, {"one"}, {"a,b", "quote\" back\\", "\n", "é"}})
        CHECK(nlohmann::json::parse(Message().flag("f", true).bytes("v", values).line())["v"] ==
              nlohmann::json(values));
    CHECK(Message().bytes("v", std::vector<std::string>{"a", "\xe9"}).line() == R"({"v_base64":["YQ==","6Q=="]})"
                                                                                "\n");
    CHECK(Message().bytes("v", "\xc3\xa9").line() == "{\"v\":\"\xc3\xa9\"}\n");
    CHECK(Message().bytes("v", "\xe9").line() == R"({"v_base64":"6Q=="})"
                                                 "\n");
    CHECK(Message().text("v", "a\xe9").line() == "{\"v\":\"a\xef\xbf\xbd\"}\n");
}

TEST_CASE("S4: a message that has been written is empty", "[message]") {
    Message message;
    message.number("n", 1);
    CHECK(message.line() == "{\"n\":1}\n");
    CHECK(message.number("m", 2).line() == "{\"m\":2}\n");
}

TEST_CASE("S4: fields are found whatever is nested beside them", "[message]") {
    const auto fields = Fields::parse(R"( { "a" : {"b":"}","c":[1,{"d":"]"}]} , "e" : "x\"y" , "f":[] } )");
    REQUIRE(fields);
    CHECK(fields->text("e") == "x\"y");
    CHECK(fields->raw("f") == "[]");
    CHECK(json_elements(R"([1, "a,b", {"c":[2]}])").size() == 3);
}

TEST_CASE("S5: what is no object is no message, and no bytes crash the reader", "[message]") {
    for (const char* const text : {"", "x", "{", "{\"a\"", "{\"a\":", "{\"a\":1", "[1]", "{\"a\" 1}", "{1:2}", "{,}"})
        CHECK_FALSE(Fields::parse(text));
    std::minstd_rand random(1);
    const std::string alphabet = "{}[]\":,\\ab1\n u";
    for (int i = 0; i < 20'000; ++i) {
        std::string text = "{";
        for (auto n = random() % 30; n > 0; --n) text += alphabet[random() % alphabet.size()];
        if (const auto fields = Fields::parse(text))
            static_cast<void>(fields->text("a") + std::string(fields->raw("b")));
        static_cast<void>(json_string_value(text));
    }
}

TEST_CASE("S4: base64 in pieces is base64 of the whole", "[json]") {
    std::string encoded;
    append_base64(encoded, "abc");
    append_base64(encoded, "de");
    CHECK(encoded == "YWJjZGU=");
}
