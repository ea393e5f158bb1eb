// SPDX-License-Identifier: MIT
#include <coalesce/serve/flight_index.h>

#include <unistd.h>

#include <coalesce/command/ancestry.h>
#include <coalesce/reception/reception.h>

namespace coalesce {

void FlightIndex::add(const LiveFlight& flight) {
    remove(flight);
    const pid_t process = flight.run->pid;
    const pid_t session = ::getsid(process);  // another's, on a terminal of ours, who may take a moment to be gone
    const Entry& entry = by_hash_[flight.hash] = {&flight, {process, session > 0 ? session : process}};
    for (const pid_t leader : entry.leaders) by_process_[leader] = &flight;
}

void FlightIndex::remove(const LiveFlight& flight) {
    const auto found = by_hash_.find(flight.hash);
    if (found == by_hash_.end() || found->second.flight != &flight) return;
    for (const pid_t leader : found->second.leaders)
        if (const auto process = by_process_.find(leader); process != by_process_.end() && process->second == &flight)
            by_process_.erase(process);
    by_hash_.erase(found);
}

FlightRef FlightIndex::above(const Client& client, std::string_view ancestry,
                             std::optional<std::vector<ProcessFacts>>& sessions) const {
    for (; !ancestry.empty(); ancestry = above_nearest(ancestry)) {
        const auto found = by_hash_.find(std::string(nearest_flight(ancestry)));
        if (found != by_hash_.end() && may_see(client, found->second.flight->uid)) return found->second.flight->ref;
    }
    // With nothing running not even read: what starts later is not above the client.
    if (!sessions) sessions = by_process_.empty() ? std::vector<ProcessFacts>() : session_leaders_above(client.pid);
    for (const ProcessFacts& leader : *sessions)
        if (const auto found = by_process_.find(leader.pid); found != by_process_.end()) return found->second->ref;
    return {};
}

}  // namespace coalesce
