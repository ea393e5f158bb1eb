// SPDX-License-Identifier: MIT
// Requests: what is understood, and what is refused by name.
#include <coalesce/protocol/request.h>
#include <coalesce/protocol/request_line.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <string>
#include <tuple>
#include <variant>

#include "../catch.h"

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
        R"("ignore_namespaces":true,"no_share":true,"umask":18,"grace":2,"keep_running":true,"quiet":true,)"
        R"("pty_size":"100x30","pty":true,"class":"heavy:2"})");
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
    CHECK(request.ignore_namespaces);
    CHECK(request.no_share);
    CHECK(request.umask == 022U);
    CHECK(request.terminal == TerminalSize{.columns = 100, .lines = 30});
    CHECK(request.run_class == RunClass{.name = "heavy", .jobs = 2});
    CHECK(understood(R"({"line":"a","pty":true})").terminal == TerminalSize{.columns = 80, .lines = 24});
    CHECK_FALSE(understood(R"({"line":"a","pty":false})").terminal);
    CHECK(request.grace == std::chrono::seconds(2));
    CHECK(request.keep_running);
    CHECK(request.quiet);
    CHECK(understood(R"({"line":"echo","id":7})").id == "7");
    CHECK(understood(R"({"line":"a","env":["A=1","A=2"]})").env == std::vector<std::string>{"A=1", "A=2"});
    CHECK(understood(R"({"line":"a","stdin_base64":"AAEC"})").stdin_bytes == std::string("\0\1\2", 3));
}

TEST_CASE("S3: bytes that are not UTF-8 come in base64", "[request]") {
    const Request words = understood(
        R"({"argv_base64":["eA==","6Q==",""],"cwd_base64":"L+k=","env_base64":["QT3p","QT0y","6T0="],"key_base64":"6Q==",)"
        R"("scope_base64":"6Q==","ignore_env_base64":["6So="],"only_env_base64":[]})");
    CHECK(words.argv == std::vector<std::string>{"x", "\xe9", ""});
    CHECK(words.cwd == "/\xe9");
    CHECK(words.env == std::vector<std::string>{"A=\xe9", "A=2", "\xe9="});
    CHECK(words.key == "\xe9");
    CHECK(words.scope == "\xe9");
    CHECK(words.ignore_env == std::vector<std::string>{"\xe9*"});
    CHECK(words.only_env == std::vector<std::string>{});
    CHECK(understood(R"({"line_base64":"6Q=="})").line == "\xe9");
}

TEST_CASE("S3: an id comes back as it was written", "[request]") {
    for (const char* const id : {"7", "-7", "1.50", "1e2", R"("a")", R"("\u00e9\n")", R"("\ud83d\ude00")"}) {
        const std::string came = understood(std::string(R"({"line":"a","id":)") + id + "}").id;
        CHECK(nlohmann::json::parse(came) == nlohmann::json::parse(id));
    }
    CHECK(understood(R"({"line":"a","id":1.50})").id == "1.50");
}

TEST_CASE("S5: errors carry the id wherever it stands, those of a line that is no JSON one that came first",
          "[request]") {
    CHECK(refused(R"({"line":1,"id":"a"})").id == R"("a")");
    CHECK(refused(R"({"colour":1,"id":2})").id == "2");
    CHECK(refused(R"({"line":"a","line":"b","id":2})").id == "2");
    CHECK(refused(R"({"id":2,"line":"a)").id == "2");
    CHECK(refused(R"({"id":2,"line":"a"} x)").id == "2");
    CHECK(refused(R"({"id":2,"line":"a")"
                  "\xff"
                  R"("})")
              .id == "2");
    CHECK(refused(R"({"line":"a" "id":2})").id.empty());
    CHECK(refused(R"({"id":2,"line":[[[[[)").id == "2");
}

TEST_CASE("S5: what no exec takes is refused at once", "[request]") {
    const auto list = [](const char* before, const std::string& each, std::size_t count, const char* after) {
        std::string text = before;
        for (std::size_t i = 0; i < count; ++i) text += (i == 0 ? "" : ",") + each;
        return text + after;
    };
    // With a pointer for each word and 6 MiB at most, whatever the limits are.
    for (const std::string& text : {list(R"({"id":5,"argv":["a",)", R"("")", 700'000, "]}"),
                                    list(R"({"id":5,"line":"a","env":[)", R"("A=")", 600'000, "]}"),
                                    list(R"({"id":5,"line":"a","env_base64":[)", R"("QT0=")", 600'000, "]}"),
                                    list(R"({"id":5,"line":"a","env":["A=)", std::string(1000, 'x'), 7'000, "\"]}")}) {
        const RequestError error = refused(text);
        CHECK(error.id == "5");
        CHECK(error.code == "bad_request");
        CHECK(error.message.find("that a process can be given") != std::string::npos);
    }
    std::string changes = R"({"id":5,"line":"a","env":{)";
    for (int i = 0; i < 600'000; ++i) changes += (i == 0 ? "\"V" : ",\"V") + std::to_string(i) + "\":\"\"";
    CHECK(refused(changes + "}}").message.find("that a process can be given") != std::string::npos);
    CHECK(understood(list(R"({"line":"a","env":[)", R"("A=")", 10'000, "]}")).env->size() == 10'000);
    CHECK(understood(list(R"({"line":"a","ignore_env":[)", R"("A*")", 256, "]}")).ignore_env.size() == 256);
    CHECK(refused(list(R"({"line":"a","only_env":[)", R"("A*")", 257, "]}")).message ==
          R"("only_env" has more than 256 patterns)");
    const auto pairs = [&](std::size_t variables) {
        return list(R"({"line":"a","ignore_env":[)", R"("A*")", 200, "],") +
               list(R"("env":[)", R"("A=")", variables, "]}");
    };
    CHECK(understood(pairs(20'000)).env->size() == 20'000);
    CHECK(refused(pairs(20'001)).message == "there are too many patterns for so many variables");
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
        R"({"line":"a","stdin_base64":"AA ==" })",
        R"({"line":"a","stdin_base64":"AAEC\n"})",
        R"({"line":"a","stdin_base64":" AAEC"})",
        R"({"line":"a","stdin_base64":"AB=="})",
        R"({"line":"a","line_base64":"YQ=="})",
        R"({"line_base64":"AA=="})",
        R"({"line_base64":"YQ==","argv":["b"]})",
        R"({"argv_base64":["YQ=="],"line":"b"})",
        R"({"argv_base64":"YQ=="})",
        R"({"argv_base64":["a"]})",
        R"({"argv_base64":["AA=="]})",
        R"({"argv_base64":[]})",
        R"({"argv_base64":[""]})",
        R"({"argv":["a"],"argv_base64":["YQ=="]})",
        R"({"line":"a","cwd":"/","cwd_base64":"Lw=="})",
        R"({"line":"a","cwd_base64":"YQ=="})",
        R"({"line":"a","env_base64":{"A":"YQ=="}})",
        R"({"line":"a","env_base64":["QQ=="]})",
        R"({"line":"a","env_base64":["QT0A"]})",
        R"({"line":"a","env":{},"env_base64":[]})",
        R"({"line":"a","key_base64":""})",
        R"({"line":"a","scope":"","scope_base64":""})",
        R"({"line":"a","only_env_base64":[1]})",
        R"({"op":"ping","argv_base64":["YQ=="]})",
        R"({"line":"a","fresh":1})",
        R"({"line":"a","timeout":-1})",
        R"({"line":"a","timeout":1e300})",
        R"({"line":"a","timeout":"1"})",
        R"({"line":"a","output":"loud"})",
        R"({"line":"a","id":{}})",
        R"({"line":"a","umask":512})",
        R"({"line":"a","umask":-1})",
        R"({"line":"a"} trailing)",
        R"({"line":"a","line":"b"})",
        R"({"line":"a","env":{"X":"1","X":"2"}})",
        R"({"line":"a","id":9007199254740992.5})",
        R"({"line":"a","id":18446744073709551616})",
        R"({"line":"a","id":true})",
        R"({"line":"a","id":null})",
        R"({"line":"a","env":["A=\u0000"]})",
        R"({"line":"a","env":{"A":"\u0000"}})",
        R"({"line":"a","env":{"A\u0000":"x"}})",
        R"({"line":"a","env":{"A":1}})",
        R"({"line":"a","cwd":""})",
        R"({"line":"a","cwd":"/\u0000"})",
        R"({"line":"a","cwd":1})",
        R"({"line":"a","stdin":1})",
        R"({"line":"a","stdin_base64":"AAE"})",
        R"({"line":"a","stdin_base64":"AA==AA=="})",
        R"({"line":"a","stdin_base64":["AA=="]})",
        R"({"line":"a","key":1})",
        R"({"line":"a","scope":[]})",
        R"({"line":"a","timeout":1e999})",
        R"({"line":"a","timeout":true})",
        R"({"line":"a","wait":-0.001})",
        R"({"line":"a","wait":"soon"})",
        R"({"line":"a","output":1})",
        R"({"line":"a","umask":"022"})",
        R"({"line":"a","umask":1.5})",
        R"({"line":"a","signal":65})",
        R"({"line":"a","only_env":"A"})",
        R"({"line":"a","ignore_env":[1]})",
        R"({"line":"a","ignore_cwd":0})",
        R"({"line":null})",
        R"({"argv":null})",
        R"({"argv":["a",["b"]]})",
        R"({'line':'a'})",
        R"({"line":"a",})",
        R"({"line":"\ud800"})",
        R"({"line":"a" "id":1})",
        "{\"line\":\"a\nb\"}",
        "\xef\xbb\xbf",
        "{\"line\":\"\xff\"}",
    };
    for (const char* const text : wrong) CHECK_FALSE(refused(text).message.empty());
}

TEST_CASE("S5: whatever is refused, the message is one printable line that names the field", "[request]") {
    const auto message = [](const std::string& text) {
        std::string said = refused(text).message;
        CHECK(std::all_of(said.begin(), said.end(), [](char byte) { return byte >= ' ' && byte <= '~'; }));
        CHECK(said.size() < 300);
        return said;
    };
    CHECK(message(R"({"line":"a","\u001b[31m":1})") == R"(unknown field "\u001b[31m")");
    CHECK(message(R"({"line":"a","cwd":"a\u0007\n"})") == R"("cwd" must be an absolute path, not "a\u0007\n")");
    CHECK(message(R"({"line":"a","output":"\u009b1m"})") ==
          R"("output" must be whole, stream, fd or none, not "\u009b1m")");
    CHECK(message(R"({"line":"a","env":{"\u001b=":"x"}})") == R"("env" has no valid variable name in "\u001b=")");
    CHECK(message(R"({"argv":{}})") == R"("argv" must be an array of strings, not object)");
    CHECK(message(R"({"argv":["a",1]})") == R"("argv" must be an array of strings, not of number)");
    CHECK(message(R"({"line":"a","line":"a"})") == R"("line" is given twice)");
    CHECK(message(R"({"line":"a","key":""})") == R"("key" is empty)");
    CHECK(message(R"({"op":"cancel"})") == R"("flight" is missing, or empty)");
    CHECK(message(R"({"op":"cancel","flight":""})") == R"("flight" is missing, or empty)");
    CHECK(message(R"({"op":"signal","id":1})") == R"("signal" is missing)");
    CHECK(message(R"({"line":"a","id":7,"env":{"A":"1","A":"1"}})") == R"("A" is given twice)");
    CHECK(refused(R"({"line":"a","id":7,"env":{"A":"1","A":"1"}})").id == "7");
    message("{\"line\":\"\x9b\"}");
    message("{\"line\":\"\x1b[31m\"}");
    message("\x1b[31m");
    message(std::string(100'000, '"'));
    message(std::string("{\"line\":\"a\0b\"}", 14));
}

TEST_CASE("S3: limits are accepted to the last value", "[request]") {
    CHECK(understood(R"({"line":"a","id":18446744073709551615})").id == "18446744073709551615");
    CHECK(understood(R"({"line":"a","id":-9223372036854775808})").id == "-9223372036854775808");
    CHECK(understood(R"({"line":"a","id":""})").id == R"("")");
    CHECK(understood(R"({"line":"a","umask":511})").umask == 0777U);
    CHECK(understood(R"({"line":"a","timeout":0})").timeout == std::chrono::milliseconds(0));
    CHECK(understood(R"({"line":"a","timeout":0.0001})").timeout == std::chrono::milliseconds(1));
    CHECK(understood(R"({"line":"a","timeout":3153600000})").timeout == std::chrono::hours(24 * 365 * 100));
    CHECK(understood(R"({"line":"","stdin":""})").stdin_bytes == "");
    CHECK(understood(R"({"argv":["a",""]})").argv.size() == 2);
    CHECK(understood(R"({"line":"a","stdin_base64":""})").stdin_bytes == "");
    CHECK(understood("  {\"line\":\"\\ud83d\\ude00 \u00e9\"}\t").line == "\xf0\x9f\x98\x80 \xc3\xa9");
}

TEST_CASE("S5: what a client sent is shown in part where it is long", "[request]") {
    const std::string error = refused("{\"line\":\"a\",\"" + std::string(100'000, 'x') + "\":1}").message;
    CHECK(error.starts_with("unknown field \"xxx"));
    CHECK(error.ends_with("xxx\"..."));
    CHECK(error.size() < 200);
}

TEST_CASE("S5: nesting of any depth is refused, not a crash", "[request]") {
    const std::string deep = "{\"line\":" + std::string(500'000, '[') + std::string(500'000, ']') + "}";
    CHECK(refused(deep).code == "bad_json");
    CHECK(refused(std::string(500'000, '{')).code == "bad_json");
    CHECK(refused(std::string(500'000, '[')).code == "bad_json");
}

TEST_CASE("S3: a request that is written is read as it was, in every field", "[request]") {
    for (
        const char* const text :
        {R"({"argv":["x"]})",
         R"({"id":"a\"b","argv":["x","y z"],"cwd":"/srv","env":{"A\"":"1","B":null},"stdin":"in","key":"k","scope":"s",)"
         R"("fresh":true,"timeout":1.5,"wait":0.25,"output":"stream","ignore_env":["X*"],"only_env":[],"ignore_cwd":true,)"
         R"("ignore_namespaces":true,"no_share":true,"umask":18,"grace":2,"keep_running":true,"quiet":true,"pty":true,)"
         R"("pty_size":"100x30","class":"heavy:2"})",
         R"({"argv":["x"],"class":"heavy"})",
         R"({"id":7,"line_base64":"6Q==","cwd_base64":"L+k=","env_base64":["QT3p"],"stdin_base64":"AP8=","key_base64":"6Q==",)"
         R"("scope_base64":"6Q==","ignore_env_base64":["6Q=="],"only_env":["A","B"],"wait":0,"umask":0,"output":"fd"})",
         R"({"id":1,"op":"signal","signal":15})", R"({"op":"cancel","flight":"ab"})"}) {
        CAPTURE(text);
        const Request request = understood(text);
        const std::string line = request_line(request);
        CHECK(line.find('\n') == line.size() - 1);
        const Request again = understood(line.substr(0, line.size() - 1));
        const auto all = [](const Request& of) {
            return std::tie(of.id, of.op, of.argv, of.line, of.cwd, of.env_changes, of.env, of.stdin_bytes, of.key,
                            of.scope, of.ignore_env, of.only_env, of.ignore_cwd, of.ignore_namespaces, of.no_share,
                            of.umask, of.terminal, of.run_class, of.fresh, of.timeout, of.wait, of.grace,
                            of.keep_running, of.output, of.quiet, of.flight, of.signal);
        };
        CHECK((all(again) == all(request)));
    }
}
