// SPDX-License-Identifier: MIT
#include <coalesce/serve/flight_watchers.h>

#include <algorithm>
#include <utility>

#include <coalesce/protocol/answer.h>
#include <coalesce/reception/operations.h>

namespace coalesce {

void FlightWatchers::add(Client& client, std::string id) {
    client.session->send(
        message_to(id).text("event", "watching").raw("flights", flights_seen_by(reception_, client)).line());
    watchers_.push_back({&client, std::move(id)});
}

bool FlightWatchers::remove(const Client& client, std::string_view id) {
    const auto found = std::find_if(watchers_.begin(), watchers_.end(), [&](const Watcher& watcher) {
        return watcher.client == &client && watcher.id == id;
    });
    if (found == watchers_.end()) return false;
    watchers_.erase(found);
    return true;
}

void FlightWatchers::remove(const Client& client) {
    std::erase_if(watchers_, [&](const Watcher& watcher) { return watcher.client == &client; });
}

bool FlightWatchers::watches(const Client& client) const noexcept {
    return std::any_of(watchers_.begin(), watchers_.end(),
                       [&](const Watcher& watcher) { return watcher.client == &client; });
}

void FlightWatchers::tell(std::string_view event, LiveFlight& flight, const RunResult* result) {
    if (watchers_.empty()) return;
    std::string about;
    for (Watcher& watcher : watchers_) {
        if (!may_see(*watcher.client, flight.uid)) continue;
        Session& session = *watcher.client->session;
        if (session.blocked()) {
            ++watcher.missed;
            continue;
        }
        if (watcher.missed > 0)
            session.send(message_to(watcher.id)
                             .text("event", "missed")
                             .number("events", std::exchange(watcher.missed, 0))
                             .line());
        if (about.empty()) about = object_of(reception_, flight);
        Message message = message_to(watcher.id);
        message.text("event", event).raw("flight", about);
        if (result != nullptr) {
            add_end(message, *result, result->title);
            message.seconds("duration", result->duration);
        }
        session.send(message.line());
    }
}

}  // namespace coalesce
