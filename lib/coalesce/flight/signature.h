// SPDX-License-Identifier: MIT
// Signature: what a callable takes and returns, where that is one answer.
//
// A function, a function pointer or an object with a single operator() has a
// signature; a generic lambda or an overloaded object has none, and is asked
// again at each call with the types of the arguments. Internal.
#pragma once

#include <stop_token>
#include <type_traits>

namespace coalesce::detail {

template <class Kept, class... Rest>
struct WithoutStopToken;

template <class... Parameters>
struct ParameterList {
    static constexpr bool kKnown = true;
    using WithoutStop = WithoutStopToken<ParameterList<>, Parameters...>;
};
struct NoParameterList {
    static constexpr bool kKnown = false;
};

template <class Function>
struct ParametersOfMember;
#define COALESCE_PARAMETERS_OF(QUALIFIERS)                          \
    template <class C, class R, class... Parameters>                \
    struct ParametersOfMember<R (C::*)(Parameters...) QUALIFIERS> { \
        using type = ParameterList<Parameters...>;                  \
    };
COALESCE_PARAMETERS_OF()
COALESCE_PARAMETERS_OF(const)
COALESCE_PARAMETERS_OF(&)
COALESCE_PARAMETERS_OF(const&)
COALESCE_PARAMETERS_OF(noexcept)
COALESCE_PARAMETERS_OF(const noexcept)
COALESCE_PARAMETERS_OF(&noexcept)
COALESCE_PARAMETERS_OF(const& noexcept)
#undef COALESCE_PARAMETERS_OF

template <class F>
struct ParametersOf {
    using type = NoParameterList;
};
template <class F>
requires requires { &F::operator(); }
struct ParametersOf<F> : ParametersOfMember<decltype(&F::operator())> {};
template <class R, class... Parameters>
struct ParametersOf<R (*)(Parameters...)> {
    using type = ParameterList<Parameters...>;
};
template <class R, class... Parameters>
struct ParametersOf<R (*)(Parameters...) noexcept> {
    using type = ParameterList<Parameters...>;
};

/// The parameters of a decayed callable, or NoParameterList.
template <class F>
using Parameters = typename ParametersOf<F>::type;

/// A parameter list without a last std::stop_token, and whether it had one.
template <class... Kept>
struct WithoutStopToken<ParameterList<Kept...>> {
    using type = ParameterList<Kept...>;
    static constexpr bool kHadOne = false;
};
template <class... Kept>
struct WithoutStopToken<ParameterList<Kept...>, std::stop_token> {
    using type = ParameterList<Kept...>;
    static constexpr bool kHadOne = true;
};
template <class... Kept, class First, class... Rest>
struct WithoutStopToken<ParameterList<Kept...>, First, Rest...>
    : WithoutStopToken<ParameterList<Kept..., First>, Rest...> {};

/// What F returns for these arguments, and then a stop token if it takes one.
template <bool kStoppable, class F, class... Arguments>
struct ReturnOf : std::invoke_result<F&, Arguments...> {};
template <class F, class... Arguments>
struct ReturnOf<true, F, Arguments...> : std::invoke_result<F&, Arguments..., std::stop_token> {};

}  // namespace coalesce::detail
