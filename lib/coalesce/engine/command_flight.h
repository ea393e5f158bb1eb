// SPDX-License-Identifier: MIT
// CommandFlight: one flight of a command, from its admission to its landing.
//
// What the executor moves from the queue to what runs and on to its end: the completer, the job, the
// source of its output, and how it is to end. It knows itself alone: what its output, its
// source's end and a loss come to for it. Places, the queue, and who is told what are left to
// others. Internal.
#pragma once

#include <coalesce/command/key.h>
#include <coalesce/command/outcome.h>
#include <coalesce/command/result.h>
#include <coalesce/flight/group.h>

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <utility>

#include <coalesce/engine/job.h>
#include <coalesce/engine/run.h>
#include <coalesce/engine/run_source.h>
#include <coalesce/engine/sharing.h>
#include <coalesce/engine/turnstile.h>
#include <coalesce/io/watch.h>

namespace coalesce {

class Loop;

using CommandFlights = Group<Key, RunResult, Run, KeyHash, KeyEqual>;

struct CommandFlight {
    enum class Ending { none, timed_out, cancelled, refused };

    CommandFlight(RunCompleter its_completer, Job its_job);

    [[nodiscard]] FlightId id() const noexcept { return completer.flight().id(); }
    [[nodiscard]] Run& run() const noexcept { return completer.state(); }

    /// One has joined: `fresh` holds for all.
    static void note_request(Run& run, bool fresh);
    /// The first requester, which has asked at `asked` or, if that is 0, now. It is noted when it comes and when it is
    /// admitted, in either order: the first counts.
    static void note_leader(Run& run, std::chrono::milliseconds asked, bool fresh);

    /// A source is about to be started for it: the spool for what will come.
    void begin_attempt(const std::shared_ptr<const SpoolLimits>& limits);
    /// It could not be started for want of something.
    void start_later();
    /// Calls `on_timeout` when it has run for as long as it may, if that is bounded.
    template <class OnTimeout>
    void limit_time(Loop& loop, OnTimeout on_timeout) {
        if (!job.timeout) return;
        if (!timeout) timeout.emplace(loop);
        timeout->start(*job.timeout, std::move(on_timeout));
    }
    /// The source has been started.
    void runs(std::unique_ptr<RunSource> started);
    /// Records what has come. True: it is paused, since nobody has read enough of it.
    Result<bool> take(Stream stream, std::span<const char> bytes);
    void signal(int number);
    /// What is told to end keeps its first reason, unless that is a timeout behind which there is another try: behind
    /// any other there is none.
    void end_as(Ending reason, Outcome refused_with);
    /// What the end of its source comes to.
    [[nodiscard]] Outcome came_to(Outcome outcome);
    /// Output that someone may have passed on cannot be taken back.
    [[nodiscard]] bool may_try_again(const Outcome& outcome) const;
    void try_again();
    /// What it follows is lost: whether it can be asked about anew. Its requesters keep their places, and
    /// their reading of a spool that nothing has come to; where nobody reads before the end, it begins
    /// anew, as a retry does.
    bool begin_anew();
    /// It can be joined as before, if it is not about to end.
    void open_to_joiners();
    /// Its run is over, as that.
    [[nodiscard]] std::shared_ptr<const RunResult> result_of(Outcome outcome);
    /// Says how long such a command takes: it ran here, and came to its own end.
    [[nodiscard]] bool tells_how_long(const RunResult& result) const noexcept;

    RunCompleter completer;
    Job job;
    std::unique_ptr<Turnstile::Turn> turn;            // where it has a class: from its wait to its end
    std::unique_ptr<RunSource> source;                // while it runs
    std::unique_ptr<Sharing::Membership> membership;  // once it was asked about
    std::shared_ptr<const RunResult> result;          // while it is kept or concluded
    std::optional<Timer> timeout;
    Ending ending = Ending::none;
    Outcome refusal;  // with Ending::refused
    std::chrono::steady_clock::time_point started_steady;
    unsigned attempts = 0;
    bool abandoned = false;       // everybody has left
    bool elsewhere = false;       // it is followed, not run here
    bool over_elsewhere = false;  // what it follows: nobody joins that
    bool cut_short = false;       // as its result will say
    bool shared = false;          // others than ours are to be told its end
    bool spool_is_new = false;    // what was followed is lost, and nothing had come of it
};

}  // namespace coalesce
