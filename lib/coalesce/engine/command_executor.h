// SPDX-License-Identifier: MIT
// CommandExecutor: command flights on the primitive, under a limit of runs.
//
// One Group is the one table of what is in flight (SPEC L5). This class gives its
// flights a run: a source of output, a spool, timeout, retries and cancellation. What
// the source is, a process or a run that is followed elsewhere, is RunSource's; who waits
// and for what, FlightQueue's; how an end is told, Landings'. It delivers nothing itself: a
// requester holds a ticket, reads the spool, and learns the result when the flight lands.
#pragma once

#include <coalesce/command/key.h>
#include <coalesce/flight/group.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <unordered_map>

#include <coalesce/engine/command_flight.h>
#include <coalesce/engine/executor_options.h>
#include <coalesce/engine/flight_queue.h>
#include <coalesce/engine/job.h>
#include <coalesce/engine/landings.h>
#include <coalesce/engine/line_program.h>
#include <coalesce/engine/places.h>
#include <coalesce/engine/run.h>
#include <coalesce/engine/run_source.h>
#include <coalesce/engine/run_times.h>

namespace coalesce {

class Loop;

class CommandExecutor {
  public:
    using Options = ExecutorOptions;
    struct Counts {
        std::size_t queued = 0;
        std::size_t running = 0;
        std::size_t working = 0;  ///< of them, what has its place for itself
        std::uint64_t runs = 0;   ///< processes started
    };

    CommandExecutor(Loop& loop, Options options);
    ~CommandExecutor();
    CommandExecutor(const CommandExecutor&) = delete;
    CommandExecutor& operator=(const CommandExecutor&) = delete;

    /// Joins the flight of this key, or leads a new one with the Job that
    /// `make_job()` returns. `make_job` may be called later (after the flight it
    /// must wait for) and so has to own what it needs, or to have the `own() &&` of Group::join().
    template <class MakeJob>
    RunTicket submit(const RequestKey& key, MakeJob make_job, JoinOptions options = {}) {
        const auto requested = std::chrono::system_clock::now();
        const bool fresh = options.fresh;
        RunTicket ticket = flights_.join(
            key,
            Leading<MakeJob>{
                .executor = *this, .requested = requested, .fresh = fresh, .make_job = std::move(make_job)},
            options);
        // Not admitted yet where it must wait for an earlier run to end.
        if (ticket && ticket.state().requested == std::chrono::system_clock::time_point())
            ticket.state().requested = requested;
        if (options_.sharing != nullptr && ticket && !ticket.landed()) note_join(ticket, fresh);
        return ticket;
    }

    /// Told of each that joins, if flights have classes: what waits for the run that this process is part of no longer
    /// does (C3). It may start at once.
    void joined_by(const RunTicket& ticket, pid_t asker);

    /// Ends every run: TERM, KILL after `grace`. Requesters get what it came to.
    void cancel_all(std::chrono::milliseconds grace);
    /// Ends one run for everyone, within its own grace, or one that has yet to begin; false when there is none of
    /// that id.
    bool cancel(FlightId id);
    /// Ends one run at once, with `refusal` as the outcome for everyone.
    void refuse(FlightId id, Outcome refusal);
    /// What a live run has recorded so far; null when there is no such run.
    [[nodiscard]] std::shared_ptr<Spool> spool_of(FlightId id) const;
    /// While held, nothing new starts.
    void hold(bool held) {
        if (queue_.hold(held) && !held) start_queued();
    }
    /// Drops the queued flights; they land as cancelled. Running ones go on.
    void cancel_queued();
    /// From now on nothing starts: what is queued, what waits behind another run and
    /// what is asked for later lands as cancelled, and nothing is tried again.
    void start_no_more();
    /// Sends a signal to a running command's process group.
    void signal(FlightId id, int number);

    /// Called when a run has a source and a spool.
    void on_started(UniqueFunction<void(FlightId)> on_started) { on_started_ = std::move(on_started); }
    /// Called with what a flight lands with, before another takes its place and before
    /// anybody can ask for its key anew. For a command that cannot be started that is
    /// inside submit().
    void on_over(UniqueFunction<void(FlightId, const std::shared_ptr<const RunResult>&)> on_over) {
        landings_.events().on_over = std::move(on_over);
    }
    /// Called when a flight has left the table, before its requesters are told.
    void on_landed(UniqueFunction<void(FlightId)> on_landed) { landings_.events().on_landed = std::move(on_landed); }
    /// Called when a run is paused because its output is past the replay limit and
    /// nobody has read enough of it. Where nobody is to be called, a run that has no reader is refused, on a later
    /// turn.
    void on_stalled(UniqueFunction<void(FlightId)> on_stalled) { on_stalled_ = std::move(on_stalled); }

    /// Who remembers how long runs took; outlives this.
    void remember_in(RunTimes& times) noexcept { landings_.remember_in(times); }
    /// How long earlier runs of one of its flights took, where somebody remembers.
    [[nodiscard]] std::optional<Usually> usually(const FlightRef& flight) const;
    /// When the turn in its class comes for which a flight waits, as far as that can be guessed; at once where it waits
    /// for none.
    [[nodiscard]] Turns::Time turn_in_class(FlightId id) const;

    /// A run that waits for another one lends its place under the limit (F12).
    using Loan = Places::Loan;
    [[nodiscard]] Loan lend_place_of(FlightId id);

    [[nodiscard]] Counts counts() const {
        return {.queued = queue_.size(), .running = running_.size(), .working = places_.working(), .runs = runs_};
    }
    /// How many may run at a time; 0: there is no limit.
    [[nodiscard]] unsigned jobs() const noexcept { return options_.jobs; }
    /// Whether it counts under that limit: one that runs elsewhere does not.
    [[nodiscard]] bool has_place(FlightId id) const { return places_.has(id); }
    /// Whether that process is a run's or the guard: somebody here waits for its end. Looks at each.
    [[nodiscard]] bool is_own(pid_t pid) const noexcept;
    /// Of every spool here; as long-lived as this.
    [[nodiscard]] const SpoolLimits& spool_limits() const noexcept { return options_.spool; }
    [[nodiscard]] const auto& flights() const noexcept { return flights_; }

  private:
    using Ending = CommandFlight::Ending;
    using Flight = std::unique_ptr<CommandFlight>;

    // What the group calls for the request that leads.
    template <class MakeJob>
    struct Leading {
        CommandExecutor& executor;
        std::chrono::system_clock::time_point requested;
        bool fresh;
        MakeJob make_job;

        void operator()(RunCompleter completer) {
            Job job = make_job();
            if (executor.options_.sharing != nullptr) CommandFlight::note_leader(completer.state(), job.asked, fresh);
            executor.admit(std::move(completer), std::move(job), requested);
        }
        auto own() && requires requires(MakeJob made) { std::move(made).own(); }
        {
            auto owned = std::move(make_job).own();
            return Leading<decltype(owned)>{executor, requested, fresh, std::move(owned)};
        }
    };

    void note_join(RunTicket& ticket, bool fresh);
    void admit(RunCompleter completer, Job job, std::chrono::system_clock::time_point requested);
    void start_queued();
    void start_next();
    bool launch(Flight flight);
    bool begin(Flight flight);
    void turn_has_come(FlightId id);
    void ask(Flight flight);
    void run_here(FlightId id);
    [[nodiscard]] Flight take_asked(FlightId id);
    bool start(Flight flight, std::unique_ptr<RunSource> source);
    void start_later(Flight flight);
    bool start_process(Flight flight);
    void alone(FlightId id);
    void nobody_else(FlightId id);
    bool call_off(FlightId id, std::chrono::milliseconds grace, bool for_everyone);
    bool again(FlightId id);
    void over(FlightId id, Outcome outcome, std::chrono::milliseconds grace);
    void on_output(CommandFlight& flight, Stream stream, std::span<const char> bytes);
    void stalled(FlightId id);
    void on_ended(FlightId id, Outcome outcome);
    void end(FlightId id, Ending ending, std::chrono::milliseconds grace, Outcome refusal = {});
    void land(Flight flight, Outcome outcome);
    [[nodiscard]] CommandFlight* live(FlightId id) const;
    [[nodiscard]] CommandFlight* going_on(FlightId id) const;
    [[nodiscard]] Flight take_running(FlightId id);

    Loop& loop_;
    const Options options_;
    const std::shared_ptr<const SpoolLimits> spool_limits_;  // of spools that may outlive us
    LinePrograms line_programs_;
    Places places_;
    FlightQueue queue_;
    std::unordered_map<FlightId, Flight> running_;  // and those that are asked about
    Landings landings_;
    std::uint64_t runs_ = 0;
    bool starting_ = false;
    bool start_is_due_ = false;  // a landing has posted it
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
    std::optional<Timer> put_off_;  // while something could not be started for want of resources
    UniqueFunction<void(FlightId)> on_started_;
    UniqueFunction<void(FlightId)> on_stalled_;
    CommandFlights flights_;  // last: it calls the above while it goes
};

}  // namespace coalesce
