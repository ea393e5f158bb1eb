// SPDX-License-Identifier: MIT
// memoize_concurrent for threads: a function whose concurrent calls with equal
// arguments, from any threads, are one call that everybody waits for.
//
//     auto fetch = memoize_concurrent([](std::string_view url) { return download(url); });
//     std::shared_ptr<const Page> page = fetch("http://…");
//
// The function returns a value or a std::future, runs on the thread that came
// first, and may be entered by several threads for different arguments. A result
// is a shared_ptr<const T>, or nothing for void; an exception reaches every
// caller with its own type. Nothing is kept once a call has ended. Keys are
// those of the loop form (memoize.h), and so is the key function. A call that
// would wait for itself throws resource_deadlock_would_occur (blocking_group.h).
#pragma once

#include <coalesce/flight/argument_key.h>
#include <coalesce/flight/blocking_group.h>
#include <coalesce/flight/executor.h>
#include <coalesce/flight/result_of.h>
#include <coalesce/flight/signature.h>

#include <concepts>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <type_traits>
#include <typeindex>
#include <unordered_map>
#include <utility>

namespace coalesce {
namespace detail {

/// The calls of one function with parameters of these types.
template <class Fn, class KeyOf, class... Parameters>
class BlockingCalls {
    using KeyMaker = CallKey<KeyOf, std::remove_cvref_t<Parameters>...>;

  public:
    using Returned = std::invoke_result_t<Fn&, Parameters...>;
    using T = typename ResultOf<Returned>::type;
    using Calls = BlockingGroup<typename KeyMaker::Key, T, ArgumentHash>;

    BlockingCalls(Fn& fn, const KeyOf& key_of) : fn_(fn), key_of_(key_of) {}

    typename Calls::Result call(Parameters&&... arguments) {
        return KeyMaker::with(
            key_of_,
            [&](auto&& key) {
                return group_.call(std::forward<decltype(key)>(key), [&]() -> Returned {
                    return std::invoke(fn_, std::forward<Parameters>(arguments)...);
                });
            },
            arguments...);
    }

    bool forget(const std::remove_cvref_t<Parameters>&... arguments) {
        return KeyMaker::with(
            key_of_, [&](const auto& key) { return group_.forget(key); }, arguments...);
    }

    [[nodiscard]] std::size_t requesters(const std::remove_cvref_t<Parameters>&... arguments) const {
        return KeyMaker::with(
            key_of_, [&](const auto& key) { return group_.requesters(key); }, arguments...);
    }

    [[nodiscard]] std::size_t size() const { return group_.size(); }

  private:
    Fn& fn_;
    const KeyOf& key_of_;
    Calls group_;
};

}  // namespace detail

/// A function of one signature whose concurrent equal calls are shared between
/// threads. Made by memoize_concurrent; neither copied nor moved.
template <class Fn, class KeyOf, class Parameters>
class BlockingMemoized;

template <class Fn, class KeyOf, class... Parameters>
class BlockingMemoized<Fn, KeyOf, detail::ParameterList<Parameters...>> {
    using Calls = detail::BlockingCalls<Fn, KeyOf, Parameters...>;

  public:
    template <class F>
    BlockingMemoized(F&& fn, KeyOf key_of)
        : fn_(std::forward<F>(fn)), key_of_(std::move(key_of)), calls_(fn_, key_of_) {}
    BlockingMemoized(const BlockingMemoized&) = delete;
    BlockingMemoized& operator=(const BlockingMemoized&) = delete;

    /// Waits for the call with equal arguments that is in flight, or makes it.
    typename Calls::Calls::Result operator()(Parameters... arguments) {
        return calls_.call(std::forward<Parameters>(arguments)...);
    }
    /// As BlockingGroup::forget.
    bool forget(const std::remove_cvref_t<Parameters>&... arguments) { return calls_.forget(arguments...); }
    /// As BlockingGroup::requesters.
    [[nodiscard]] std::size_t requesters(const std::remove_cvref_t<Parameters>&... arguments) const {
        return calls_.requesters(arguments...);
    }
    /// How many different calls are in flight.
    [[nodiscard]] std::size_t size() const { return calls_.size(); }

  private:
    Fn fn_;
    KeyOf key_of_;
    Calls calls_;
};

/// The same for a function without one signature: each list of argument types
/// is a function of its own. Strings in any form are std::string to it.
template <class Fn, class KeyOf>
class BlockingMemoized<Fn, KeyOf, detail::NoParameterList> {
    template <class... Arguments>
    using Calls = detail::BlockingCalls<Fn, KeyOf, typename detail::Argument<std::decay_t<Arguments>>::Owned...>;

  public:
    template <class F>
    BlockingMemoized(F&& fn, KeyOf key_of) : fn_(std::forward<F>(fn)), key_of_(std::move(key_of)) {}
    BlockingMemoized(const BlockingMemoized&) = delete;
    BlockingMemoized& operator=(const BlockingMemoized&) = delete;

    /// Waits for the call with equal arguments that is in flight, or makes it.
    template <class... Arguments>
    auto operator()(Arguments&&... arguments) {
        return calls<Arguments...>().call(
            typename detail::Argument<std::decay_t<Arguments>>::Owned(std::forward<Arguments>(arguments))...);
    }

  private:
    template <class... Arguments>
    Calls<Arguments...>& calls() {
        using Of = Calls<Arguments...>;
        const std::lock_guard lock(mutex_);
        auto& some = calls_[std::type_index(typeid(Of))];
        if (!some) some = std::make_shared<Of>(fn_, key_of_);
        return *static_cast<Of*>(some.get());
    }

    Fn fn_;
    KeyOf key_of_;
    std::mutex mutex_;
    std::unordered_map<std::type_index, std::shared_ptr<void>> calls_;  // under the mutex; what it holds stays
};

/// Makes `fn` a function whose concurrent calls with equal arguments, from any
/// threads, share one call and one result. `key_of`, if given, makes the key of
/// the same arguments.
template <class Fn, class KeyOf = AllArguments>
requires(!std::derived_from<std::remove_cvref_t<Fn>, Executor>)
    [[nodiscard]] auto memoize_concurrent(Fn&& fn, KeyOf key_of = {}) {
    using Function = std::decay_t<Fn>;
    return BlockingMemoized<Function, KeyOf, detail::Parameters<Function>>(std::forward<Fn>(fn), std::move(key_of));
}

}  // namespace coalesce
