// SPDX-License-Identifier: MIT
#include <coalesce/protocol/request.h>

#include <nlohmann/json.hpp>
#include <sodium.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

namespace coalesce {
namespace {

using Json = nlohmann::json;

constexpr std::size_t id_bytes_max = 256;  // it comes back with every message

constexpr int depth_max = 4;  // a request needs 2; more is an attack on the stack or a mistake

struct Refusal {
    std::string code;
    std::string message;
};

// For a message: what a client sends must not steer the terminal that shows it.
std::string shown(const std::string& text) { return Json(text).dump(-1, ' ', true, Json::error_handler_t::replace); }

std::string printable(std::string text) {
    for (char& byte : text)
        if (byte < ' ' || byte > '~') byte = '?';
    return text;
}

[[noreturn]] void refuse(std::string message) { throw Refusal{"bad_request", std::move(message)}; }

std::string text_field(const Json& value, const char* field) {
    if (!value.is_string()) refuse(std::string("\"") + field + "\" must be a string, not " + value.type_name());
    return value.get<std::string>();
}

std::string word_field(const Json& value, const char* field) {
    std::string text = text_field(value, field);
    if (text.find('\0') != std::string::npos) refuse(std::string("\"") + field + "\" has a NUL byte");
    return text;
}

std::vector<std::string> words_field(const Json& value, const char* field) {
    if (!value.is_array())
        refuse(std::string("\"") + field + "\" must be an array of strings, not " + value.type_name());
    std::vector<std::string> words;
    words.reserve(value.size());
    for (const Json& word : value) words.push_back(word_field(word, field));
    return words;
}

std::chrono::milliseconds seconds_field(const Json& value, const char* field) {
    constexpr double century = 100.0 * 365 * 86400;
    if (!value.is_number())
        refuse(std::string("\"") + field + "\" must be a number of seconds, not " + value.type_name());
    const double seconds = value.get<double>();
    if (!(seconds >= 0) || seconds > century) refuse(std::string("\"") + field + "\" is out of range");
    return std::chrono::milliseconds(static_cast<std::int64_t>(std::ceil(seconds * 1000)));
}

bool flag_field(const Json& value, const char* field) {
    if (!value.is_boolean()) refuse(std::string("\"") + field + "\" must be true or false, not " + value.type_name());
    return value.get<bool>();
}

unsigned number_field(const Json& value, const char* field, unsigned most) {
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > most)
        refuse(std::string("\"") + field + "\" must be a whole number from 0 to " + std::to_string(most));
    return value.get<unsigned>();
}

std::string base64_field(const Json& value, const char* field) {
    const std::string text = text_field(value, field);
    std::string bytes(text.size() / 4 * 3 + 3, '\0');
    std::size_t length = 0;
    const char* end = nullptr;
    if (sodium_base642bin(reinterpret_cast<unsigned char*>(bytes.data()), bytes.size(), text.data(), text.size(),
                          "\n\r ", &length, &end, sodium_base64_VARIANT_ORIGINAL) != 0 ||
        end != text.data() + text.size())
        refuse(std::string("\"") + field + "\" is not base64");
    bytes.resize(length);
    return bytes;
}

void read_env(const Json& value, Request& request) {
    if (value.is_array()) {
        request.env = words_field(value, "env");
        for (const std::string& entry : *request.env)
            if (entry.find('=') == std::string::npos || entry.front() == '=')
                refuse("\"env\" entry \"" + entry + "\" is not NAME=value");
        return;
    }
    if (!value.is_object())
        refuse(std::string("\"env\" must be an object of changes or an array of \"NAME=value\", not ") +
               value.type_name());
    for (const auto& [name, text] : value.items()) {
        if (name.empty() || name.find('=') != std::string::npos || name.find('\0') != std::string::npos)
            refuse("\"env\" has no valid variable name in " + shown(name));
        if (text.is_null())
            request.env_changes.emplace_back(name, std::nullopt);
        else
            request.env_changes.emplace_back(name, word_field(text, "env"));
    }
}

Request::Output read_output(const Json& value) {
    const std::string mode = text_field(value, "output");
    if (mode == "whole") return Request::Output::whole;
    if (mode == "stream") return Request::Output::stream;
    if (mode == "fd") return Request::Output::fd;
    if (mode == "none") return Request::Output::none;
    refuse("\"output\" must be whole, stream, fd or none, not " + shown(mode));
}

void read_field(const std::string& name, const Json& value, Request& request) {
    if (name == "id") {
        if (!value.is_string() && !value.is_number())
            refuse(std::string("\"id\" must be a string or a number, not ") + value.type_name());
        // Beyond this a float's digits are not those that were sent (nor are a too long whole number's, which arrives
        // as one).
        constexpr double exact_below = 9007199254740992;  // 2^53
        if (value.is_number_float() && std::abs(value.get<double>()) >= exact_below)
            refuse("\"id\" is a number that would not come back as it was; send it as a string");
        request.id = value.is_number_unsigned() ? std::to_string(value.get<std::uint64_t>()) : value.dump();
        if (request.id.size() > id_bytes_max) {
            request.id.clear();
            refuse("\"id\" is longer than " + std::to_string(id_bytes_max) + " bytes");
        }
    } else if (name == "op") {
        request.op = text_field(value, "op");
        if (request.op.empty()) refuse("\"op\" is empty");
    } else if (name == "argv") {
        request.argv = words_field(value, "argv");
        if (request.argv.empty() || request.argv.front().empty()) refuse("\"argv\" names no command");
    } else if (name == "line") {
        request.line = word_field(value, "line");
    } else if (name == "cwd") {
        request.cwd = word_field(value, "cwd");
        if (!request.cwd->starts_with('/')) refuse("\"cwd\" must be an absolute path, not " + shown(*request.cwd));
    } else if (name == "env") {
        read_env(value, request);
    } else if (name == "stdin") {
        request.stdin_bytes = text_field(value, "stdin");
    } else if (name == "stdin_base64") {
        request.stdin_bytes = base64_field(value, "stdin_base64");
    } else if (name == "key") {
        request.key = text_field(value, "key");
        if (request.key->empty()) refuse("\"key\" is empty");  // all that were meant to differ would be one
    } else if (name == "scope") {
        request.scope = text_field(value, "scope");
    } else if (name == "fresh") {
        request.fresh = flag_field(value, "fresh");
    } else if (name == "ignore_env") {
        request.ignore_env = words_field(value, "ignore_env");
    } else if (name == "only_env") {
        request.only_env = words_field(value, "only_env");
    } else if (name == "ignore_cwd") {
        request.ignore_cwd = flag_field(value, "ignore_cwd");
    } else if (name == "ignore_namespaces") {
        request.ignore_namespaces = flag_field(value, "ignore_namespaces");
    } else if (name == "no_share") {
        request.no_share = flag_field(value, "no_share");
    } else if (name == "umask") {
        request.umask = number_field(value, "umask", 0777);
    } else if (name == "signal") {
        request.signal = static_cast<int>(number_field(value, "signal", 64));
    } else if (name == "timeout") {
        request.timeout = seconds_field(value, "timeout");
    } else if (name == "wait") {
        request.wait = seconds_field(value, "wait");
    } else if (name == "grace") {
        request.grace = seconds_field(value, "grace");
    } else if (name == "keep_running") {
        request.keep_running = flag_field(value, "keep_running");
    } else if (name == "quiet") {
        request.quiet = flag_field(value, "quiet");
    } else if (name == "output") {
        request.output = read_output(value);
    } else if (name == "flight") {
        request.flight = text_field(value, "flight");
    } else {
        throw Refusal{"unknown_field", "unknown field " + shown(name)};
    }
}

// A field in the wrong place is a mistake like one that does not exist.
void check_place(const std::string& name, const std::string& op) {
    if (name == "id" || name == "op") return;
    if (op.empty() && name != "flight" && name != "signal") return;
    if ((op == "cancel" && name == "flight") || (op == "signal" && name == "signal")) return;
    refuse("\"" + name + "\" does not belong in " + (op.empty() ? "a request for a command" : "\"op\":\"" + op + "\""));
}

void check_whole(const Json& object, const Request& request) {
    if (request.stdin_bytes && object.contains("stdin") && object.contains("stdin_base64"))
        refuse("\"stdin\" and \"stdin_base64\" exclude each other");
    for (const auto& [name, value] : object.items()) check_place(name, request.op);
    if (request.op == "cancel" && request.flight.empty()) refuse("\"flight\" is missing, or empty");
    if (request.op == "signal" && !object.contains("signal")) refuse("\"signal\" is missing");
    if (!request.op.empty()) return;
    if (request.line && !request.argv.empty()) refuse("\"argv\" and \"line\" exclude each other");
    if (!request.line && request.argv.empty()) refuse("neither \"argv\" nor \"line\" is given");
}

// What can be told of a text without parsing it; of JSON it is true.
struct Shape {
    int depth = 0;
    std::size_t members = 0;  // of all its objects
};

Shape shape_of(std::string_view text) {
    Shape shape;
    int depth = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        switch (text[i]) {
            case '{':
            case '[':
                shape.depth = std::max(shape.depth, ++depth);
                break;
            case '}':
            case ']':
                --depth;
                break;
            case ':':
                ++shape.members;
                break;
            case '"':
                while (++i < text.size() && text[i] != '"')
                    if (text[i] == '\\') ++i;
                break;
            default:
                break;
        }
    }
    return shape;
}

std::size_t members_of(const Json& value) {
    if (!value.is_structured()) return 0;
    std::size_t members = value.is_object() ? value.size() : 0;
    for (const Json& inner : value) members += members_of(inner);
    return members;
}

// A name that an object has twice.
std::optional<std::string> name_given_twice(std::string_view text) {
    std::optional<std::string> twice;
    std::array<std::vector<std::string>, depth_max + 2> names;  // of the object that is open at each depth
    const Json::parser_callback_t watch = [&](int depth, Json::parse_event_t event, Json& parsed) {
        const auto at = static_cast<std::size_t>(depth);
        if (event == Json::parse_event_t::object_start) names[at + 1].clear();
        if (event == Json::parse_event_t::key) names[at].push_back(parsed.get_ref<const std::string&>());
        if (event == Json::parse_event_t::object_end) {
            auto& those = names[at + 1];
            std::sort(those.begin(), those.end());
            if (const auto found = std::adjacent_find(those.begin(), those.end()); found != those.end()) twice = *found;
        }
        return true;
    };
    [[maybe_unused]] const Json all = Json::parse(text.begin(), text.end(), watch);
    return twice;
}

// `twice` becomes a name that an object has twice: the library would let the last one
// win, and another reader of the same request the first. The parser's own callbacks
// would tell of depth and of names, and take as long as all the rest of a join.
Json parse_json(std::string_view text, std::optional<std::string>& twice) {
    const Shape shape = shape_of(text);
    if (shape.depth > depth_max) throw Refusal{"bad_json", "the request is nested too deep"};
    try {
        Json parsed = Json::parse(text.begin(), text.end());
        if (members_of(parsed) != shape.members) twice = name_given_twice(text);
        return parsed;
    } catch (const Json::exception& failure) {
        std::string why = failure.what();
        const std::size_t bracket = why.find("] ");  // the library's own prefix, of no use to the reader
        if (bracket != std::string::npos) why.erase(0, bracket + 2);
        throw Refusal{"bad_json", "not JSON: " + printable(std::move(why))};
    }
}

}  // namespace

std::variant<Request, RequestError> parse_request(std::string_view text) {
    Request request;
    try {
        std::optional<std::string> twice;
        const Json object = parse_json(text, twice);
        if (!object.is_object()) refuse(std::string("a request must be an object, not ") + object.type_name());
        if (const auto id = object.find("id"); id != object.end()) read_field("id", *id, request);  // errors carry it
        if (twice) refuse(shown(*twice) + " is given twice");
        for (const auto& [name, value] : object.items())
            if (name != "id") read_field(name, value, request);
        check_whole(object, request);
        return request;
    } catch (Refusal& refusal) {
        return RequestError{std::move(request.id), std::move(refusal.code), std::move(refusal.message)};
    }
}

}  // namespace coalesce
