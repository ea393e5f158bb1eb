// SPDX-License-Identifier: MIT
#include <coalesce/meeting/flights_above.h>

#include <sys/prctl.h>

#include <array>
#include <string_view>
#include <vector>

#include <coalesce/command/ancestry.h>
#include <coalesce/io/process_facts.h>

namespace coalesce {
namespace {

// A supervisor has that of its leader, which is ours, unless one of us was renamed.
std::string own_name() {
    std::array<char, 17> name{};
    ::prctl(PR_GET_NAME, name.data(), 0, 0, 0);
    return name.data();
}

std::string flight_of(const MeetingPlaces& places, pid_t command) {
    for (const MeetingPlace* place : places.all())
        if (std::string key = place->flight_of(command); !key.empty()) return key;
    return {};
}

}  // namespace

std::string ancestry_of_process(const MeetingPlaces& places, pid_t process) {
    const std::vector<ProcessFacts> leaders = session_leaders_above(process);
    const std::string supervisor = own_name();
    std::string ancestry;
    for (std::size_t i = leaders.size(); i-- > 1;) {  // from the top
        const ProcessFacts& command = leaders[i - 1];
        const ProcessFacts& above = leaders[i];
        if (above.pid != command.parent || above.name != supervisor) continue;
        if (const std::string key = flight_of(places, command.pid); !key.empty())
            ancestry = ancestry_below(ancestry, key);
    }
    return ancestry;
}

}  // namespace coalesce
