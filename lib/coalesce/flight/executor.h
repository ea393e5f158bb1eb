// SPDX-License-Identifier: MIT
// Executor: the one thing the primitive asks of an event loop.
//
// Everything a group tells its requesters goes through post(), so that no
// callback ever runs inside join(), then() or value(): the caller's own frame
// is always finished with its bookkeeping first. An executor promises to run
// each function once, later, in the order posted, on the loop's thread. Which
// loop that is, and how it wakes, is left to whoever implements it. A loop whose
// post() may be called from any thread says so by its type, since a function
// that returns a std::future can only be waited for elsewhere (memoize.h).
// Refused: timers and priorities, which the primitive does not need.
#pragma once

#include <coalesce/flight/unique_function.h>

namespace coalesce {

/// Runs functions later, in order, on one thread. Outlives the groups that post
/// to it and every ticket that is still to be consumed.
class Executor {
  public:
    Executor() = default;
    Executor(const Executor&) = delete;
    Executor& operator=(const Executor&) = delete;
    virtual ~Executor() = default;

    /// Queues `function`. Never runs it inside the call.
    virtual void post(UniqueFunction<void()> function) = 0;
};

/// An executor whose post() may be called from any thread. Groups on it are
/// still the loop thread's own.
class ThreadSafeExecutor : public Executor {};

}  // namespace coalesce
