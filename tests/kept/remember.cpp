// SPDX-License-Identifier: MIT
// remember DIRECTORY SCOPE ok|failed MILLISECONDS[,…] -- ARGV…: runs that have never been.
//
// Writes them, the first the oldest, by the room's own writer, so that a test can have a command that
// usually takes a minute without running it for one.
#include <coalesce/command/key.h>
#include <coalesce/kept/history.h>

#include <cstdlib>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

int main(int argc, char** argv) {
    using namespace coalesce;
    if (argc < 7 || std::string_view(argv[5]) != "--") return 125;
    KeyRules rules;
    rules.scope = argv[2];
    const auto surroundings =
        std::make_shared<const CanonicalSurroundings>(canonical_surroundings({.cwd = argv[1], .env = {}}, rules));
    const Key key{surroundings, canonical_words(std::vector<std::string>(argv + 6, argv + argc), std::nullopt, rules)};
    std::istringstream times(argv[4]);
    for (std::string time; std::getline(times, time, ',');)
        History::of_this_user().add(History::name_of(key), std::chrono::milliseconds(std::stoll(time)),
                                    std::string_view(argv[3]) == "ok");
}
