// SPDX-License-Identifier: MIT
// memoize_concurrent on a loop: a function whose concurrent calls with equal
// arguments are one call.
//
//     auto fetch = memoize_concurrent(executor, [](std::string_view url) -> Task<Page> { … });
//     Ticket<Page> ticket = fetch("http://…");   // joins here, not at co_await
//
// Nothing is kept once a call has ended: the next one runs again. The function
// may return a value, an awaitable (a coroutine's task, another ticket), or a
// std::future; the ticket is consumed by a callback, by co_await or as a
// std::shared_future. An exception reaches every caller with its own type. The
// function is called inside the call that leads; a coroutine's arguments and a
// future's live until it has ended, whatever became of the caller's. If its last
// parameter is a std::stop_token it is stopped when nobody waits any more.
//
// Equal arguments are those of argument_key.h, or what a key function of the
// same arguments makes of them; it is needed where an argument cannot be copied
// or hashed. A function that returns a std::future needs a ThreadSafeExecutor
// (future_watch.h). Threads that block use blocking_memoize.h. Refused: a
// decorator that caches, which would have to be told when a result is stale.
#pragma once

#include <coalesce/flight/argument_key.h>
#include <coalesce/flight/await_ticket.h>
#include <coalesce/flight/executor.h>
#include <coalesce/flight/future_watch.h>
#include <coalesce/flight/group.h>
#include <coalesce/flight/result_of.h>
#include <coalesce/flight/signature.h>
#include <coalesce/flight/task.h>

#include <concepts>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <stop_token>
#include <tuple>
#include <type_traits>
#include <typeindex>
#include <unordered_map>
#include <utility>

namespace coalesce {
namespace detail {

/// The calls of one function with parameters of these types.
template <class Fn, class KeyOf, bool kStoppable, class... Parameters>
class LoopCalls {
    static_assert(((!std::is_lvalue_reference_v<Parameters> ||
                    std::is_const_v<std::remove_reference_t<Parameters>>)&&...),
                  "a parameter is a non-const reference: take a std::reference_wrapper instead");

  public:
    using Returned = typename ReturnOf<kStoppable, Fn, Passed<Parameters>...>::type;
    using T = typename ResultOf<Returned>::type;
    static_assert(
        !(Future<Returned> || Awaitable<Returned>) ||
            ((!std::is_lvalue_reference_v<Parameters> ||
              std::is_same_v<std::decay_t<Parameters>, typename Argument<std::decay_t<Parameters>>::Owned>)&&...),
        "a parameter is a reference to a view, which would not live until the result is there: take the view "
        "itself");

    template <std::derived_from<Executor> E>
    LoopCalls(E& executor, std::shared_ptr<Fn> fn, const KeyOf& key_of)
        : fn_(std::move(fn)), key_of_(key_of), group_(executor) {
        if constexpr (kReturnsFuture) {
            static_assert(std::derived_from<E, ThreadSafeExecutor>,
                          "a function that returns a std::future needs a ThreadSafeExecutor");
            watch_ = std::make_shared<Watch>(executor);
        }
    }

    [[nodiscard]] Ticket<T> join(const JoinOptions& options, Parameters&&... arguments) {
        return KeyMaker::with(
            key_of_,
            [&](auto&& key) {
                return group_.join(std::forward<decltype(key)>(key),
                                   Start{this, {std::forward<Parameters>(arguments)...}}, options);
            },
            arguments...);
    }

    bool forget(const std::remove_cvref_t<Parameters>&... arguments) {
        return KeyMaker::with(
            key_of_, [&](const auto& key) { return group_.forget(key); }, arguments...);
    }
    std::size_t cancel(const std::remove_cvref_t<Parameters>&... arguments) {
        return KeyMaker::with(
            key_of_, [&](const auto& key) { return group_.cancel(key); }, arguments...);
    }

    [[nodiscard]] std::size_t size() const noexcept { return group_.size(); }
    [[nodiscard]] const GroupStats& stats() const noexcept { return group_.stats(); }

  private:
    static constexpr bool kReturnsFuture = Future<Returned>;

    using KeyMaker = CallKey<KeyOf, std::remove_cvref_t<Parameters>...>;
    using Owned = OwnedArguments<Parameters...>;
    using FutureOf = std::conditional_t<kReturnsFuture, std::remove_cvref_t<Returned>, std::future<void>>;
    using Watch = FutureWatch<FutureOf, UniqueFunction<void(FutureOf)>>;

    // Refers to the caller's arguments; own() keeps them for a start that must wait.
    struct Start {
        LoopCalls* calls;
        std::tuple<Parameters&&...> arguments;

        void operator()(Completer<T> completer) {
            std::apply([&](auto&&... values) { calls->run(std::move(completer), std::forward<Parameters>(values)...); },
                       std::move(arguments));
        }
        auto own() && {
            return [calls = calls, owned = Owned(std::move(arguments))](Completer<T> completer) mutable {
                calls->run_owned(std::move(completer), std::move(owned));
            };
        }
    };

    void run(Completer<T> completer, Parameters&&... arguments) {
        // A plain function has returned before the caller goes on, so the caller's own arguments will do.
        if constexpr (!kReturnsFuture && !Awaitable<Returned>)
            run_plain(std::move(completer), std::forward<Parameters>(arguments)...);
        else
            run_owned(std::move(completer), Owned(std::forward<Parameters>(arguments)...));
    }

    void run_owned(Completer<T> completer, Owned owned) {
        if constexpr (kReturnsFuture)
            watch(std::move(completer), std::make_unique<Owned>(std::move(owned)));
        else if constexpr (Awaitable<Returned>)
            await(fn_, std::move(completer), std::move(owned));
        else
            std::apply([&](auto&... values) { run_plain(std::move(completer), pass<Parameters>(values)...); }, owned);
    }

    // Here and below the function is held by itself, since it may destroy this object.
    template <class... Passing>
    void run_plain(Completer<T> completer, Passing&&... passing) {
        const std::shared_ptr<Fn> fn = fn_;
        if constexpr (std::is_void_v<T>) {
            call(*fn, completer, std::forward<Passing>(passing)...);
            completer.value();
        } else {
            completer.emplace(call(*fn, completer, std::forward<Passing>(passing)...));
        }
    }

    void watch(Completer<T> completer, std::unique_ptr<Owned> owned) {
        const std::shared_ptr<Fn> fn = fn_;
        const std::shared_ptr<Watch> watch = watch_;
        FutureOf future = call_owned(*fn, completer, *owned);
        watch->watch(std::move(future),
                     [completer = std::move(completer), owned = std::move(owned)](FutureOf ready) mutable {
                         try {
                             if constexpr (std::is_void_v<T>) {
                                 ready.get();
                                 completer.value();
                             } else {
                                 completer.emplace(ready.get());
                             }
                         } catch (...) {
                             completer.error(std::current_exception());
                         }
                     });
    }

    // The frame owns function, completer and arguments for as long as the awaitable takes.
    static Unawaited await(std::shared_ptr<Fn> fn, Completer<T> completer, Owned owned) {
        try {
            if constexpr (std::is_void_v<T>) {
                co_await call_owned(*fn, completer, owned);
                completer.value();
            } else {
                // In one expression: what comes back may refer into the awaitable, which ends with it.
                completer.emplace(co_await call_owned(*fn, completer, owned));
            }
        } catch (...) {
            completer.error(std::current_exception());
        }
    }

    static Returned call_owned(Fn& fn, Completer<T>& completer, Owned& owned) {
        return std::apply([&](auto&... values) -> Returned { return call(fn, completer, pass<Parameters>(values)...); },
                          owned);
    }

    template <class... Passing>
    static Returned call(Fn& fn, Completer<T>& completer, Passing&&... passing) {
        if constexpr (kStoppable)
            return std::invoke(fn, std::forward<Passing>(passing)..., completer.stop_token());
        else
            return std::invoke(fn, std::forward<Passing>(passing)...);
    }

    std::shared_ptr<Fn> fn_;
    [[no_unique_address]] KeyOf key_of_;
    std::shared_ptr<Watch> watch_;  // declared before the group: completers it drops find their flights ended
    Group<typename KeyMaker::Key, T, NoState, ArgumentHash> group_;
};

}  // namespace detail

/// A function of one signature whose concurrent equal calls are shared. Made by
/// memoize_concurrent; movable, used on its executor's thread.
template <class Fn, class KeyOf, bool kStoppable, class Parameters>
class Memoized;

template <class Fn, class KeyOf, bool kStoppable, class... Parameters>
class Memoized<Fn, KeyOf, kStoppable, detail::ParameterList<Parameters...>> {
    using Calls = detail::LoopCalls<Fn, KeyOf, kStoppable, Parameters...>;

  public:
    using TicketOf = Ticket<typename Calls::T>;

    template <std::derived_from<Executor> E>
    Memoized(E& executor, std::shared_ptr<Fn> fn, const KeyOf& key_of)
        : calls_(std::make_unique<Calls>(executor, std::move(fn), key_of)) {}

    /// Joins the call with equal arguments that is in flight, or makes it.
    [[nodiscard]] TicketOf operator()(Parameters... arguments) {
        return calls_->join({}, std::forward<Parameters>(arguments)...);
    }
    /// The same with options: a stop token, fresh, on whose behalf.
    [[nodiscard]] TicketOf with(const JoinOptions& options, Parameters... arguments) {
        return calls_->join(options, std::forward<Parameters>(arguments)...);
    }

    /// As Group::forget: who asks from now on calls anew at once.
    bool forget(const std::remove_cvref_t<Parameters>&... arguments) { return calls_->forget(arguments...); }
    /// As Group::cancel: all who wait get operation_canceled.
    std::size_t cancel(const std::remove_cvref_t<Parameters>&... arguments) { return calls_->cancel(arguments...); }

    /// How many different calls are in flight.
    [[nodiscard]] std::size_t size() const noexcept { return calls_->size(); }
    [[nodiscard]] const GroupStats& stats() const noexcept { return calls_->stats(); }

  private:
    std::unique_ptr<Calls> calls_;
};

/// The same for a function without one signature, such as a generic lambda: each
/// list of argument types is a function of its own, so 1, 1.0 and true are
/// different calls. Strings in any form are std::string to it.
template <class E, class Fn, class KeyOf>
class AnyMemoized {
    template <class... Arguments>
    using Calls = detail::LoopCalls<Fn, KeyOf, false, typename detail::Argument<std::decay_t<Arguments>>::Owned...>;

  public:
    AnyMemoized(E& executor, std::shared_ptr<Fn> fn, const KeyOf& key_of)
        : executor_(&executor), fn_(std::move(fn)), key_of_(key_of) {}

    /// Joins the call with equal arguments that is in flight, or makes it.
    template <class... Arguments>
    [[nodiscard]] auto operator()(Arguments&&... arguments) {
        return with({}, std::forward<Arguments>(arguments)...);
    }
    /// The same with options.
    template <class... Arguments>
    [[nodiscard]] auto with(const JoinOptions& options, Arguments&&... arguments) {
        return calls<Arguments...>().join(
            options, typename detail::Argument<std::decay_t<Arguments>>::Owned(std::forward<Arguments>(arguments))...);
    }

    /// As Group::forget, for arguments of these types.
    template <class... Arguments>
    bool forget(const Arguments&... arguments) {
        return calls<Arguments...>().forget(arguments...);
    }
    /// As Group::cancel, for arguments of these types.
    template <class... Arguments>
    std::size_t cancel(const Arguments&... arguments) {
        return calls<Arguments...>().cancel(arguments...);
    }

    /// How many different calls are in flight.
    [[nodiscard]] std::size_t size() const noexcept {
        std::size_t sum = 0;
        for (const auto& [types, some] : calls_) sum += some->size();
        return sum;
    }

  private:
    struct SomeCalls {
        SomeCalls() = default;
        SomeCalls(const SomeCalls&) = delete;
        SomeCalls& operator=(const SomeCalls&) = delete;
        virtual ~SomeCalls() = default;
        [[nodiscard]] virtual std::size_t size() const noexcept = 0;
    };
    template <class CallsOf>
    struct CallsHolder final : SomeCalls {
        template <class... Arguments>
        explicit CallsHolder(Arguments&&... arguments) : calls(std::forward<Arguments>(arguments)...) {}
        [[nodiscard]] std::size_t size() const noexcept override { return calls.size(); }
        CallsOf calls;
    };

    template <class... Arguments>
    Calls<Arguments...>& calls() {
        using Holder = CallsHolder<Calls<Arguments...>>;
        auto& some = calls_[std::type_index(typeid(Holder))];
        if (!some) some = std::make_unique<Holder>(*executor_, fn_, key_of_);
        return static_cast<Holder&>(*some).calls;
    }

    E* executor_;
    std::shared_ptr<Fn> fn_;
    KeyOf key_of_;
    std::unordered_map<std::type_index, std::unique_ptr<SomeCalls>> calls_;
};

/// Makes `fn` a function whose concurrent calls with equal arguments share one
/// call and one result. `key_of`, if given, makes the key of the same arguments.
/// The executor outlives what is returned, and its tickets.
template <std::derived_from<Executor> E, class Fn, class KeyOf = AllArguments>
[[nodiscard]] auto memoize_concurrent(E& executor, Fn&& fn, KeyOf key_of = {}) {
    using Function = std::decay_t<Fn>;
    auto shared = std::make_shared<Function>(std::forward<Fn>(fn));
    if constexpr (detail::Parameters<Function>::kKnown) {
        using List = typename detail::Parameters<Function>::WithoutStop;
        return Memoized<Function, KeyOf, List::kHadOne, typename List::type>(executor, std::move(shared), key_of);
    } else {
        return AnyMemoized<E, Function, KeyOf>(executor, std::move(shared), key_of);
    }
}

}  // namespace coalesce
