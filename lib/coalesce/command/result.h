// SPDX-License-Identifier: MIT
// Result<T>: what an operation returns that the world can refuse.
//
// Three kinds of failure are kept apart: a command that fails is data (an
// Outcome), an operation the world refused is an Error, and a broken invariant
// aborts. Nothing here logs; `doing` is the sentence a user will read.
#pragma once

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>
#include <variant>

namespace coalesce {

/// Why an operation was refused.
struct Error {
    std::error_code code;  ///< what callers branch on
    std::string doing;     ///< what was attempted, naming the culprit: "open /var/x"

    /// "open /var/x: No such file or directory"; just `doing` where there is no code, or one without words.
    [[nodiscard]] std::string message() const {
        const std::string why = code ? code.message() : std::string{};
        return why.empty() ? doing : doing + ": " + why;
    }
};

/// The error of the system call that just failed. Reads errno, so call it first.
[[nodiscard]] inline Error system_error_now(std::string doing) {
    return {std::error_code(errno, std::system_category()), std::move(doing)};
}

/// The error with this errno value.
[[nodiscard]] inline Error system_error_of(int errno_value, std::string doing) {
    return {std::error_code(errno_value, std::system_category()), std::move(doing)};
}

/// A T, or the Error that kept it from being made. Asking for the one that is
/// not there throws std::bad_variant_access: a broken invariant, never control flow.
template <class T = std::monostate>
class [[nodiscard]] Result {
  public:
    Result() requires std::is_same_v<T, std::monostate> {}
    Result(T value) : value_(std::move(value)) {}
    Result(Error error) : value_(std::move(error)) {}

    [[nodiscard]] bool ok() const noexcept { return value_.index() == 0; }
    explicit operator bool() const noexcept { return ok(); }

    [[nodiscard]] T& value() & { return std::get<0>(value_); }
    [[nodiscard]] const T& value() const& { return std::get<0>(value_); }
    [[nodiscard]] T&& value() && { return std::get<0>(std::move(value_)); }
    T* operator->() { return &value(); }
    T& operator*() & { return value(); }
    T&& operator*() && { return std::move(*this).value(); }

    [[nodiscard]] const Error& error() const { return std::get<1>(value_); }

  private:
    std::variant<T, Error> value_;
};

}  // namespace coalesce
