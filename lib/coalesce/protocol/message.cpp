// SPDX-License-Identifier: MIT
#include <coalesce/protocol/message.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include <coalesce/command/utf8.h>
#include <coalesce/protocol/json_text.h>

namespace coalesce {
namespace {

std::string_view skip_blanks(std::string_view text) {
    const std::size_t start = text.find_first_not_of(" \t\r\n");
    return start == std::string_view::npos ? std::string_view() : text.substr(start);
}

// Cuts one JSON value off the front. Brackets are counted and strings skipped, no
// more: what is inside is looked at by whoever asks for it.
std::optional<std::string_view> take_value(std::string_view& text) {
    std::size_t depth = 0;
    bool in_string = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char byte = text[i];
        if (in_string) {
            if (byte == '\\')
                ++i;
            else if (byte == '"')
                in_string = false;
            continue;
        }
        if (byte == '"') {
            in_string = true;
        } else if (byte == '{' || byte == '[') {
            ++depth;
        } else if (depth > 0 && (byte == '}' || byte == ']')) {
            --depth;
        } else if (depth == 0 && (byte == ',' || byte == '}' || byte == ']' || byte == ':')) {
            std::string_view value = text.substr(0, i);
            text.remove_prefix(i);
            while (!value.empty() && (value.back() == ' ' || value.back() == '\t')) value.remove_suffix(1);
            return value.empty() ? std::nullopt : std::optional(value);
        }
    }
    return std::nullopt;
}

// "a,b]" or "k:v,k:v}": calls `take` for each element until the closing bracket.
template <class Take>
bool take_list(std::string_view text, char open, char close, Take take) {
    text = skip_blanks(text);
    if (!text.starts_with(open)) return false;
    text = skip_blanks(text.substr(1));
    if (text.starts_with(close)) return true;
    while (true) {
        if (!take(text)) return false;
        text = skip_blanks(text);
        if (text.starts_with(close)) return true;
        if (!text.starts_with(',')) return false;
        text = skip_blanks(text.substr(1));
    }
}

void append_utf8(std::string& out, unsigned code) {
    if (code < 0x80) {
        out += static_cast<char>(code);
    } else if (code < 0x800) {
        out += static_cast<char>(0xC0 | code >> 6);
        out += static_cast<char>(0x80 | (code & 0x3F));
    } else {
        out += static_cast<char>(0xE0 | code >> 12);
        out += static_cast<char>(0x80 | (code >> 6 & 0x3F));
        out += static_cast<char>(0x80 | (code & 0x3F));
    }
}

}  // namespace

void Message::name(std::string_view name) {
    if (text_.size() > 1) text_ += ',';
    text_ += '"';
    text_ += name;
    text_ += "\":";
}

Message& Message::text(std::string_view member, std::string_view value) {
    name(member);
    text_ += '"';
    if (is_utf8(value))
        append_json_escaped(text_, value);
    else
        for (const char byte : value)
            append_json_escaped(text_, static_cast<unsigned char>(byte) < 0x80 ? std::string_view(&byte, 1) : "?");
    text_ += '"';
    return *this;
}

Message& Message::texts(std::string_view member, const std::vector<std::string>& values) {
    name(member);
    char before = '[';
    for (const std::string& value : values) {
        text_ += std::exchange(before, ',');
        text_ += '"';
        append_json_escaped(text_, value);
        text_ += '"';
    }
    text_ += values.empty() ? "[]" : "]";
    return *this;
}

Message& Message::number(std::string_view member, std::int64_t value) { return raw(member, std::to_string(value)); }

Message& Message::seconds(std::string_view member, double value) {
    // Not by printf: what it takes to print any double costs a supervisor, which does it
    // once, a fiftieth of its time in page faults.
    constexpr double most = 1e12;  // seconds: 30,000 years
    const std::int64_t micros = std::llround(std::clamp(value, -most, most) * 1e6);
    const std::string decimals = std::to_string(std::abs(micros) % 1'000'000);
    return raw(member, (micros < 0 ? "-" : "") + std::to_string(std::abs(micros) / 1'000'000) + "." +
                           std::string(6 - decimals.size(), '0') + decimals);
}

Message& Message::flag(std::string_view member, bool value) { return raw(member, value ? "true" : "false"); }

Message& Message::raw(std::string_view member, std::string_view value) {
    name(member);
    text_ += value;
    return *this;
}

Message& Message::error(std::string_view code, std::string_view why) {
    return raw("error", Message().text("code", code).text("message", why).text_ + "}");
}

std::string Message::line() {
    text_ += "}\n";
    return std::exchange(text_, "{");
}

std::optional<Fields> Fields::parse(std::string_view line) {
    Fields fields;
    const bool whole = take_list(line, '{', '}', [&](std::string_view& text) {
        const auto name = take_value(text);
        if (!name || name->size() < 2 || name->front() != '"' || !skip_blanks(text).starts_with(':')) return false;
        text = skip_blanks(skip_blanks(text).substr(1));
        const auto value = take_value(text);
        if (!value) return false;
        fields.members_.emplace_back(name->substr(1, name->size() - 2), *value);
        return true;
    });
    if (!whole) return std::nullopt;
    return fields;
}

const std::string_view* Fields::find(std::string_view name) const {
    for (const auto& [member, value] : members_)
        if (member == name) return &value;
    return nullptr;
}

std::string_view Fields::raw(std::string_view name) const {
    const std::string_view* const value = find(name);
    return value == nullptr ? std::string_view() : *value;
}

std::string Fields::text(std::string_view name) const { return json_string_value(raw(name)); }

std::int64_t Fields::number(std::string_view name, std::int64_t otherwise) const {
    const std::string_view value = raw(name);
    std::int64_t number = otherwise;
    std::from_chars(value.data(), value.data() + value.size(), number);
    return number;
}

double Fields::seconds(std::string_view name) const {
    const std::string_view value = raw(name);
    double number = 0;
    std::from_chars(value.data(), value.data() + value.size(), number);
    return number;
}

bool Fields::flag(std::string_view name) const { return raw(name) == "true"; }

std::vector<std::string_view> json_elements(std::string_view array) {
    std::vector<std::string_view> elements;
    take_list(array, '[', ']', [&](std::string_view& text) {
        const auto value = take_value(text);
        if (value) elements.push_back(*value);
        return value.has_value();
    });
    return elements;
}

std::string json_string_value(std::string_view json) {
    std::string value;
    if (json.size() < 2 || json.front() != '"') return value;
    json = json.substr(1, json.size() - 2);
    for (std::size_t i = 0; i < json.size(); ++i) {
        if (json[i] != '\\' || i + 1 == json.size()) {
            value += json[i];
            continue;
        }
        switch (const char escape = json[++i]) {
            case 'n':
                value += '\n';
                break;
            case 't':
                value += '\t';
                break;
            case 'r':
                value += '\r';
                break;
            case 'b':
                value += '\b';
                break;
            case 'f':
                value += '\f';
                break;
            case 'u': {
                unsigned code = 0;
                const std::string_view digits = json.substr(std::min(i + 1, json.size()), 4);
                std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
                append_utf8(value, code);
                i += digits.size();
                break;
            }
            default:
                value += escape;
        }
    }
    return value;
}

}  // namespace coalesce
