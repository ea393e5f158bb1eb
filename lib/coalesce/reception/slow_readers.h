// SPDX-License-Identifier: MIT
// SlowReaders: what becomes of those who hold up a run past its replay limit (SPEC F9).
//
// Up to that limit nobody's reading matters. Past it nobody joins the run any more, and the
// slowest of its readers paces it: who wanted the whole is told that it is too long, for who
// wanted none of it it is read, and who reads nothing for a time, while others wait for the
// same command, is told so and has left.
#pragma once

#include <coalesce/flight/unique_function.h>

#include <chrono>

#include <coalesce/reception/requester.h>

namespace coalesce {

class Loop;
class Reception;

class SlowReaders {
  public:
    /// `on_dropped` is called before a requester of that flight is dropped.
    SlowReaders(Loop& loop, Reception& reception, std::chrono::milliseconds patience,
                UniqueFunction<void(LiveFlight&)> on_dropped);

    /// The flight's output is past the replay limit, and waits for its readers.
    void stalled(FlightId id);
    /// Of a stalled flight: who wants the whole has left, and who wants none reads along.
    void drain_or_refuse(Requester& requester);

  private:
    void look_for_progress(LiveFlight& flight);
    void drop_the_stalled(FlightId id);
    [[nodiscard]] bool another_waits_for(const LiveFlight& flight) const;

    Loop& loop_;
    Reception& reception_;
    const std::chrono::milliseconds patience_;
    UniqueFunction<void(LiveFlight&)> on_dropped_;
};

}  // namespace coalesce
