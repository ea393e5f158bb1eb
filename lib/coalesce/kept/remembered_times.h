// SPDX-License-Identifier: MIT
// RememberedTimes: the history as an executor uses it (SPEC H1).
//
// Which runs are worth remembering is decided here: those that took a second or more. They are
// written on a later turn of the loop, by when their requesters have been told; nothing is opened
// before there is something to write or to look up. Every door has one beside its executor.
#pragma once

#include <coalesce/command/key.h>

#include <optional>

#include <coalesce/engine/run_times.h>
#include <coalesce/kept/history.h>

namespace coalesce {

class Loop;

class RememberedTimes final : public RunTimes {
  public:
    /// Of this process's user; writes on that loop.
    explicit RememberedTimes(Loop& loop) noexcept : loop_(loop) {}

    [[nodiscard]] std::optional<Usually> usually(const Key& key) noexcept override;
    void ran(const Key& key, const RunResult& result) noexcept override;

  private:
    Loop& loop_;
};

}  // namespace coalesce
