// SPDX-License-Identifier: MIT
// F11: the form in which a command is told what it runs under.
#include <coalesce/command/ancestry.h>

#include <string>
#include <vector>

#include "../catch.h"

using namespace coalesce;

TEST_CASE("F11: an ancestry tells its flights, the nearest last", "[ancestry]") {
    std::vector<std::string> env{"A=1"};
    CHECK(ancestry_in(env).empty());
    CHECK(nearest_flight("").empty());
    CHECK_FALSE(runs_under("", "a"));
    CHECK_FALSE(runs_under("", ""));
    enter_flight(env, "one");
    CHECK(env == std::vector<std::string>{"A=1", "COALESCE_ANCESTRY=one"});
    CHECK(above_nearest(ancestry_in(env)).empty());
    enter_flight(env, "two");
    CHECK(env == std::vector<std::string>{"A=1", "COALESCE_ANCESTRY=one:two"});
    CHECK(nearest_flight(ancestry_in(env)) == "two");
    CHECK(above_nearest(ancestry_in(env)) == "one");
    for (const char* flight : {"one", "two"}) CHECK(runs_under(ancestry_in(env), flight));
    for (const char* other : {"on", "ne", "one:two", "e:t", "three"}) CHECK_FALSE(runs_under(ancestry_in(env), other));
}
