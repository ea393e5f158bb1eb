// SPDX-License-Identifier: MIT
// Sharing: the seam for runs that are shared with others than this process's requesters.
//
// The executor knows no other machine. Where it has a Sharing, it asks for each run that has its
// turn, and the answer says whether it happens here or is followed elsewhere. A run that is shared
// is not cancelled because everybody here has left, before it is said that nobody else waits; and
// its end is told to the others before the requesters here hear of it, so that whoever asks
// again on completion meets nobody who still takes the run for live. A followed run has no
// place under the limit, no timeout and no retries here: those are its host's.
// Without a Sharing a run costs one branch.
#pragma once

#include <coalesce/command/outcome.h>
#include <coalesce/flight/flight_ref.h>
#include <coalesce/flight/unique_function.h>

#include <memory>

#include <coalesce/engine/run_source.h>

namespace coalesce {

struct Job;
struct RunResult;

class Sharing {
  public:
    /// What is said of one flight. On turns of their own, never inside a call to it; each may
    /// destroy the membership, and with it the answers.
    struct Answers {
        UniqueFunction<void()> run_here;                          ///< it is ours to run
        UniqueFunction<void(std::unique_ptr<RunSource>)> follow;  ///< it runs elsewhere, this is what comes of it
        UniqueFunction<void()> nobody_else;                       ///< if nobody here waits either, it may be cancelled
        UniqueFunction<void(Outcome)> over;                       ///< it ends with that for everyone here, now
    };

    /// One flight's part in it. Its destruction withdraws: no answer follows.
    class Membership {
      public:
        Membership() = default;
        Membership(const Membership&) = delete;
        Membership& operator=(const Membership&) = delete;
        virtual ~Membership() = default;

        /// The last requester here has left: does anybody wait elsewhere? May be asked again.
        virtual void alone() = 0;
        /// The flight is over, retries included; nobody here knows yet. `done`, on a later
        /// turn: they may be told.
        virtual void conclude(const RunResult& result, UniqueFunction<void()> done) = 0;
    };

    virtual ~Sharing() = default;

    /// `job` lives as long as the membership, which may still change it before it answers.
    [[nodiscard]] virtual std::unique_ptr<Membership> ask(FlightId id, Job& job, Answers answers) = 0;
};

}  // namespace coalesce
