// SPDX-License-Identifier: MIT
// Feeds anything to what leaves questions to the terminal out (SPEC P5): cut in whatever way the same is left, it is
// made of what was given, in its order, and once left out nothing is left to leave out but what has grown together.
#include <coalesce/io/terminal_questions.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>

using namespace coalesce;

namespace {

std::string recorded(std::span<const char> output, std::size_t piece) {
    TerminalQuestions questions;
    std::string kept;
    while (!output.empty()) {
        const std::size_t length = std::min(piece, output.size());
        questions.filter(output.first(length),
                         [&kept](std::span<const char> passed) { kept.append(passed.begin(), passed.end()); });
        output = output.subspan(length);
    }
    return kept + questions.rest();
}

bool is_part_of(const std::string& kept, std::span<const char> output) {
    auto at = output.begin();
    return std::all_of(kept.begin(), kept.end(), [&](char byte) {
        at = std::find(at, output.end(), byte);
        return at != output.end() && (++at, true);
    });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::span<const char> output(reinterpret_cast<const char*>(data) + 1, size - 1);
    const std::string whole = recorded(output, size);
    if (recorded(output, 1 + data[0] % 64) != whole || !is_part_of(whole, output)) std::abort();
    if (std::find(output.begin(), output.end(), '\x1b') == output.end() && whole.size() != output.size()) std::abort();
    return 0;
}
