// SPDX-License-Identifier: MIT
// CommandExecutor: command flights on the primitive, under a limit of runs.
//
// One Group is the one table of what is in flight (SPEC L5). This class gives its
// flights a run: a queue in the order of first requests (F12), a source of output, a
// spool, timeout, retries and cancellation. What the source is, a process or a run
// that is followed elsewhere, is RunSource's. It delivers nothing itself: a requester
// holds a ticket, reads the spool, and learns the result when the flight lands.
#pragma once

#include <coalesce/command/key.h>
#include <coalesce/flight/group.h>

#include <chrono>
#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>

#include <coalesce/engine/executor_options.h>
#include <coalesce/engine/job.h>
#include <coalesce/engine/line_program.h>
#include <coalesce/engine/places.h>
#include <coalesce/engine/run.h>
#include <coalesce/engine/run_source.h>
#include <coalesce/engine/run_times.h>
#include <coalesce/engine/sharing.h>
#include <coalesce/engine/turnstile.h>
#include <coalesce/io/watch.h>

namespace coalesce {

class Loop;

/// A key to ask with: owns nothing, becomes a Key when its request leads.
struct RequestKey {
    const std::shared_ptr<const CanonicalSurroundings>& surroundings;
    std::string_view words;
    operator KeyView() const { return {surroundings, words}; }
    explicit operator Key() const { return {surroundings, std::string(words)}; }
};

class CommandExecutor {
  public:
    using Options = ExecutorOptions;
    struct Counts {
        std::size_t queued = 0;
        std::size_t running = 0;
        std::uint64_t runs = 0;  ///< processes started
    };

    CommandExecutor(Loop& loop, Options options);
    ~CommandExecutor();
    CommandExecutor(const CommandExecutor&) = delete;
    CommandExecutor& operator=(const CommandExecutor&) = delete;

    /// Joins the flight of this key, or leads a new one with the Job that
    /// `make_job()` returns. `make_job` may be called later (after the flight it
    /// must wait for) and so has to own what it needs.
    template <class MakeJob>
    RunTicket submit(const RequestKey& key, MakeJob make_job, JoinOptions options = {}) {
        const auto requested = std::chrono::system_clock::now();
        const bool fresh = options.fresh;
        RunTicket ticket = flights_.join(
            key,
            [this, requested, fresh, make_job = std::move(make_job)](RunCompleter completer) mutable {
                if (options_.sharing != nullptr) note_request(completer.state(), fresh);
                admit(std::move(completer), make_job(), requested);
            },
            std::move(options));
        // Not admitted yet where it must wait for an earlier run to end.
        if (ticket && ticket.state().requested == std::chrono::system_clock::time_point())
            ticket.state().requested = requested;
        if (options_.sharing != nullptr && ticket && !ticket.landed()) note_join(ticket, fresh);
        return ticket;
    }

    /// Ends every run: TERM, KILL after `grace`. Requesters get what it came to.
    void cancel_all(std::chrono::milliseconds grace);
    /// Ends one run for everyone, or one that has yet to begin; false when there is none of that id.
    bool cancel(FlightId id, std::chrono::milliseconds grace);
    /// Ends one run at once, with `refusal` as the outcome for everyone.
    void refuse(FlightId id, Outcome refusal);
    /// What a live run has recorded so far; null when there is no such run.
    [[nodiscard]] std::shared_ptr<Spool> spool_of(FlightId id) const;
    /// While held, nothing new starts.
    void hold(bool held);
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
    void on_over(UniqueFunction<void(const std::shared_ptr<const RunResult>&)> on_over) {
        on_over_ = std::move(on_over);
    }
    /// Called when a flight has left the table, before its requesters are told.
    void on_landed(UniqueFunction<void(FlightId)> on_landed) { on_landed_ = std::move(on_landed); }
    /// Called when a run is paused because its output is past the replay limit and
    /// nobody has read enough of it.
    void on_stalled(UniqueFunction<void(FlightId)> on_stalled) { on_stalled_ = std::move(on_stalled); }

    /// Who remembers how long runs took; outlives this.
    void remember_in(RunTimes& times) noexcept { times_ = &times; }
    /// How long earlier runs of one of its flights took, where somebody remembers.
    [[nodiscard]] std::optional<Usually> usually(const FlightRef& flight) const;
    /// When the turn in its class comes for which a flight waits, as far as that can be guessed; at once where it waits
    /// for none.
    [[nodiscard]] Turns::Time turn_in_class(FlightId id) const;

    /// A run that waits for another one lends its place under the limit (F12).
    using Loan = Places::Loan;
    [[nodiscard]] Loan lend_place_of(FlightId id);

    [[nodiscard]] Counts counts() const;
    /// How many may run at a time; 0: there is no limit.
    [[nodiscard]] unsigned jobs() const noexcept { return options_.jobs; }
    /// Whether that process is a run's or the guard: somebody here waits for its end. Looks at each.
    [[nodiscard]] bool is_own(pid_t pid) const noexcept;
    /// Of every spool here; as long-lived as this.
    [[nodiscard]] const SpoolLimits& spool_limits() const noexcept { return options_.spool; }
    [[nodiscard]] const auto& flights() const noexcept { return flights_; }

  private:
    using Flights = Group<Key, RunResult, Run, KeyHash, KeyEqual>;
    enum class Ending { none, timed_out, cancelled, refused };
    struct Active {
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
        bool abandoned = false;  // everybody has left
        bool elsewhere = false;  // it is followed, not run here
        bool cut_short = false;  // it was sent a signal that as a rule ends it
        bool shared = false;     // others than ours are to be told its end
        bool again = false;      // what was followed is lost, and its spool is as good as new
    };

    static void note_request(Run& run, bool fresh);
    void note_join(RunTicket& ticket, bool fresh);
    void admit(RunCompleter completer, Job job, std::chrono::system_clock::time_point requested);
    [[nodiscard]] bool may_start(bool in_class) const noexcept;
    void queue(FlightId id, std::unique_ptr<Active> active);
    [[nodiscard]] std::unique_ptr<Active> take_first();
    [[nodiscard]] std::unique_ptr<Active> take_queued(FlightId id);
    [[nodiscard]] Active* queued(FlightId id) const;
    void start_queued();
    bool launch(FlightId id, std::unique_ptr<Active> active);
    bool run_here(FlightId id, std::unique_ptr<Active> active);
    void turn_has_come(FlightId id);
    void ask(FlightId id, std::unique_ptr<Active> active);
    [[nodiscard]] std::unique_ptr<Active> take_asked(FlightId id);
    bool start(FlightId id, std::unique_ptr<Active> active, std::unique_ptr<RunSource> source);
    [[nodiscard]] std::unique_ptr<RunSource> process(Active& active);
    void alone(FlightId id);
    void nobody_else(FlightId id);
    void somebody_else(FlightId id);
    bool again(FlightId id);
    void over(FlightId id, Outcome outcome, std::chrono::milliseconds grace);
    void on_output(Active& active, FlightId id, Stream stream, std::span<const char> bytes);
    void on_ended(FlightId id, Outcome outcome);
    void end(FlightId id, Ending ending, std::chrono::milliseconds grace, Outcome refusal = {});
    [[nodiscard]] Active* live(FlightId id) const;
    [[nodiscard]] Active* going_on(FlightId id) const;
    [[nodiscard]] std::unique_ptr<Active> take_running(FlightId id);
    void land(std::unique_ptr<Active> active, Outcome outcome);
    void kept(FlightId id);
    void settle(FlightId id, std::unique_ptr<Active> active, std::shared_ptr<const RunResult> result);
    void conclude(FlightId id, std::unique_ptr<Active> active, std::shared_ptr<const RunResult> result);
    void deliver(std::unique_ptr<Active> active, std::shared_ptr<const RunResult> result);
    [[nodiscard]] bool place_free() const noexcept;

    Loop& loop_;
    const Options options_;
    const std::shared_ptr<const SpoolLimits> spool_limits_;  // of spools that may outlive us
    LinePrograms line_programs_;
    using Queue = std::map<FlightId, std::unique_ptr<Active>>;  // ordered: first request first
    Queue queue_;
    Queue queue_of_classes_;  // those that have one: they may have to wait for more than a place
    std::unordered_map<FlightId, std::unique_ptr<Active>> waiting_for_turn_;
    std::unordered_map<FlightId, std::unique_ptr<Active>> running_;     // and those that are asked about
    std::unordered_map<FlightId, std::unique_ptr<Active>> concluding_;  // over; kept, or who shares them is told
    Places places_;
    RunTimes* times_ = nullptr;
    std::uint64_t runs_ = 0;
    bool starting_ = false;
    bool held_ = false;
    bool no_more_ = false;
    UniqueFunction<void(FlightId)> on_started_;
    UniqueFunction<void(const std::shared_ptr<const RunResult>&)> on_over_;
    UniqueFunction<void(FlightId)> on_landed_;
    UniqueFunction<void(FlightId)> on_stalled_;
    Flights flights_;  // last: it calls the above while it goes
};

}  // namespace coalesce
