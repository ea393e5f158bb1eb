// SPDX-License-Identifier: MIT
// UniqueFunction: a callable that is owned once and moved, never copied.
//
// It holds what std::function cannot (a captured Completer, Ticket or
// unique_ptr) in three words: two for the callable, one for its operations. A
// callable of at most two pointers that moves without throwing lives inside,
// everything else behind one allocation. One that declares a type MovesAsBytes
// is moved as its bytes, without being asked. Moving never throws, so queues of
// functions may grow freely. Calling an empty one is a broken invariant and
// aborts. Refused: a second word for a cached invoker, which is a load faster
// but makes a waiter (see waiter.h) a cache line and a bit.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <type_traits>
#include <utility>

namespace coalesce {

template <class Signature>
class UniqueFunction;

/// A move-only `R(Args...)`.
template <class R, class... Args>
class UniqueFunction<R(Args...)> {
  public:
    UniqueFunction() noexcept = default;
    UniqueFunction(std::nullptr_t) noexcept {}

    /// Takes any callable; allocates when it is larger than two pointers.
    template <class F>
    requires(!std::is_same_v<std::remove_cvref_t<F>, UniqueFunction> &&
             std::is_invocable_r_v<R, std::decay_t<F>&, Args...>)
        // NOLINTNEXTLINE(bugprone-forwarding-reference-overload): the constraint leaves moves alone
        UniqueFunction(F&& callable) {
        hold<std::decay_t<F>>(std::forward<F>(callable));
    }

    /// Becomes `callable` without a move in between. Only for an empty function.
    template <class F>
    void emplace(F&& callable) {
        if (operations_) std::abort();
        if constexpr (std::is_same_v<std::remove_cvref_t<F>, UniqueFunction>)
            take(callable);
        else
            hold<std::decay_t<F>>(std::forward<F>(callable));
    }

    /// The same with a Callable that is made of `from`.
    template <class Callable, class F>
    void emplace_as(F&& from) {
        if (operations_) std::abort();
        hold<Callable>(std::forward<F>(from));
    }

    UniqueFunction(UniqueFunction&& other) noexcept { take(other); }

    UniqueFunction& operator=(UniqueFunction&& other) noexcept {
        if (this != &other) {
            UniqueFunction old(std::move(*this));  // its destructor may call back into the owner
            take(other);
        }
        return *this;
    }

    UniqueFunction(const UniqueFunction&) = delete;
    UniqueFunction& operator=(const UniqueFunction&) = delete;

    ~UniqueFunction() {
        if (operations_ && operations_->destroy) operations_->destroy(place_);
    }

    /// Calls it. An empty function aborts.
    R operator()(Args... args) {
        if (!operations_) std::abort();
        return operations_->invoke(place_, std::forward<Args>(args)...);
    }

    explicit operator bool() const noexcept { return operations_ != nullptr; }

  private:
    // Null relocate and destroy mean "copy the bytes" and "nothing to do", which
    // spares an indirect call for the lambdas that capture two plain pointers.
    struct Operations {
        R (*invoke)(std::byte*, Args&&...);
        void (*relocate)(std::byte* from, std::byte* to) noexcept;
        void (*destroy)(std::byte*) noexcept;
    };

    static constexpr std::size_t kPlaceBytes = 2 * sizeof(void*);

    template <class Callable>
    static constexpr bool kFitsInside =
        sizeof(Callable) <= kPlaceBytes &&
        alignof(Callable) <= alignof(void*) && std::is_nothrow_move_constructible_v<Callable>;

    template <class Callable>
    static constexpr bool kMovesAsBytes = std::is_trivially_copyable_v<Callable> || requires {
        typename Callable::MovesAsBytes;
    };

    template <class Callable>
    using Outside = Callable*;  // what lies inside instead of a large callable

    template <class Callable>
    static Callable* inside(std::byte* place) noexcept {
        return std::launder(reinterpret_cast<Callable*>(place));
    }

    template <class Callable>
    static Callable* outside(std::byte* place) noexcept {
        return *std::launder(reinterpret_cast<Outside<Callable>*>(place));
    }

    template <class Callable>
    static constexpr Operations kInside = {
        [](std::byte* place, Args&&... args) -> R {
            return static_cast<R>(std::invoke(*inside<Callable>(place), std::forward<Args>(args)...));
        },
        kMovesAsBytes<Callable> ? nullptr
                                               : +[](std::byte* from, std::byte* to) noexcept {
                                                     Callable* callable = inside<Callable>(from);
                                                     ::new (static_cast<void*>(to)) Callable(std::move(*callable));
                                                     callable->~Callable();
                                                 },
        std::is_trivially_destructible_v<Callable>
            ? nullptr
            : +[](std::byte* place) noexcept { inside<Callable>(place)->~Callable(); },
    };

    template <class Callable>
    static constexpr Operations kOutside = {
        [](std::byte* place, Args&&... args) -> R {
            return static_cast<R>(std::invoke(*outside<Callable>(place), std::forward<Args>(args)...));
        },
        nullptr,
        [](std::byte* place) noexcept { delete outside<Callable>(place); },
    };

    template <class Callable, class F>
    void hold(F&& callable) {
        if constexpr (kFitsInside<Callable>) {
            if constexpr (sizeof(Callable) < kPlaceBytes) std::memset(place_, 0, kPlaceBytes);  // moved as whole words
            ::new (static_cast<void*>(place_)) Callable(std::forward<F>(callable));
            operations_ = &kInside<Callable>;
        } else {
            std::memset(place_, 0, kPlaceBytes);
            ::new (static_cast<void*>(place_)) Outside<Callable>(new Callable(std::forward<F>(callable)));
            operations_ = &kOutside<Callable>;
        }
    }

    void take(UniqueFunction& other) noexcept {
        operations_ = std::exchange(other.operations_, nullptr);
        if (!operations_) return;
        if (operations_->relocate)
            operations_->relocate(other.place_, place_);
        else
            copy_words(other.place_, place_);
    }

    // Word by word: one load of both, right after they were stored one by one,
    // cannot be forwarded from the store buffer and costs a join 10 ns.
    static void copy_words(const std::byte* from, std::byte* to) noexcept {
        std::uintptr_t words[2];
        std::memcpy(&words[0], from, sizeof words[0]);
        std::memcpy(&words[1], from + sizeof words[0], sizeof words[1]);
#if defined(__GNUC__)
        asm("" : "+r"(words[0]));
        asm("" : "+r"(words[1]));
#endif
        std::memcpy(to, &words[0], sizeof words[0]);
        std::memcpy(to + sizeof words[0], &words[1], sizeof words[1]);
    }

    alignas(void*) std::byte place_[kPlaceBytes];
    const Operations* operations_ = nullptr;
};

}  // namespace coalesce
