// SPDX-License-Identifier: MIT
// FlightWatchers: connections that want to hear of flights as they start, are joined and end.
//
// What "status" tells, without asking again and again. A watcher hears of the flights that its
// user may see. One that reads nothing costs no memory and holds nobody: what it does not take is left
// out, and it is told how much that was.
#pragma once

#include <cstdint>
#include <list>
#include <string>
#include <string_view>

#include <coalesce/reception/reception.h>

namespace coalesce {

class FlightWatchers {
  public:
    explicit FlightWatchers(Reception& reception) : reception_(reception) {}

    /// The client hears of what is in flight now, and then of what happens.
    void add(Client& client, std::string id);
    /// The client's watch of that id ends; false: it has none.
    bool remove(const Client& client, std::string_view id);
    /// Those of a client that is gone.
    void remove(const Client& client);
    [[nodiscard]] bool watches(const Client& client) const noexcept;

    void started(LiveFlight& flight) { tell("started", flight, nullptr); }
    void joined(LiveFlight& flight) { tell("joined", flight, nullptr); }
    /// Before its requesters are told.
    void ended(LiveFlight& flight, const RunResult& result) { tell("ended", flight, &result); }

  private:
    struct Watcher {
        Client* client;
        std::string id;
        std::int64_t missed = 0;
    };
    void tell(std::string_view event, LiveFlight& flight, const RunResult* result);

    Reception& reception_;
    std::list<Watcher> watchers_;
};

}  // namespace coalesce
