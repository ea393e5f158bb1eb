// SPDX-License-Identifier: MIT
// A flight for the store, and what it came to, where it does not matter of which command.
#pragma once

#include <chrono>
#include <memory>
#include <utility>

#include <coalesce/kept/kept_flight.h>

inline std::shared_ptr<const coalesce::CanonicalSurroundings> some_surroundings() {
    return std::make_shared<const coalesce::CanonicalSurroundings>("surroundings");
}

inline coalesce::KeptFlight some_flight(const coalesce::StorePlace& place, const coalesce::Wish& wish,
                                        const coalesce::SpoolLimits& limits,
                                        const coalesce::ProgramIdentity& program = {
                                            .device = 1, .inode = 2, .size = 3, .modified_ns = 4}) {
    return coalesce::KeptFlight(std::make_shared<coalesce::StoreAccess>(place),
                                {.surroundings = some_surroundings(),
                                 .words = "words",
                                 .program = program,
                                 .title = "make",
                                 .directory = "/",
                                 .dependencies = {},
                                 .state = {}},
                                wish, limits);
}

inline coalesce::RunResult without_output(coalesce::Outcome outcome, const coalesce::SpoolLimits& limits) {
    coalesce::RunResult result;
    result.outcome = std::move(outcome);
    result.started = std::chrono::system_clock::now();
    result.spool = std::make_shared<coalesce::Spool>(limits);
    result.spool->close();
    return result;
}
