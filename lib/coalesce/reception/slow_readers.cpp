// SPDX-License-Identifier: MIT
#include <coalesce/reception/slow_readers.h>

#include <algorithm>
#include <utility>
#include <vector>

#include <coalesce/command/duration.h>
#include <coalesce/io/loop.h>
#include <coalesce/protocol/answer.h>
#include <coalesce/reception/reception.h>

namespace coalesce {
namespace {

std::vector<Requester*> followers_of(const LiveFlight& flight) {
    return flight.those_who([](const Requester& one) { return one.waiting && one.following(); });
}

}  // namespace

SlowReaders::SlowReaders(Loop& loop, Reception& reception, std::chrono::milliseconds patience,
                         UniqueFunction<void(LiveFlight&)> on_dropped)
    : loop_(loop), reception_(reception), patience_(patience), on_dropped_(std::move(on_dropped)) {}

// Its output is past the replay limit, and nobody reads it. From here on nobody joins, so
// that this is done once for a flight.
void SlowReaders::stalled(FlightId id) {
    LiveFlight* const flight = reception_.find(id);
    if (flight == nullptr) return;
    if (!flight->progress) look_for_progress(*flight);
    if (std::exchange(flight->stalled, true)) return;
    loop_.post([this, id] {
        const LiveFlight* const live = reception_.find(id);
        if (live == nullptr || live->over) return;
        for (Requester* const requester : live->those_who([](const Requester&) { return true; }))
            drain_or_refuse(*requester);
    });
}

// Who wanted the whole cannot get it any more, and may want none of it then; who wanted none needs none of it kept.
void SlowReaders::drain_or_refuse(Requester& requester) {
    if (requester.output == Request::Output::whole)
        reception_.dismiss(requester, error_line(requester.id, "output_too_long",
                                                 "the output is longer than the replay limit; ask for a stream"));
    if (requester.output != Request::Output::none || !requester.ticket) return;
    auto& sink = requester.need_extras().sink;
    if (sink) return;
    const auto read_all = [&sink] {
        while (const auto piece = sink->next()) sink->advance(piece->extent.length);
    };
    sink = std::make_unique<SpoolReader>(*requester.ticket.state().spool, SpoolReader::AtTheEnd{}, read_all);
    read_all();
}

// One who reads nothing paces the run, which nobody can join any more: others who ask for
// the same would wait for as long as it likes (SPEC F9).
void SlowReaders::look_for_progress(LiveFlight& flight) {
    for (Requester* const requester : followers_of(flight)) requester->extras->read_before = requester->read_so_far();
    if (!flight.progress) flight.progress.emplace(loop_);
    flight.progress->in_background();
    flight.progress->start(patience_, [this, id = flight.id] { loop_.post([this, id] { drop_the_stalled(id); }); });
}

void SlowReaders::drop_the_stalled(FlightId id) {
    LiveFlight* flight = reception_.find(id);
    if (flight == nullptr || flight->over) return;
    std::vector<Requester*> stalled = followers_of(*flight);
    std::erase_if(stalled, [size = flight->run->spool->size()](const Requester* one) {
        return one->read_so_far() != one->extras->read_before || one->extras->read_before == size;
    });
    if (flight->waiting > stalled.size() || another_waits_for(*flight))
        for (Requester* const requester : stalled) {
            on_dropped_(*flight);
            if (requester->extras->relay) requester->extras->relay->leave_to_requester();
            reception_.dismiss(*requester, error_line(requester->id, "stalled",
                                                      "nothing was read for " + format_duration(patience_) +
                                                          ", and others wait for " + requester->title()));
        }
    flight = reception_.find(id);
    if (flight != nullptr && !flight->over) look_for_progress(*flight);
}

bool SlowReaders::another_waits_for(const LiveFlight& flight) const {
    const auto& flights = reception_.flights();
    return std::any_of(flights.begin(), flights.end(), [&flight](const auto& entry) {
        const LiveFlight& other = entry.second;
        return &other != &flight && other.hash == flight.hash && !other.over && other.waiting > 0;
    });
}

}  // namespace coalesce
