// SPDX-License-Identifier: MIT
// Reaper: what process 1 of a container owes the others (SPEC F13).
//
// As PID 1 we are given every process whose parent has gone, and its end to wait for:
// nobody else does, and each would stay a zombie. Our own children are left to those
// who have started them. For any other process this does nothing.
#pragma once

#include <coalesce/flight/unique_function.h>

#include <sys/types.h>

#include <optional>

#include <coalesce/io/watch.h>

namespace coalesce {

class Loop;

class Reaper {
  public:
    /// `is_ours` says whose end somebody else in this process waits for.
    Reaper(Loop& loop, UniqueFunction<bool(pid_t)> is_ours);

  private:
    void reap();

    UniqueFunction<bool(pid_t)> is_ours_;
    std::optional<SignalWatch> children_;
};

}  // namespace coalesce
