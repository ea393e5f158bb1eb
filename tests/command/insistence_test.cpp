// SPDX-License-Identifier: MIT
#include <coalesce/command/insistence.h>

#include <csignal>

#include "../catch.h"

using namespace coalesce;
using namespace std::chrono_literals;

TEST_CASE("R5, B6, S8: which signal is a second one", "[insistence]") {
    Insistence insistence;
    const auto begin = Insistence::Clock::time_point(1h);
    using Is = Insistence::Is;
    REQUIRE(insistence.told(SIGTERM, begin) == Is::first);
    SECTION("the same one at once is an echo, as often as it comes") {
        CHECK(insistence.told(SIGTERM, begin) == Is::echo);
        CHECK(insistence.told(SIGTERM, begin + 199ms) == Is::echo);
        CHECK(insistence.told(SIGTERM, begin + 200ms) == Is::second);
    }
    SECTION("another one is never an echo") { CHECK(insistence.told(SIGINT, begin) == Is::second); }
}
