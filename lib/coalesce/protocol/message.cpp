// SPDX-License-Identifier: MIT
#include <coalesce/protocol/message.h>

#include <coalesce/command/utf8.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include <coalesce/protocol/json_reader.h>
#include <coalesce/protocol/base64.h>
#include <coalesce/protocol/json_text.h>

namespace coalesce {

using std::chrono::microseconds;

void Message::name(std::string_view name, std::string_view ending) {
    if (text_.size() > 1) text_ += ',';
    text_.append("\"").append(name).append(ending).append("\":");
}

Message& Message::text(std::string_view member, std::string_view value) {
    name(member);
    append_json_string(text_, value);
    return *this;
}

Message& Message::bytes(std::string_view member, std::string_view value) {
    if (is_utf8(value)) return text(member, value);
    name(member, base64_ending);
    text_ += '"';
    append_base64(text_, value);
    text_ += '"';
    return *this;
}

Message& Message::bytes(std::string_view member, const std::vector<std::string>& values) {
    const bool is_text = std::all_of(values.begin(), values.end(), is_utf8);
    name(member, is_text ? std::string_view() : base64_ending);
    text_ += '[';
    for (const std::string& value : values) {
        text_ += &value == values.data() ? "\"" : ",\"";
        if (is_text)
            append_json_escaped(text_, value);
        else
            append_base64(text_, value);
        text_ += '"';
    }
    text_ += ']';
    return *this;
}

Message& Message::number(std::string_view member, std::int64_t value) { return raw(member, std::to_string(value)); }

Message& Message::seconds(std::string_view member, double value) {
    constexpr double most = 1e12;  // 30,000 years
    return raw(member, json_seconds(microseconds(std::llround(std::clamp(value, -most, most) * 1e6))));
}

Message& Message::seconds(std::string_view member, std::chrono::nanoseconds value) {
    return raw(member, json_seconds(std::chrono::duration_cast<microseconds>(value)));
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

std::string Message::object() {
    text_ += '}';
    return std::exchange(text_, "{");
}

std::string Message::line() { return object() + '\n'; }

std::string Message::members() {
    text_.erase(0, 1);
    return std::exchange(text_, "{");
}

// Not by printf: what it takes to print any double costs a supervisor, which does it
// once, a fiftieth of its time in page faults.
std::string json_seconds(microseconds time) {
    const std::int64_t micros = time.count();
    const std::string decimals = std::to_string(std::abs(micros % 1'000'000));
    return (micros < 0 ? "-" : "") + std::to_string(std::abs(micros / 1'000'000)) + "." +
           std::string(6 - decimals.size(), '0') + decimals;
}

std::optional<Fields> Fields::parse(std::string_view line) {
    Fields fields;
    try {
        JsonReader reader(line);
        reader.members([&](std::string_view name) { fields.members_.emplace_back(name, reader.value()); });
        reader.end();
    } catch (const JsonReader::Malformed&) {
        return std::nullopt;
    }
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

std::vector<std::string> Fields::names() const {
    std::vector<std::string> names;
    for (const auto& [name, value] : members_) names.push_back(name);
    return names;
}

std::string Fields::text(std::string_view name) const { return json_string_value(raw(name)); }

std::optional<std::string> Fields::bytes(std::string_view name) const {
    const std::string encoded = std::string(name) + std::string(base64_ending);
    if (has(encoded)) return from_base64(text(encoded)).value_or("");
    return has(name) ? std::optional(text(name)) : std::nullopt;
}

std::int64_t Fields::number(std::string_view name) const {
    const std::string_view value = raw(name);
    std::int64_t number = 0;
    std::from_chars(value.data(), value.data() + value.size(), number);
    return number;
}

double Fields::seconds(std::string_view name) const {
    const std::string_view value = raw(name);
    double number = 0;
    std::from_chars(value.data(), value.data() + value.size(), number);
    return number;
}

std::chrono::milliseconds Fields::time(std::string_view name) const {
    return std::chrono::milliseconds(static_cast<std::int64_t>(seconds(name) * 1000));
}

bool Fields::flag(std::string_view name) const { return raw(name) == "true"; }

std::vector<std::string_view> json_elements(std::string_view array) {
    std::vector<std::string_view> elements;
    try {
        JsonReader reader(array);
        reader.elements([&] { elements.push_back(reader.value()); });
    } catch (const JsonReader::Malformed&) {
        return {};
    }
    return elements;
}

std::string json_string_value(std::string_view json) {
    if (!json.starts_with('"')) return {};
    try {
        return JsonReader(json).string();
    } catch (const JsonReader::Malformed&) {
        return {};
    }
}

}  // namespace coalesce
