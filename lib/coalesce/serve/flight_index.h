// SPDX-License-Identifier: MIT
// FlightIndex: which flight's command makes a request (SPEC F11, F12).
//
// A command that asks the server for another is known by the ancestry in the environment
// of what it asks for, and, where that got lost, by the session that it leads: each command
// leads one of its own. Only flights that run are in here, so only they can be found above.
#pragma once

#include <sys/types.h>

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <coalesce/io/process_facts.h>
#include <coalesce/reception/requester.h>

namespace coalesce {

class FlightIndex {
  public:
    /// The flight has this process, from now on; an earlier one of its own is forgotten.
    void add(const LiveFlight& flight);
    void remove(const LiveFlight& flight);

    /// The nearest flight of this ancestry that runs here and that the client may see; else the nearest
    /// whose session the client runs in. `sessions`, read once a client, are the leaders of those.
    [[nodiscard]] FlightRef above(const Client& client, std::string_view ancestry,
                                  std::optional<std::vector<ProcessFacts>>& sessions) const;

  private:
    struct Entry {
        const LiveFlight* flight;
        std::array<pid_t, 2> leaders;  // its process, and who made its session
    };
    std::unordered_map<std::string, Entry> by_hash_;
    std::unordered_map<pid_t, const LiveFlight*> by_process_;
};

}  // namespace coalesce
