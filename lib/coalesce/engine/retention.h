// SPDX-License-Identifier: MIT
// Retention: what a flight asks for its result before it runs, and tells it afterwards.
//
// The executor knows no store. A flight that has a Retention in its Run asks it once when it would be
// admitted, and lands with what is found, without a process and without a place under the limit
// (SPEC T13, T14); otherwise it runs and tells the result before its key is free, so that a request
// made on completion finds it. Keeping may take a disk's time, so it may end later than it began;
// until then the flight stays in the table, closed, with its place under the limit. Who joins may add
// or widen a Retention until then: it belongs to the flight, not to the one who led. A flight without
// one pays a branch.
#pragma once

#include <coalesce/flight/unique_function.h>

#include <memory>
#include <string>

namespace coalesce {

struct RunResult;

class Retention {
  public:
    virtual ~Retention() = default;

    /// A result that serves this flight's requesters, or null: it has to run.
    [[nodiscard]] virtual std::shared_ptr<const RunResult> find() = 0;

    /// The run is over; nobody has been told. Called for every outcome, also of a run that never started,
    /// but not for a result that came from find(). `done`, now or on a later turn: they may be told. Who
    /// answers later goes before the executor.
    virtual void keep(const std::shared_ptr<const RunResult>& result, UniqueFunction<void()> done) = 0;

    /// What came of that, for a reader: "kept for 10m"; empty: nothing worth a word.
    [[nodiscard]] virtual std::string words() const { return {}; }
    /// It was to be kept and could not be, which is worth telling unasked.
    [[nodiscard]] virtual bool failed() const { return false; }
};

}  // namespace coalesce
