// SPDX-License-Identifier: MIT
#include <coalesce/flight/unique_function.h>

#include <array>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "../catch.h"

using namespace coalesce;

static_assert(sizeof(UniqueFunction<void()>) == 3 * sizeof(void*));
static_assert(std::is_nothrow_move_constructible_v<UniqueFunction<int(std::string)>>);
static_assert(std::is_nothrow_move_assignable_v<UniqueFunction<int(std::string)>>);
static_assert(!std::is_copy_constructible_v<UniqueFunction<void()>>);
static_assert(!std::is_constructible_v<UniqueFunction<void()>, int>);

SCENARIO("a unique function owns what it captures until it is destroyed", "[flight]") {
    GIVEN("a capture that is counted, small or large") {
        auto counted = std::make_shared<int>(7);
        const std::weak_ptr<int> watch = counted;
        const bool small = GENERATE(true, false);
        UniqueFunction<int()> function;
        if (small)
            function = [counted = std::move(counted)] { return *counted; };
        else
            function = [counted = std::move(counted), ballast = std::array<char, 100>{}] {
                return *counted + ballast[0];
            };

        WHEN("it is moved") {
            UniqueFunction<int()> moved = std::move(function);
            THEN("only the target holds it") {
                CHECK(!function);
                CHECK(moved() == 7);
                CHECK(watch.use_count() == 1);
            }
        }
        WHEN("it is assigned over") {
            function = [] { return 1; };
            THEN("the old capture is gone") {
                CHECK(watch.expired());
                CHECK(function() == 1);
            }
        }
        WHEN("it is assigned to itself") {
            auto& same = function;
            function = std::move(same);
            THEN("nothing is lost") { CHECK(function() == 7); }
        }
    }
}

SCENARIO("a unique function holds what cannot be copied, and passes references through", "[flight]") {
    UniqueFunction<std::unique_ptr<int>(std::unique_ptr<int>, int&)> function =
        [owned = std::make_unique<int>(1)](std::unique_ptr<int> argument, int& out) {
            out = *owned + *argument;
            return argument;
        };
    int out = 0;
    CHECK(*function(std::make_unique<int>(2), out) == 2);
    CHECK(out == 3);

    int calls = 0;
    UniqueFunction<void()> discards = [&calls] { return ++calls; };
    discards();
    CHECK(calls == 1);
}
