// SPDX-License-Identifier: MIT
// Message and Fields: one line of the protocol, written and read.
//
// Requests that come from anybody are judged field by field, by parse_request(). What a
// requester hears from its supervisor is read by Fields: it splits one JSON object into
// its members and interprets only those asked for. A wrapper lives for a millisecond, and
// a whole JSON library costs it a third of that in page faults.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace coalesce {

/// What is added to a field's name where its value is in base64.
inline constexpr std::string_view base64_ending = "_base64";

/// Builds one JSON object on one line.
class Message {
  public:
    /// A string; each byte that is not UTF-8 becomes U+FFFD.
    Message& text(std::string_view name, std::string_view value);
    /// A string, byte for byte: what is not UTF-8 goes in base64, as `name`_base64.
    Message& bytes(std::string_view name, std::string_view value);
    /// An array of strings, byte for byte: all in base64 where one is not UTF-8.
    Message& bytes(std::string_view name, const std::vector<std::string>& values);
    Message& number(std::string_view name, std::int64_t value);
    /// Six decimals.
    Message& seconds(std::string_view name, double value);
    Message& seconds(std::string_view name, std::chrono::nanoseconds value);  ///< what is less is cut off
    Message& flag(std::string_view name, bool value);
    /// A member whose value is JSON already.
    Message& raw(std::string_view name, std::string_view value);
    /// The member "error": why something was refused.
    Message& error(std::string_view code, std::string_view why);
    /// The object, to be a member of another. The message is empty after that.
    [[nodiscard]] std::string object();
    /// The same and its newline.
    [[nodiscard]] std::string line();
    /// The members alone, for an object that is written piece by piece.
    [[nodiscard]] std::string members();

  private:
    void name(std::string_view name, std::string_view ending = {});
    std::string text_ = "{";
};

/// Seconds with six decimals. Of whole numbers: a double would lose the last digits of a date.
[[nodiscard]] std::string json_seconds(std::chrono::microseconds time);

/// The members of one JSON object, whose text it points into. Of a name that is given
/// twice the first counts.
class Fields {
  public:
    /// Nothing for what is no JSON object on one line.
    static std::optional<Fields> parse(std::string_view line);

    /// In the order in which they came.
    [[nodiscard]] std::vector<std::string> names() const;
    [[nodiscard]] bool has(std::string_view name) const { return find(name) != nullptr; }
    /// The member as a string; empty if it is missing or of another type.
    [[nodiscard]] std::string text(std::string_view name) const;
    /// What Message::bytes() wrote: the member as text, or as base64 where it could not be; nothing if it is missing.
    [[nodiscard]] std::optional<std::string> bytes(std::string_view name) const;
    /// The member as a number; 0 if it is missing or of another type.
    [[nodiscard]] std::int64_t number(std::string_view name) const;
    [[nodiscard]] double seconds(std::string_view name) const;
    /// The same as a time.
    [[nodiscard]] std::chrono::milliseconds time(std::string_view name) const;
    [[nodiscard]] bool flag(std::string_view name) const;
    /// The member's JSON text; empty if it is missing.
    [[nodiscard]] std::string_view raw(std::string_view name) const;

  private:
    [[nodiscard]] const std::string_view* find(std::string_view name) const;
    std::vector<std::pair<std::string, std::string_view>> members_;  // names unescaped, values as they came
};

/// The elements of a JSON array, as JSON text; none of what is no array.
[[nodiscard]] std::vector<std::string_view> json_elements(std::string_view array);
/// The string that a JSON string means; empty for what is none.
[[nodiscard]] std::string json_string_value(std::string_view json);

}  // namespace coalesce
