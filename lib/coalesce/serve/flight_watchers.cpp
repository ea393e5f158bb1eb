// SPDX-License-Identifier: MIT
#include <coalesce/serve/flight_watchers.h>

#include <algorithm>
#include <utility>

#include <coalesce/protocol/answer.h>
#include <coalesce/reception/operations.h>

namespace coalesce {

void FlightWatchers::add(Client& client, std::string id) {
    constexpr std::size_t watches_max = 16;  // of a client
    if (const auto found = watchers_.find(&client); found != watchers_.end() && found->second.size() >= watches_max)
        return reception_.refuse(client, id, "too_many_requesters",
                                 "a connection has at most " + std::to_string(watches_max) + " watches");
    client.session->send(
        message_to(id).text("event", "watching").raw("flights", flights_seen_by(reception_, client)).line());
    watchers_[&client].push_back({.id = std::move(id)});
}

bool FlightWatchers::remove(const Client& client, std::string_view id) {
    const auto found = watchers_.find(&client);
    if (found == watchers_.end()) return false;
    auto& watches = found->second;
    const auto one =
        std::find_if(watches.begin(), watches.end(), [id](const Watcher& watcher) { return watcher.id == id; });
    if (one == watches.end()) return false;
    watches.erase(one);
    if (watches.empty()) watchers_.erase(found);
    return true;
}

void FlightWatchers::tell(std::string_view event, LiveFlight& flight, const RunResult* result) {
    std::string about;
    for (auto& [client, watches] : watchers_) {
        if (!may_see(*client, flight.uid)) continue;
        if (about.empty()) about = object_of(reception_, flight);
        for (Watcher& watcher : watches) tell(watcher, *client->session, event, about, result);
    }
}

void FlightWatchers::tell(Watcher& watcher, Session& session, std::string_view event, std::string_view about,
                          const RunResult* result) {
    if (session.blocked()) {
        ++watcher.missed;
        return;
    }
    if (watcher.missed > 0)
        session.send(
            message_to(watcher.id).text("event", "missed").number("events", std::exchange(watcher.missed, 0)).line());
    Message message = message_to(watcher.id);
    message.text("event", event).raw("flight", about);
    if (result != nullptr) {
        add_end(message, *result, result->title);
        message.seconds("duration", result->duration);
    }
    session.send(message.line());
}

}  // namespace coalesce
