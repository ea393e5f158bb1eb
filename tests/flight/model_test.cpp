// SPDX-License-Identifier: MIT
// L3: the in-flight table against a naive model, over a million random steps.
//
// A world of real groups is driven at random, also from inside callbacks,
// starts, cancel callbacks and destructors, and writes a trace; a reference that
// shares no code with it replays the trace and must expect exactly what
// happened, and see the same after every step. Lives are short (200 steps), so
// that group ends, executors that go first and empty tables are met often.
//
//   COALESCE_MODEL_SEED=n   begins with that seed (printed at every start)
//   COALESCE_MODEL_STEPS=n  does so many steps
//   COALESCE_MODEL_CANARY=1 lies to the reference, and so must fail

#include "model_reference.h"
#include "model_trace.h"
#include "model_world.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <iostream>
#include <random>
#include <stdexcept>

using namespace coalesce::test::model;

namespace {

constexpr std::uint64_t kSteps = 1'020'000;
constexpr int kLife = 200;

std::uint64_t from_environment(const char* variable, std::uint64_t otherwise) {
    const char* text = std::getenv(variable);
    return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

// Steps done, or throws after showing where the two differ.
std::uint64_t live(std::uint64_t seed) {
    World world(seed, std::getenv("COALESCE_MODEL_CANARY") != nullptr);
    Reference reference;
    for (int i = 0; i < kLife; ++i) {
        world.step();
        try {
            reference.replay(world.trace());
        } catch (const std::exception& difference) {
            std::cerr << "seed " << seed << ", step " << i << ": " << difference.what() << '\n';
            const auto& trace = world.trace();
            const std::size_t at = reference.position();
            for (std::size_t k = at > 30 ? at - 30 : 0; k < std::min(at + 10, trace.size()); ++k)
                std::cerr << (k == at ? "--> " : "    ") << trace[k] << '\n';
            throw;
        }
        world.forget_trace();
    }
    return world.operations();
}

}  // namespace

int main() {
    const std::uint64_t first = from_environment("COALESCE_MODEL_SEED", std::random_device{}());
    const std::uint64_t wanted = from_environment("COALESCE_MODEL_STEPS", kSteps);
    std::cout << "COALESCE_MODEL_SEED=" << first << std::endl;
    std::uint64_t steps = 0, lives = 0;
    try {
        for (; steps < wanted; ++lives) steps += live(first + lives);
    } catch (const std::exception&) {
        std::cerr << "reproduce with COALESCE_MODEL_SEED=" << first + lives << " COALESCE_MODEL_STEPS=1\n";
        return 1;
    }
    std::cout << steps << " steps in " << lives << " lives agree with the model\n";
}
