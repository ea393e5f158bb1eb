// SPDX-License-Identifier: MIT
// Landing: how a flight ended, as every requester sees it.
//
// One value or one exception, never both and never neither. The value is
// shared and const, because all requesters hold the same object: there is no
// copy to mutate. T may be void, move-only or not default-constructible. What
// the run did on the way (its output, its process) is not here but in the
// flight's State.
#pragma once

#include <cstddef>
#include <exception>
#include <memory>
#include <system_error>
#include <type_traits>
#include <variant>

namespace coalesce {

/// What a T is stored as: itself, or std::monostate for void.
template <class T>
using Payload = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

/// The end of a flight. Exactly one of `value` and `error` is set.
template <class T>
struct Landing {
    std::shared_ptr<const Payload<T>> value;
    std::exception_ptr error;
    std::size_t requesters = 0;  ///< how many asked, from the leader to the last who joined, gone or not

    /// The value, or throws the error with its own type.
    [[nodiscard]] const std::shared_ptr<const Payload<T>>& get() const {
        if (error) std::rethrow_exception(error);
        return value;
    }
};

namespace detail {

inline std::exception_ptr system_error_ptr(std::errc code, const char* what) {
    return std::make_exception_ptr(std::system_error(std::make_error_code(code), what));
}

/// The value of a T that is void: one for all, which costs no count and no allocation.
inline std::shared_ptr<const std::monostate> shared_nothing() noexcept {
    static constexpr std::monostate kNothing{};
    return {std::shared_ptr<const void>(), &kNothing};
}

/// What everybody gets when there is no run to wait for any more.
inline std::exception_ptr cancelled_error() {
    return system_error_ptr(std::errc::operation_canceled, "the flight was cancelled");
}

/// What a requester gets that would wait for itself.
inline std::exception_ptr deadlock_error() {
    return system_error_ptr(std::errc::resource_deadlock_would_occur, "would wait for itself");
}

}  // namespace detail
}  // namespace coalesce
