// SPDX-License-Identifier: MIT
#include <coalesce/protocol/json_reader.h>

#include <coalesce/command/number.h>
#include <coalesce/command/utf8.h>

#include <algorithm>
#include <cstdint>

namespace coalesce {
namespace {

bool is_high_surrogate(unsigned unit) noexcept { return unit >= 0xD800 && unit <= 0xDBFF; }
bool is_low_surrogate(unsigned unit) noexcept { return unit >= 0xDC00 && unit <= 0xDFFF; }

void append_utf8(std::string& out, unsigned code_point) {
    const auto continuation = [&](unsigned shift) { out += static_cast<char>(0x80 | (code_point >> shift & 0x3F)); };
    if (code_point < 0x80) {
        out += static_cast<char>(code_point);
    } else if (code_point < 0x800) {
        out += static_cast<char>(0xC0 | code_point >> 6);
        continuation(0);
    } else if (code_point < 0x10000) {
        out += static_cast<char>(0xE0 | code_point >> 12);
        continuation(6);
        continuation(0);
    } else {
        out += static_cast<char>(0xF0 | code_point >> 18);
        continuation(12);
        continuation(6);
        continuation(0);
    }
}

unsigned digit_value(char digit) noexcept {
    if (is_digit(digit)) return static_cast<unsigned>(digit - '0');
    return static_cast<unsigned>((digit | 0x20) - 'a' + 10);
}

unsigned unit_at(std::string_view digits) noexcept {
    unsigned unit = 0;
    for (const char digit : digits.substr(0, 4)) unit = unit << 4 | digit_value(digit);
    return unit;
}

// Of a content whose escapes have been checked.
std::string unescape(std::string_view content) {
    std::string value;
    value.reserve(content.size());
    while (true) {
        const std::size_t plain = std::min(content.find('\\'), content.size());
        value += content.substr(0, plain);
        if (plain == content.size()) return value;
        const char kind = content[plain + 1];
        content.remove_prefix(plain + 2);
        switch (kind) {
            case 'b':
                value += '\b';
                break;
            case 'f':
                value += '\f';
                break;
            case 'n':
                value += '\n';
                break;
            case 'r':
                value += '\r';
                break;
            case 't':
                value += '\t';
                break;
            case 'u': {
                unsigned code_point = unit_at(content);
                content.remove_prefix(4);
                if (is_high_surrogate(code_point)) {
                    code_point = 0x10000 + ((code_point - 0xD800) << 10) + (unit_at(content.substr(2)) - 0xDC00);
                    content.remove_prefix(6);
                }
                append_utf8(value, code_point);
                break;
            }
            default:
                value += kind;
        }
    }
}

}  // namespace

void JsonReader::malformed(std::string_view why) const {
    throw Malformed{std::string(why) + " at byte " + std::to_string(at_ + 1)};
}

void JsonReader::skip_blanks() noexcept {
    while (!at_end() && (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r')) ++at_;
}

bool JsonReader::takes(char wanted) noexcept {
    skip_blanks();
    if (here() != wanted || at_end()) return false;
    ++at_;
    return true;
}

JsonReader::Type JsonReader::type() {
    skip_blanks();
    switch (here()) {
        case 'n':
            return Type::null;
        case 't':
        case 'f':
            return Type::boolean;
        case '"':
            return Type::string;
        case '[':
            return Type::array;
        case '{':
            return Type::object;
        default:
            if (here() != '-' && !is_digit(here())) malformed("there is no value");
            return Type::number;
    }
}

void JsonReader::literal(std::string_view word) {
    if (!text_.substr(at_).starts_with(word)) malformed("there is no value");
    at_ += word.size();
}

void JsonReader::null() {
    skip_blanks();
    literal("null");
}

bool JsonReader::boolean() {
    skip_blanks();
    const bool value = here() == 't';
    literal(value ? "true" : "false");
    return value;
}

void JsonReader::digits() {
    if (!is_digit(here())) malformed("a digit is missing");
    while (is_digit(here())) ++at_;
}

std::string_view JsonReader::number() {
    skip_blanks();
    const std::size_t begin = at_;
    if (here() == '-') ++at_;
    if (here() == '0')
        ++at_;
    else
        digits();
    if (here() == '.') {
        ++at_;
        digits();
    }
    if (here() == 'e' || here() == 'E') {
        ++at_;
        if (here() == '+' || here() == '-') ++at_;
        digits();
    }
    return text_.substr(begin, at_ - begin);
}

unsigned JsonReader::four_digits() {
    const std::string_view found = text_.substr(at_, 4);
    const auto is_hexadecimal = [](char byte) {
        return is_digit(byte) || (byte >= 'a' && byte <= 'f') || (byte >= 'A' && byte <= 'F');
    };
    if (found.size() < 4 || !std::all_of(found.begin(), found.end(), is_hexadecimal))
        malformed("\\u has no four hexadecimal digits");
    at_ += 4;
    return unit_at(found);
}

// After the backslash.
void JsonReader::escape() {
    const char kind = here();
    if (at_end() || std::string_view("\"\\/bfnrtu").find(kind) == std::string_view::npos)
        malformed("there is no such escape");
    ++at_;
    if (kind != 'u') return;
    const unsigned unit = four_digits();
    if (is_low_surrogate(unit)) malformed("a surrogate is alone");
    if (!is_high_surrogate(unit)) return;
    if (!text_.substr(at_).starts_with("\\u")) malformed("a surrogate is alone");
    at_ += 2;
    if (!is_low_surrogate(four_digits())) malformed("a surrogate is alone");
}

JsonReader::Content JsonReader::string_content() {
    skip_blanks();
    if (here() != '"') malformed("there is no string");
    const std::size_t begin = ++at_;
    bool escaped = false;
    bool ascii = true;
    while (true) {
        if (at_end()) malformed("a string has no end");
        const auto byte = static_cast<unsigned char>(text_[at_]);
        if (byte == '"') break;
        if (byte < 0x20) malformed("a string has a control character");
        ++at_;
        if (byte >= 0x80) ascii = false;
        if (byte != '\\') continue;
        escaped = true;
        escape();
    }
    const std::string_view content = text_.substr(begin, at_ - begin);
    if (!ascii && !is_utf8(content)) malformed("a string is not UTF-8");
    ++at_;
    return {content, escaped};
}

std::string JsonReader::string() {
    const Content content = string_content();
    return content.escaped ? unescape(content.text) : std::string(content.text);
}

std::string_view JsonReader::member_name(std::string& unescaped) {
    const Content content = string_content();
    if (!takes(':')) malformed("a colon is missing");
    if (!content.escaped) return content.text;
    return unescaped = unescape(content.text);
}

void JsonReader::enter(char open) {
    if (!takes(open)) malformed(open == '{' ? "there is no object" : "there is no array");
    if (depth_left_ == 0) malformed("it is nested too deep");
    --depth_left_;
}

// After an element: whether another follows.
bool JsonReader::goes_on(char close) {
    if (takes(close)) return false;
    if (!takes(',')) malformed(at_end() ? "the end is missing" : "a comma is missing");
    return true;
}

std::string_view JsonReader::value() {
    skip_blanks();
    const std::size_t begin = at_;
    switch (type()) {
        case Type::null:
            null();
            break;
        case Type::boolean:
            static_cast<void>(boolean());
            break;
        case Type::number:
            static_cast<void>(number());
            break;
        case Type::string:
            static_cast<void>(string_content());
            break;
        case Type::array:
            elements([this] { static_cast<void>(value()); });
            break;
        case Type::object:
            members([this](std::string_view) { static_cast<void>(value()); });
            break;
    }
    return text_.substr(begin, at_ - begin);
}

void JsonReader::end() {
    skip_blanks();
    if (!at_end()) malformed("something follows the end");
}

std::string_view name_of(JsonReader::Type type) noexcept {
    switch (type) {
        case JsonReader::Type::null:
            return "null";
        case JsonReader::Type::boolean:
            return "boolean";
        case JsonReader::Type::number:
            return "number";
        case JsonReader::Type::string:
            return "string";
        case JsonReader::Type::array:
            return "array";
        case JsonReader::Type::object:
            return "object";
    }
    return {};
}

}  // namespace coalesce
