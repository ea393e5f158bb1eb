// SPDX-License-Identifier: MIT
#include <coalesce/reception/operations.h>

#include <signal.h>

#include <coalesce/protocol/answer.h>
#include <coalesce/reception/expectations.h>

namespace coalesce {
namespace {

// What nothing is done about but by the command ends nobody's wait (SPEC R5).
bool is_for_the_command_alone(int signal) { return signal == SIGUSR1 || signal == SIGUSR2; }

}  // namespace

void refuse_too_long(Reception& reception, Client& client) {
    reception.refuse(client, {}, "too_long",
                     "a request is at most " + std::to_string(request_bytes_max >> 20) + " MiB long");
}

std::string object_of(const Reception& reception, LiveFlight& flight, std::optional<std::chrono::milliseconds> turn) {
    return flight_object(*flight.run, {.name = reception.name_of(flight),
                                       .key = flight.hash,
                                       .waiting = flight.waiting,
                                       .usually = reception.usually(flight),
                                       .turn = turn});
}

std::string flights_seen_by(Reception& reception, const Client& client) {
    std::string flights;
    for (const Expected& expected : expectations(reception)) {
        LiveFlight& flight = *expected.flight;
        if (!may_see(client, flight.uid)) continue;
        if (!flights.empty()) flights += ',';
        flights += object_of(reception, flight, expected.turn);
    }
    return "[" + flights + "]";
}

void tell_status(Reception& reception, Client& client, std::string_view id) {
    client.session->send(message_to(id).raw("flights", flights_seen_by(reception, client)).line());
}

std::string cancel_flight(Reception& reception, Client& client, std::string_view id, std::string_view name) {
    LiveFlight* chosen = nullptr;
    const auto& flights = reception.flights_by_name();
    auto next = name.empty() ? flights.end() : flights.lower_bound(name);
    for (; next != flights.end() && next->first.starts_with(name); ++next) {
        LiveFlight& flight = *next->second;
        if (flight.over || !may_see(client, flight.uid)) continue;
        if (chosen != nullptr) {
            reception.refuse(client, id, "ambiguous", "more than one flight's id begins with " + std::string(name));
            return {};
        }
        chosen = &flight;
    }
    if (chosen == nullptr) {
        reception.refuse(client, id, "no_such_flight", "there is no flight " + std::string(name));
        return {};
    }
    std::string whole_name = chosen->name;
    client.session->send(message_to(id).text("event", "cancelled").line());
    reception.cancel(*chosen);
    return whole_name;
}

void leave_request(Reception& reception, Client& client, const std::string& id) {
    Requester* const requester = client.request_of(id);
    if (requester == nullptr || !requester->waiting)
        return reception.refuse(client, id, "no_such_request", "no request of this id is waiting");
    reception.dismiss(*requester, message_to(id).text("event", "left").line());
}

// With others waiting, here or on other machines, or nothing running here, a signal means that this requester
// leaves; alone, it is for the command. Where that has ended, or another is waited for, one
// that is for the command alone is nobody's.
void signal_request(Reception& reception, Client& client, const std::string& id, int number) {
    Requester* const requester = client.request_of(id);
    if (requester == nullptr)
        return reception.refuse(client, id, "no_such_request", "no request of this id is waiting");
    const LiveFlight* const flight = requester->flight;
    const bool alone = flight != nullptr && flight->waiting == 1 && flight->run->pid > 0 && flight->run->elsewhere == 0;
    const bool ignored = !requester->waiting || (!alone && is_for_the_command_alone(number));
    if (!alone && !ignored) return leave_request(reception, client, id);
    client.session->send(message_to(id).text("event", ignored ? "ignored" : "signalled").line());
    if (!ignored) reception.executor().signal(flight->id, number);
}

}  // namespace coalesce
