// SPDX-License-Identifier: MIT
// ResultOf: what a call leads to, whatever it returns. Internal to memoize.
//
// A plain value is the result; a std::future or an awaitable promises one. A
// reference is kept as a std::reference_wrapper, since a result that is shared
// would otherwise be a copy nobody asked for.
#pragma once

#include <concepts>
#include <coroutine>
#include <functional>
#include <future>
#include <type_traits>
#include <utility>

namespace coalesce::detail {

template <class T>
concept HasAwaiter = requires(T&& awaiter) {
    { awaiter.await_ready() } -> std::convertible_to<bool>;
    awaiter.await_resume();
};

/// The awaiter that co_await makes of a T, as far as its type goes.
template <class T>
decltype(auto) awaiter_of(T&& awaitable) {
    if constexpr (requires { std::forward<T>(awaitable).operator co_await(); })
        return std::forward<T>(awaitable).operator co_await();
    else if constexpr (requires { operator co_await(std::forward<T>(awaitable)); })
        return operator co_await(std::forward<T>(awaitable));
    else
        return std::forward<T>(awaitable);
}

template <class T>
concept Awaitable = HasAwaiter<T> || requires(T&& awaitable) {
    std::forward<T>(awaitable).operator co_await();
} || requires(T&& awaitable) {
    operator co_await(std::forward<T>(awaitable));
};

template <class Future>
struct FutureValue;
template <class T>
struct FutureValue<std::future<T>> {
    using type = T;
};
template <class T>
struct FutureValue<std::shared_future<T>> {
    using type = T;
};

template <class T>
concept Future = requires {
    typename FutureValue<std::remove_cvref_t<T>>::type;
};

/// A value to keep: no reference, no const.
template <class T>
using Kept = std::conditional_t<std::is_lvalue_reference_v<T>, std::reference_wrapper<std::remove_reference_t<T>>,
                                std::remove_cvref_t<T>>;

template <class T>
struct ResultOf {
    using type = Kept<T>;
};
template <>
struct ResultOf<void> {
    using type = void;
};
template <Future T>
struct ResultOf<T> {
    using type = typename ResultOf<typename FutureValue<std::remove_cvref_t<T>>::type>::type;
};
template <Awaitable T>
struct ResultOf<T> {
    using type = typename ResultOf<decltype(awaiter_of(std::declval<T>()).await_resume())>::type;
};

}  // namespace coalesce::detail
