// SPDX-License-Identifier: MIT
// RunTimes: what the executor may ask and tell about how long commands take.
//
// The executor remembers nothing between its runs. Where it was given somebody who does, it tells
// them each run that came to its own end, once its requesters have been told, and asks for those
// who wait. What is remembered, and where, is theirs; an estimate decides nothing here.
#pragma once

#include <coalesce/command/key.h>

#include <chrono>
#include <optional>
#include <string>

namespace coalesce {

struct RunResult;

/// How long earlier runs of a command took.
struct Usually {
    std::chrono::milliseconds time{0};
    unsigned runs = 0;  ///< how many it is taken from; of one it is the "last time"

    /// A run that takes as long as that takes longer than usual.
    [[nodiscard]] bool exceeded_by(std::chrono::nanoseconds age) const noexcept { return 2 * age > 3 * time; }
    /// Of a run of that age: "usually 1m 5s", "last time 1m 5s", "longer than usual (1m 5s)".
    [[nodiscard]] std::string words(std::chrono::nanoseconds age = {}) const;
    /// What is left for a run of that age; nothing once it is over the time.
    [[nodiscard]] std::chrono::milliseconds left(std::chrono::nanoseconds age) const noexcept;
};

class RunTimes {
  public:
    virtual ~RunTimes() = default;

    /// Nothing: no run of it is remembered.
    [[nodiscard]] virtual std::optional<Usually> usually(const Key& key) noexcept = 0;
    /// A run of that key was made here and came to its own end.
    virtual void ran(const Key& key, const RunResult& result) noexcept = 0;
};

}  // namespace coalesce
