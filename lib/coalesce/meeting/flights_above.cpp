// SPDX-License-Identifier: MIT
#include <coalesce/meeting/flights_above.h>

#include <sys/prctl.h>

#include <array>
#include <set>
#include <string_view>
#include <vector>

#include <coalesce/command/ancestry.h>
#include <coalesce/io/process_facts.h>
#include <coalesce/meeting/ask.h>
#include <coalesce/meeting/attention.h>
#include <coalesce/protocol/message.h>

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

bool waits_for(const MeetingPlaces& places, const std::string& key, std::string_view flight) {
    std::set<std::string> seen;
    std::vector<std::string> to_ask{std::string(flight)};
    while (!to_ask.empty() && !Attention::told_to_end()) {
        const std::string asked = to_ask.back();
        to_ask.pop_back();
        if (asked == key) return true;
        if (!seen.insert(asked).second) continue;
        const auto answer = ask_flight(places.connect(asked), Message().text("op", "waiters").line());
        const auto fields = answer ? Fields::parse(*answer) : std::nullopt;
        if (!fields) continue;
        for (const std::string_view waiter : json_elements(fields->raw("waiters")))
            to_ask.push_back(json_string_value(waiter));
    }
    return false;
}

}  // namespace coalesce
