// SPDX-License-Identifier: MIT
// Members: what a value says in a message, named once for who writes it and who reads it.
//
// A function names each member of a value with its name in the message, and is called with a MemberWriter or a
// MemberReader: so nothing is written that is not read, nor the other way round. It takes the value apart by a
// structured binding, which must name all there is: a member that is added later does not compile before it has been
// decided whether it is told.
#pragma once

#include <coalesce/command/run_class.h>
#include <coalesce/command/terminal_size.h>
#include <coalesce/protocol/base64.h>
#include <coalesce/protocol/message.h>

#include <chrono>
#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace coalesce {

class MemberWriter {
  public:
    explicit MemberWriter(Message& message) : message_(message) {}

    void operator()(std::string_view name, const std::string& value) { message_.bytes(name, value); }
    void operator()(std::string_view name, const std::vector<std::string>& values) { message_.bytes(name, values); }
    void operator()(std::string_view name, bool value) { message_.flag(name, value); }
    void operator()(std::string_view name, std::chrono::milliseconds time) { message_.number(name, time.count()); }
    void operator()(std::string_view name, TerminalSize size) { message_.text(name, text_of(size)); }
    void operator()(std::string_view name, const RunClass& run_class) { message_.text(name, text_of(run_class)); }
    void operator()(std::string_view name, const ClassJobs& jobs) {
        std::vector<std::string> classes;
        for (const auto& [class_name, number] : jobs) classes.push_back(text_of({class_name, number}));
        message_.bytes(name, classes);
    }
    void operator()(std::string_view name, std::unsigned_integral auto number) {
        message_.number(name, static_cast<std::int64_t>(number));
    }
    template <class T>
    void operator()(std::string_view name, const std::optional<T>& value) {
        if (value) (*this)(name, *value);
    }

  private:
    Message& message_;
};

/// What is missing stays as it is.
class MemberReader {
  public:
    explicit MemberReader(const Fields& fields) : fields_(fields) {}

    void operator()(std::string_view name, std::string& value) {
        if (auto bytes = fields_.bytes(name)) value = std::move(*bytes);
    }
    void operator()(std::string_view name, std::vector<std::string>& values) {
        for (const std::string_view element : json_elements(fields_.raw(name)))
            values.push_back(json_string_value(element));
        for (const std::string_view element : json_elements(fields_.raw(in_base64(name))))
            values.push_back(from_base64(json_string_value(element)).value_or(""));
    }
    void operator()(std::string_view name, bool& value) {
        if (fields_.has(name)) value = fields_.flag(name);
    }
    void operator()(std::string_view name, std::chrono::milliseconds& time) {
        if (fields_.has(name)) time = std::chrono::milliseconds(fields_.number(name));
    }
    void operator()(std::string_view name, TerminalSize& size) {
        if (const auto read = parse_terminal_size(fields_.text(name))) size = read.value();
    }
    void operator()(std::string_view name, RunClass& run_class) {
        if (auto read = parse_run_class(fields_.text(name))) run_class = std::move(read.value());
    }
    void operator()(std::string_view name, ClassJobs& jobs) {
        std::vector<std::string> classes;
        (*this)(name, classes);
        for (const std::string& text : classes)
            if (const auto read = parse_run_class(text)) jobs[read.value().name] = read.value().jobs;
    }
    template <std::unsigned_integral Number>
    void operator()(std::string_view name, Number& number) {
        if (fields_.has(name)) number = static_cast<Number>(fields_.number(name));
    }
    template <class T>
    void operator()(std::string_view name, std::optional<T>& value) {
        if (fields_.has(name) || fields_.has(in_base64(name))) (*this)(name, value.emplace());
    }

  private:
    static std::string in_base64(std::string_view name) { return std::string(name).append(base64_ending); }
    const Fields& fields_;
};

}  // namespace coalesce
