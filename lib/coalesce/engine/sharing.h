// SPDX-License-Identifier: MIT
// Sharing: the seam for runs that are shared with others than this process's requesters.
//
// The executor knows no other machine. Where it has a Sharing, it asks for each run that has its
// turn, and the answer says whether it happens here or is followed elsewhere. A run that is shared
// is not cancelled because everybody here has left, before it is said that nobody else waits; and
// its end is told to the others before the requesters here hear of it, so that whoever asks
// again on completion meets nobody who still takes the run for live. A followed run has no
// place under the limit, no timeout and no retries here: those are its host's. Should it be
// lost, it may be asked about again as long as nobody here has been given any of it.
// Without a Sharing a run costs one branch.
#pragma once

#include <coalesce/command/outcome.h>
#include <coalesce/flight/flight_ref.h>
#include <coalesce/flight/unique_function.h>

#include <chrono>
#include <memory>

#include <coalesce/engine/run_source.h>

namespace coalesce {

struct Job;
struct Run;
struct RunResult;

class Sharing {
  public:
    /// What is said of one flight. On turns of their own, never inside a call to it; each may
    /// destroy the membership, and with it the answers.
    struct Answers {
        UniqueFunction<void()> run_here;                          ///< it is ours to run
        UniqueFunction<void()> waits;                             ///< for a run elsewhere to end: it may take long
        UniqueFunction<void(std::unique_ptr<RunSource>)> follow;  ///< it runs elsewhere, this is what comes of it
        /// What is followed is known to be over, and all of its output may not have come: who asks here now is not to
        /// be given it. Until `again`.
        UniqueFunction<void()> over_elsewhere;
        /// What was followed is lost. True: nothing has been given away, and run_here or follow may
        /// be said anew. False: it goes on, and `over` is what is left to say.
        UniqueFunction<bool()> again;
        UniqueFunction<void()> nobody_else;    ///< if nobody here waits either, it may be cancelled
        UniqueFunction<void()> somebody_else;  ///< it goes on, and can be joined here as before
        /// It ends with that for everyone here: what runs gets TERM, and KILL after `grace`.
        UniqueFunction<void(Outcome, std::chrono::milliseconds grace)> over;
    };

    /// One flight's part in it. Its destruction withdraws: no answer follows, and what is ours to run and is
    /// queued may be had by others.
    class Membership {
      public:
        Membership() = default;
        Membership(const Membership&) = delete;
        Membership& operator=(const Membership&) = delete;
        virtual ~Membership() = default;

        /// The last requester here has left: does anybody wait elsewhere? Nobody can join here until
        /// there is an answer. May be asked again.
        virtual void alone() = 0;
        /// Somebody has joined here.
        virtual void joined() = 0;
        /// It is about to be ended, or told to end, and where it is ours to run nobody elsewhere is to join it any
        /// more. `for_everyone`: by its name, and so also for those who have.
        virtual void called_off(bool for_everyone) = 0;
        /// A process of ours has ended by itself or by its timeout, with that. What it is to be taken for: it may have
        /// been ended since it was ours no more (lost).
        [[nodiscard]] virtual Outcome judge(Outcome outcome) = 0;
        /// The flight is over, retries included; nobody here knows yet. `done`, on a later
        /// turn: they may be told.
        virtual void conclude(const RunResult& result, UniqueFunction<void()> done) = 0;
    };

    virtual ~Sharing() = default;

    /// `job` and `run` live as long as the membership, which may still change the job before it
    /// answers, and tells in the run what it knows of it.
    [[nodiscard]] virtual std::unique_ptr<Membership> ask(FlightId id, Job& job, Run& run, Answers answers) = 0;
};

}  // namespace coalesce
