// SPDX-License-Identifier: MIT
// What a batch remembers of lines that have run (SPEC B3, T3).
#include <coalesce/batch/once.h>

#include "../catch.h"

#include <memory>

using namespace coalesce;
using namespace std::chrono_literals;

TEST_CASE("T3, B3: --once has the first result for all, and the youngest for who wants none so old", "[batch]") {
    OnceMemory memory;
    const auto surroundings = std::make_shared<const CanonicalSurroundings>("here");
    const RequestKey key{surroundings, "words"};
    const auto begun = std::chrono::system_clock::now();
    const auto remembered = [&](std::chrono::seconds ago) {
        const auto result =
            std::make_shared<const RunResult>(RunResult{.outcome = Outcome::exited(0), .started = begun - ago});
        memory.remember(key, result);
        return result;
    };
    CHECK(memory.find(key, {}) == nullptr);
    const auto first = remembered(3h);
    const auto second = remembered(1h);
    remembered(2h);
    CHECK(memory.find(key, {}) == first);
    CHECK(memory.find(key, {.max_age = 4h}) == first);
    CHECK(memory.find(key, {.max_age = 90min}) == second);
    CHECK(memory.find(key, {.max_age = 30min}) == nullptr);
    CHECK(memory.find(key, {.fresh = true}) == nullptr);
}
