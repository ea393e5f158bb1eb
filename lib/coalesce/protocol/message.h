// SPDX-License-Identifier: MIT
// Message and Fields: one line of the protocol, written and read.
//
// Requests that come from anybody are parsed strictly, by parse_request(). What a
// requester hears from its supervisor is read by Fields: it splits one flat JSON
// object into its members and interprets only those asked for. A wrapper lives for
// a millisecond, and a whole JSON library costs it a third of that in page faults.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace coalesce {

/// Builds one JSON object on one line.
class Message {
  public:
    Message& text(std::string_view name, std::string_view value);
    /// An array of strings. What is no UTF-8 is left to the other side to refuse.
    Message& texts(std::string_view name, const std::vector<std::string>& values);
    Message& number(std::string_view name, std::int64_t value);
    /// Six decimals.
    Message& seconds(std::string_view name, double value);
    Message& flag(std::string_view name, bool value);
    /// A member whose value is JSON already.
    Message& raw(std::string_view name, std::string_view value);
    /// The member "error": why something was refused.
    Message& error(std::string_view code, std::string_view why);
    /// The object and its newline. The message is empty after that.
    [[nodiscard]] std::string line();

  private:
    void name(std::string_view name);
    std::string text_ = "{";
};

/// The members of one JSON object, whose text it points into.
class Fields {
  public:
    /// Nothing for what is no JSON object on one line.
    static std::optional<Fields> parse(std::string_view line);

    [[nodiscard]] bool has(std::string_view name) const { return find(name) != nullptr; }
    /// The member as a string; empty if it is missing or of another type.
    [[nodiscard]] std::string text(std::string_view name) const;
    [[nodiscard]] std::int64_t number(std::string_view name, std::int64_t otherwise = 0) const;
    [[nodiscard]] double seconds(std::string_view name) const;
    [[nodiscard]] bool flag(std::string_view name) const;
    /// The member's JSON text; empty if it is missing.
    [[nodiscard]] std::string_view raw(std::string_view name) const;

  private:
    [[nodiscard]] const std::string_view* find(std::string_view name) const;
    std::vector<std::pair<std::string_view, std::string_view>> members_;
};

/// The elements of a JSON array, as JSON text.
[[nodiscard]] std::vector<std::string_view> json_elements(std::string_view array);
/// The string that a JSON string means. Lenient: a malformed escape stands for itself.
[[nodiscard]] std::string json_string_value(std::string_view json);

}  // namespace coalesce
