// SPDX-License-Identifier: MIT
// ArgumentKey: the arguments of a call as a key that owns its bytes.
//
// A key outlives the call that made it, so string_view and char pointers become
// strings, also in tuples and pairs; a std::reference_wrapper is the object it
// refers to, by address; everything else is a copy of its decayed type, and refused
// where that would hold somebody else's text. Types are part of the key:
// 1, 1.0 and true are different calls. A request is looked up by views of its
// arguments, so one that joins copies nothing. What has no std::hash is hashed
// if it is a tuple, a pair or a range of what has; for all else the user gives
// a key function (memoize.h). A char pointer must not be null.
#pragma once

#include <concepts>
#include <cstddef>
#include <functional>
#include <iterator>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

namespace coalesce {
namespace detail {

template <class T>
concept Character = std::same_as<T, char> || std::same_as<T, wchar_t> || std::same_as<T, char8_t> ||
    std::same_as<T, char16_t> || std::same_as<T, char32_t>;

template <class T>
concept Hashable = requires(const T& value) {
    { std::hash<T>{}(value) } -> std::convertible_to<std::size_t>;
};

template <class T>
concept TupleLike = requires {
    std::tuple_size<T>::value;
};

/// A range, without the header that has them, which costs its user a tenth of a second.
template <class T>
concept Iterable = requires(const T& value) {
    std::begin(value) == std::end(value);
};

/// Whether a T says by its type that it holds, in whatever depth, text of somebody else's.
template <class T>
inline constexpr bool kBorrows = false;
template <class T>
inline constexpr bool kBorrows<const T> = kBorrows<T>;
template <class C, class Traits>
inline constexpr bool kBorrows<std::basic_string_view<C, Traits>> = true;
template <class C>
inline constexpr bool kBorrows<C*> = Character<std::remove_const_t<C>>;
template <template <class...> class Of, class... Parts>
inline constexpr bool kBorrows<Of<Parts...>> = (kBorrows<Parts> || ...);
template <template <class, std::size_t> class Of, class Part, std::size_t kSize>
inline constexpr bool kBorrows<Of<Part, kSize>> = kBorrows<Part>;

/// How an argument of decayed type T is kept, keyed and looked up.
template <class T>
struct Argument {
    using Owned = T;
    using Part = T;
    using View = const T&;
    static constexpr bool kOwns = !kBorrows<T>;
    static View view(const T& argument) noexcept { return argument; }
};

template <class C, class Traits>
struct Argument<std::basic_string_view<C, Traits>> {
    using Owned = std::basic_string<C, Traits>;
    using Part = Owned;
    using View = std::basic_string_view<C, Traits>;
    static constexpr bool kOwns = true;
    static View view(View argument) noexcept { return argument; }
};

template <class C, class Traits, class Allocator>
struct Argument<std::basic_string<C, Traits, Allocator>> {
    using Owned = std::basic_string<C, Traits, Allocator>;
    using Part = Owned;
    using View = std::basic_string_view<C, Traits>;
    static constexpr bool kOwns = true;
    static View view(const Owned& argument) noexcept { return argument; }
};

template <class C>
requires Character<std::remove_const_t<C>>
struct Argument<C*> {
    using Owned = std::basic_string<std::remove_const_t<C>>;
    using Part = Owned;
    using View = std::basic_string_view<std::remove_const_t<C>>;
    static constexpr bool kOwns = true;
    static View view(const C* argument) noexcept { return View(argument); }
};

template <class T>
struct Argument<std::reference_wrapper<T>> {
    using Owned = std::reference_wrapper<T>;
    using Part = T*;
    using View = T*;
    static constexpr bool kOwns = true;
    static View view(std::reference_wrapper<T> argument) noexcept { return &argument.get(); }
};

/// A kept argument as the parameter it was made for. A string serves a view or a pointer.
template <class Parameter, class Owned>
decltype(auto) pass(Owned& owned) {
    using Wanted = std::remove_cvref_t<Parameter>;
    constexpr bool kAsItIs = std::is_same_v<Wanted, Owned>;
    if constexpr (std::is_pointer_v<Wanted> && !kAsItIs)
        return owned.data();
    else if constexpr (!kAsItIs && requires { Argument<Wanted>::passed(owned); })
        return Argument<Wanted>::passed(owned);
    else if constexpr (std::is_lvalue_reference_v<Parameter>)
        return static_cast<const Owned&>(owned);
    else
        return std::move(owned);
}

/// A tuple or pair with parts that are kept as something else. As a key either is a tuple: a pair can only be compared
/// with one of the same types.
template <template <class...> class Of, class... Parts>
struct PartwiseArgument {
    using Owned = Of<typename Argument<Parts>::Owned...>;
    using Part = std::tuple<typename Argument<Parts>::Part...>;
    using View = std::tuple<typename Argument<Parts>::View...>;
    static constexpr bool kOwns = (Argument<Parts>::kOwns && ...);
    static View view(const Of<Parts...>& argument) noexcept {
        return std::apply([](const auto&... parts) { return View(Argument<Parts>::view(parts)...); }, argument);
    }
    static Of<Parts...> passed(Owned& owned) {
        return std::apply([](auto&... parts) { return Of<Parts...>(pass<Parts>(parts)...); }, owned);
    }
};

template <class... Parts>
concept KeptOtherwise = !(std::same_as<typename Argument<Parts>::Part, Parts> && ...);

template <class... Parts>
requires KeptOtherwise<Parts...>
struct Argument<std::tuple<Parts...>> : PartwiseArgument<std::tuple, Parts...> {
};
template <class First, class Second>
requires KeptOtherwise<First, Second>
struct Argument<std::pair<First, Second>> : PartwiseArgument<std::pair, First, Second> {
};

template <class T>
[[nodiscard]] std::size_t hash_part(const T& value);

template <class... Values>
[[nodiscard]] std::size_t hash_all(const Values&... values) {
    std::size_t hash = sizeof...(Values);
    ((hash = (hash ^ hash_part(values)) * 0x9E3779B97F4A7C15u, hash ^= hash >> 32), ...);
    return hash;
}

template <class T>
std::size_t hash_part(const T& value) {
    if constexpr (Hashable<T>) {
        return std::hash<T>{}(value);
    } else if constexpr (TupleLike<T>) {
        return std::apply([](const auto&... parts) { return hash_all(parts...); }, value);
    } else if constexpr (Iterable<T>) {
        std::size_t hash = 0;
        for (const auto& element : value) {
            if constexpr (requires { typename T::hasher; })  // equal ones may have different orders
                hash += hash_all(element);
            else
                hash = hash_all(hash, element);
        }
        return hash;
    } else {
        static_assert(Hashable<T>, "an argument cannot be hashed: give memoize_concurrent a key function");
        return 0;
    }
}

/// Hashes a key and a view of one alike.
struct ArgumentHash {
    using is_transparent = void;
    template <class... Parts>
    [[nodiscard]] std::size_t operator()(const std::tuple<Parts...>& key) const {
        if constexpr (sizeof...(Parts) == 1)
            return hash_part(std::get<0>(key));
        else
            return std::apply([](const auto&... parts) { return hash_all(parts...); }, key);
    }
};

}  // namespace detail

/// The key of a call with arguments of these types.
template <class... Arguments>
using ArgumentKey = std::tuple<typename detail::Argument<std::decay_t<Arguments>>::Part...>;

/// What is kept of arguments of these types while a call runs or waits to.
template <class... Arguments>
using OwnedArguments = std::tuple<typename detail::Argument<std::decay_t<Arguments>>::Owned...>;

/// The default key function: all arguments, each by its own type.
struct AllArguments {
    template <class... Arguments>
    [[nodiscard]] std::tuple<typename detail::Argument<std::decay_t<Arguments>>::View...> operator()(
        const Arguments&... arguments) const noexcept {
        return {detail::Argument<std::decay_t<Arguments>>::view(arguments)...};
    }
};

namespace detail {

/// A parameter as it is passed from what is kept of it.
template <class Parameter>
using Passed = decltype(pass<Parameter>(std::declval<typename Argument<std::decay_t<Parameter>>::Owned&>()));

/// The key of a call, from what its key function makes of the arguments.
template <class KeyOf, class... Arguments>
struct CallKey {
    using Made = std::invoke_result_t<const KeyOf&, const Arguments&...>;
    static_assert(
        Argument<std::decay_t<Made>>::kOwns,
        "the key function returns views of text in a container, and nobody would keep the text: return strings");
    using Key = ArgumentKey<Made>;
    /// Has `use` called with a view of the key.
    template <class Use>
    static decltype(auto) with(const KeyOf& key_of, Use&& use, const Arguments&... arguments) {
        using Only = Argument<std::decay_t<Made>>;
        const auto& made = std::invoke(key_of, arguments...);
        return std::forward<Use>(use)(std::tuple<typename Only::View>(Only::view(made)));
    }
};
template <class... Arguments>
struct CallKey<AllArguments, Arguments...> {
    static_assert((Argument<std::decay_t<Arguments>>::kOwns && ...),
                  "an argument has views of text in a container, and its key would not keep the text: take strings, or "
                  "give memoize_concurrent a key function");
    using Key = ArgumentKey<Arguments...>;
    template <class Use>
    static decltype(auto) with(const AllArguments& key_of, Use&& use, const Arguments&... arguments) {
        return std::forward<Use>(use)(key_of(arguments...));
    }
};

}  // namespace detail
}  // namespace coalesce
