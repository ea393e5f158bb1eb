// SPDX-License-Identifier: MIT
// FlightWatchers: connections that want to hear of flights as they start, are joined and end.
//
// What "status" tells, without asking again and again. A watcher hears of the flights that its
// user may see. One that reads nothing costs no memory and holds nobody: what it does not take is left
// out, and it is told how much that was. A client has a few at most, since each costs a message whenever
// anything happens.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <coalesce/reception/reception.h>

namespace coalesce {

class FlightWatchers {
  public:
    explicit FlightWatchers(Reception& reception) : reception_(reception) {}

    /// The client hears of what is in flight now, and then of what happens; or why it does not.
    void add(Client& client, std::string id);
    /// The client's watch of that id ends; false: it has none.
    bool remove(const Client& client, std::string_view id);
    /// Those of a client that is gone.
    void remove(const Client& client) { watchers_.erase(&client); }
    [[nodiscard]] bool watches(const Client& client) const noexcept { return watchers_.contains(&client); }

    void started(LiveFlight& flight) { tell("started", flight, nullptr); }
    void joined(LiveFlight& flight) { tell("joined", flight, nullptr); }
    /// Before its requesters are told.
    void ended(LiveFlight& flight, const RunResult& result) { tell("ended", flight, &result); }

  private:
    struct Watcher {
        std::string id;
        std::int64_t missed = 0;
    };
    void tell(std::string_view event, LiveFlight& flight, const RunResult* result);
    static void tell(Watcher& watcher, Session& session, std::string_view event, std::string_view about,
                     const RunResult* result);

    Reception& reception_;
    std::unordered_map<const Client*, std::vector<Watcher>> watchers_;  // none is empty
};

}  // namespace coalesce
