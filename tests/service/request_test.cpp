// Requests: what is understood, and what is refused by name.

#include <coalesce/service/request.h>

#include <catch2/catch.hpp>

#include <string>
#include <variant>

using namespace coalesce;

namespace {

Request understood(const std::string& text) {
    auto parsed = parse_request(text);
    if (const auto* error = std::get_if<RequestError>(&parsed)) FAIL(text << ": " << error->message);
    return std::get<Request>(std::move(parsed));
}

RequestError refused(const std::string& text) {
    auto parsed = parse_request(text);
    if (std::holds_alternative<Request>(parsed)) FAIL(text.substr(0, 80) << " was understood");
    return std::get<RequestError>(std::move(parsed));
}

}  // namespace

TEST_CASE("S3: every field of a request is read", "[request]") {
    const Request request = understood(
        R"({"id":"a\"b","argv":["x","y z"],"cwd":"/srv","env":{"A":"1","B":null},"stdin":"in","key":"k","scope":"s",)"
        R"("fresh":true,"timeout":1.5,"wait":0.25,"output":"stream","ignore_env":["X*"],"only_env":[],"ignore_cwd":true,)"
        R"("umask":18})");
    CHECK(request.id == R"("a\"b")");
    CHECK(request.argv == std::vector<std::string>{"x", "y z"});
    CHECK(request.cwd == "/srv");
    REQUIRE(request.env_changes.size() == 2);
    CHECK(request.env_changes[0].second == "1");
    CHECK_FALSE(request.env_changes[1].second);
    CHECK(request.stdin_bytes == "in");
    CHECK(request.key == "k");
    CHECK(request.scope == "s");
    CHECK(request.fresh);
    CHECK(request.timeout == std::chrono::milliseconds(1500));
    CHECK(request.wait == std::chrono::milliseconds(250));
    CHECK(request.output == Request::Output::stream);
    CHECK(request.only_env == std::vector<std::string>{});
    CHECK(request.ignore_cwd);
    CHECK(request.umask == 022U);
    CHECK(understood(R"({"line":"echo","id":7})").id == "7");
    CHECK(understood(R"({"line":"a","env":["A=1","A=2"]})").env == std::vector<std::string>{"A=1", "A=2"});
    CHECK(understood(R"({"line":"a","stdin_base64":"AAEC"})").stdin_bytes == std::string("\0\1\2", 3));
}

TEST_CASE("S5: a refusal says what is wrong, and carries the id where it could be read", "[request]") {
    CHECK(refused(R"({"id":3,"line":"a","colour":1})").id == "3");
    CHECK(refused(R"({"line":"a","colour":1})").message == "unknown field \"colour\"");
    CHECK(refused(R"({"line":"a","colour":1})").code == "unknown_field");
    const char* const wrong[] = {
        "",
        "{",
        "[]",
        "null",
        "1",
        "{}",
        R"({"argv":[]})",
        R"({"argv":[""]})",
        R"({"argv":"x"})",
        R"({"argv":[1]})",
        R"({"line":1})",
        R"({"line":"a","argv":["b"]})",
        R"({"line":"a\u0000b"})",
        R"({"argv":["a\u0000b"]})",
        R"({"line":"a","cwd":"relative"})",
        R"({"line":"a","env":1})",
        R"({"line":"a","env":{"A=":"1"}})",
        R"({"line":"a","env":{"":"1"}})",
        R"({"line":"a","env":["novalue"]})",
        R"({"line":"a","env":["=x"]})",
        R"({"line":"a","stdin":"x","stdin_base64":"AA=="})",
        R"({"line":"a","stdin_base64":"?"})",
        R"({"line":"a","fresh":1})",
        R"({"line":"a","timeout":-1})",
        R"({"line":"a","timeout":1e300})",
        R"({"line":"a","timeout":"1"})",
        R"({"line":"a","output":"loud"})",
        R"({"line":"a","id":{}})",
        R"({"line":"a","umask":512})",
        R"({"line":"a","umask":-1})",
        R"({"line":"a"} trailing)",
        "{\"line\":\"\xff\"}",
    };
    for (const char* const text : wrong) CHECK_FALSE(refused(text).message.empty());
}

TEST_CASE("S5: nesting of any depth is refused, not a crash", "[request]") {
    const std::string deep = "{\"line\":" + std::string(500'000, '[') + std::string(500'000, ']') + "}";
    CHECK(refused(deep).code == "bad_json");
    CHECK(refused(std::string(500'000, '{')).code == "bad_json");
    CHECK(refused(std::string(500'000, '[')).code == "bad_json");
}
