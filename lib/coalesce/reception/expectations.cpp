// SPDX-License-Identifier: MIT
#include <coalesce/reception/expectations.h>

#include <string_view>
#include <unordered_map>

#include <coalesce/engine/turns.h>

namespace coalesce {
namespace {

using namespace std::chrono;

struct Live {
    LiveFlight* flight;
    FlightId id;
    bool pending;  // behind the run of its key before it
};

Turns::Time left_of(const Run& run, const std::optional<Usually>& usually) {
    if (!usually) return std::nullopt;
    return usually->left(run.spool ? system_clock::now() - run.started : nanoseconds(0));
}

bool not_queued(const Live& live) { return !live.pending && live.flight->run->phase != Run::Phase::queued; }

}  // namespace

std::vector<Expected> expectations(Reception& reception) {
    std::vector<Live> all;
    reception.executor().flights().for_each([&](const Key&, const auto& view) {
        if (LiveFlight* const flight = reception.find(view.id)) all.push_back({flight, view.id, view.pending});
    });
    Turns turns(reception.executor().jobs());
    std::unordered_map<std::string_view, Turns::Time> ends;  // of a key's run
    for (const Live& live : all)
        if (not_queued(live)) {
            const auto left = left_of(*live.flight->run, reception.usually(*live.flight));
            if (reception.executor().has_place(live.id)) turns.running(left);
            ends.insert_or_assign(live.flight->hash, left);
        }
    std::vector<Expected> expected;
    for (const Live& live : all) {
        expected.push_back({live.flight, std::nullopt});
        if (not_queued(live)) continue;
        const auto& usually = reception.usually(*live.flight);
        const auto takes = usually ? Turns::Time(usually->time) : std::nullopt;
        const auto before = ends.find(live.flight->hash);
        const auto after =
            live.pending && before != ends.end() ? before->second : reception.executor().turn_in_class(live.id);
        const auto turn = turns.waiting(takes, after);
        expected.back().turn = turn;
        ends.insert_or_assign(live.flight->hash, turn && takes ? Turns::Time(*turn + *takes) : std::nullopt);
    }
    return expected;
}

}  // namespace coalesce
