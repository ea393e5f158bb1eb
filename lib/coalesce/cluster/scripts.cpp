// SPDX-License-Identifier: MIT
#include <coalesce/cluster/scripts.h>

#include <array>

namespace coalesce {
namespace {

struct Named {
    std::string_view name;
    std::string_view text;
};

constexpr std::array scripts = std::to_array<Named>({
#include "script_texts.inc"
});

const Named& named(Script script) { return scripts[static_cast<std::size_t>(script)]; }

}  // namespace

std::string_view name_of(Script script) { return named(script).name; }
std::string_view text_of(Script script) { return named(script).text; }

std::vector<std::string> call_of(Script script, std::span<const std::string> keys,
                                 std::span<const std::string> arguments) {
    std::vector<std::string> words{"EVAL", std::string(text_of(script)), std::to_string(keys.size())};
    words.insert(words.end(), keys.begin(), keys.end());
    words.insert(words.end(), arguments.begin(), arguments.end());
    return words;
}

}  // namespace coalesce
