// SPDX-License-Identifier: MIT
#include <coalesce/cluster/resp.h>

#include <string>
#include <vector>

#include "../catch.h"

using namespace coalesce;

namespace {

// A value as text, so that two can be compared.
std::string shown(const RespValue& value) {
    switch (value.kind) {
        case RespValue::Kind::nothing:
            return "nil";
        case RespValue::Kind::status:
            return "+" + value.text;
        case RespValue::Kind::error:
            return "-" + value.text;
        case RespValue::Kind::integer:
            return ":" + std::to_string(value.number);
        case RespValue::Kind::bytes:
            return "'" + value.text + "'";
        case RespValue::Kind::array:
            break;
    }
    std::string all = "[";
    for (const RespValue& element : value.elements) all += (all.size() > 1 ? " " : "") + shown(element);
    return all + "]";
}

// Fed in pieces of that size.
std::string read(const std::string& text, std::size_t piece = 1 << 20) {
    RespReader reader;
    std::string all;
    for (std::size_t at = 0; at < text.size(); at += piece) {
        if (auto fed = reader.feed(std::string_view(text).substr(at, piece)); !fed) return all + "refused";
        while (true) {
            auto reply = reader.next();
            if (!reply) return all + "refused";
            if (!reply->has_value()) break;
            all += shown(**reply) + ";";
        }
    }
    return all;
}

}  // namespace

TEST_CASE("replies of all kinds are read, however they are cut", "[cluster]") {
    const std::string bytes = std::string("+OK\r\n-ERR no\r\n:-7\r\n$5\r\na\r\n") + '\0' +
                              "b\r\n$-1\r\n*-1\r\n*0\r\n*3\r\n:1\r\n*2\r\n$1\r\nx\r\n*1\r\n$0\r\n\r\n+y\r\n";
    const std::string expected = std::string("+OK;-ERR no;:-7;'a\r\n") + '\0' + "b';nil;nil;[];[:1 ['x' ['']] +y];";
    for (std::size_t piece = 1; piece <= bytes.size(); ++piece) {
        INFO(piece);
        CHECK(read(bytes, piece) == expected);
    }
}

TEST_CASE("what no engine says is refused", "[cluster]") {
    CHECK(read("HTTP/1.1 400 Bad Request\r\n") == "refused");
    CHECK(read("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n") == "refused");
    std::string deep;  // which would take the stack of who puts it away
    for (int i = 0; i < 60000; ++i) deep += "*1\r\n";
    CHECK(read(deep + ":1\r\n") == "refused");
    CHECK(read("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n") == "[[[[[[:1]]]]]];");
    CHECK(read("$99999999999999999999\r\n") == "refused");
    CHECK(read("*2147483647\r\n" + std::string(4 << 20, 'x')) == "refused");
    std::string many = "*100000\r\n";
    for (int i = 0; i < 100000; ++i) many += ":1\r\n";
    CHECK(read(many) == "refused");
    CHECK(read(",1.5\r\n") == "refused");  // RESP3
    CHECK(read("#t\r\n") == "refused");
    CHECK(read("%1\r\n:1\r\n:2\r\n") == "refused");
}

TEST_CASE("a reply may have 8 MiB, and any number of replies may follow each other", "[cluster]") {
    const std::string half(7 << 20, 'x');
    const std::string reply = "$" + std::to_string(half.size()) + "\r\n" + half + "\r\n";
    CHECK(read(reply + reply + reply, 65536).size() == 3 * (half.size() + 3));
    const std::string long_one(9 << 20, 'x');
    CHECK(read("$" + std::to_string(long_one.size()) + "\r\n" + long_one + "\r\n", 65536) == "refused");
}

TEST_CASE("a request is an array of byte strings", "[cluster]") {
    std::string out = "before ";
    append_request(out, std::vector<std::string>{"SET", std::string("a\0\r\n", 4), ""});
    CHECK(out == std::string("before *3\r\n$3\r\nSET\r\n$4\r\na") + '\0' + "\r\n\r\n$0\r\n\r\n");
}
