// SPDX-License-Identifier: MIT
#include <coalesce/engine/command_executor.h>

#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <utility>
#include <vector>

#include <coalesce/engine/process_source.h>
#include <coalesce/io/boot_time.h>
#include <coalesce/io/loop.h>

namespace coalesce {

using namespace std::chrono;

namespace {

bool ended_by_itself(const Outcome& outcome) {
    return outcome.kind == Outcome::Kind::exited || outcome.kind == Outcome::Kind::signalled;
}

bool goes_on_after(int signal) { return signal == SIGUSR1 || signal == SIGUSR2 || signal == 0; }

}  // namespace

CommandExecutor::CommandExecutor(Loop& loop, Options options)
    : loop_(loop),
      options_(std::move(options)),
      spool_limits_(std::make_shared<const SpoolLimits>(options_.spool)),
      line_programs_(options_.shell),
      places_(options_.jobs),
      flights_(loop) {}

// Whoever listened may be gone already, and the end of one run starts no other.
CommandExecutor::~CommandExecutor() {
    no_more_ = true;
    on_started_ = {};
    on_over_ = {};
    on_landed_ = {};
    on_stalled_ = {};
    // A ticket's holder may have the spool still, and read on.
    for (const auto& [id, active] : running_)
        if (active->source) active->completer.state().spool->on_room({});
}

// Since a leader's is noted before it is admitted and again when it is there, the first counts.
void CommandExecutor::note_request(Run& run, bool fresh) {
    run.newest_request = since_boot();
    run.fresh = run.fresh || fresh;
}

void CommandExecutor::note_join(RunTicket& ticket, bool fresh) {
    if (ticket.leader()) {
        if (ticket.state().newest_request.count() == 0) note_request(ticket.state(), fresh);
        return;
    }
    note_request(ticket.state(), fresh);
    const Active* const active = going_on(ticket.id());
    if (active != nullptr && active->membership) active->membership->joined();
}

void CommandExecutor::admit(RunCompleter completer, Job job, system_clock::time_point requested) {
    const FlightId id = completer.flight().id();
    Run& run = completer.state();
    run.title = job.title;
    run.requested = requested;
    run.refresh = job.refresh;
    completer.on_cancel([this, id] {
        Active* const active = live(id);
        if (active != nullptr) active->abandoned = true;
        cancel(id, active != nullptr ? active->job.grace : milliseconds(0));
    });
    auto active = std::make_unique<Active>(Active{.completer = std::move(completer),
                                                  .job = std::move(job),
                                                  .turn = {},
                                                  .source = {},
                                                  .membership = {},
                                                  .result = {},
                                                  .timeout = {},
                                                  .refusal = {},
                                                  .started_steady = {}});
    if (no_more_) return land(std::move(active), Outcome::cancelled());
    if (!run.retention) run.retention = active->job.retention;
    if (run.retention) {
        if (auto kept = run.retention->find()) return deliver(std::move(active), std::move(kept));
    }
    const bool in_class = active->job.run_class.has_value();
    if (in_class) run.run_class = active->job.run_class->name;
    if ((in_class ? queue_of_classes_ : queue_).empty() && may_start(in_class))
        return void(launch(id, std::move(active)));
    active->completer.queue();
    queue(id, std::move(active));
}

// Who waits for a turn has no place, or what it waits for might wait for that place. But no more wait than there
// are places, since each of them costs something.
bool CommandExecutor::may_start(bool in_class) const noexcept {
    return place_free() && (!in_class || places_.free(waiting_for_turn_.size()));
}

void CommandExecutor::queue(FlightId id, std::unique_ptr<Active> active) {
    (active->job.run_class ? queue_of_classes_ : queue_).emplace(id, std::move(active));
}

// The first that may start; null: none may.
std::unique_ptr<CommandExecutor::Active> CommandExecutor::take_first() {
    Queue* first = nullptr;
    for (Queue* const queue : {&queue_, &queue_of_classes_})
        if (!queue->empty() && may_start(queue == &queue_of_classes_) &&
            (first == nullptr || queue->begin()->first < first->begin()->first))
            first = queue;
    return first != nullptr ? std::move(first->extract(first->begin()).mapped()) : nullptr;
}

std::unique_ptr<CommandExecutor::Active> CommandExecutor::take_queued(FlightId id) {
    for (Queue* const queue : {&queue_, &queue_of_classes_})
        if (auto found = queue->extract(id)) return std::move(found.mapped());
    if (auto found = waiting_for_turn_.extract(id)) return std::move(found.mapped());
    return nullptr;
}

CommandExecutor::Active* CommandExecutor::queued(FlightId id) const {
    for (const Queue* const queue : {&queue_, &queue_of_classes_})
        if (const auto found = queue->find(id); found != queue->end()) return found->second.get();
    const auto found = waiting_for_turn_.find(id);
    return found != waiting_for_turn_.end() ? found->second.get() : nullptr;
}

bool CommandExecutor::place_free() const noexcept {
    if (held_ || no_more_) return false;
    return places_.free();
}

void CommandExecutor::start_queued() {
    if (starting_) return;  // a launch that fails at once lands, and landing calls here
    starting_ = true;
    while (auto first = take_first()) {
        const FlightId id = first->completer.flight().id();
        if (!launch(id, std::move(first))) break;
    }
    starting_ = false;
}

// False: for want of resources it went back to the queue, until another run ends.
bool CommandExecutor::launch(FlightId id, std::unique_ptr<Active> active) {
    active->completer.begin();
    if (options_.sharing != nullptr && !active->membership && !active->job.shared_as.empty()) {
        ask(id, std::move(active));
        return true;
    }
    return run_here(id, std::move(active));
}

std::unique_ptr<RunSource> CommandExecutor::process(Active& active) {
    return std::make_unique<ProcessSource>(loop_, options_, line_programs_, active.job,
                                           active.turn ? active.turn->mark() : ProcessMark{});
}

// When its turn has come, where it needs one.
bool CommandExecutor::run_here(FlightId id, std::unique_ptr<Active> active) {
    if (active->job.run_class && !active->turn) {
        const RunClass& run_class = *active->job.run_class;
        if (options_.turnstile == nullptr) {
            land(std::move(active), Outcome::refused(ENOTSUP, "there are no classes here"));
            return true;
        }
        const auto known = usually(active->completer.flight());
        auto turn =
            options_.turnstile->ask(loop_, run_class, jobs_of(run_class, options_.class_jobs), active->job.asker,
                                    known ? Turns::Time(known->time) : std::nullopt, [this, id] { turn_has_come(id); });
        if (!turn) {
            const Error& error = turn.error();
            land(std::move(active), Outcome::refused(error.code.value(), "cannot " + error.message()));
            return true;
        }
        active->turn = std::move(*turn);
        if (!active->turn->has_come()) {
            Run& run = active->completer.state();
            run.phase = Run::Phase::queued;
            run.others = active->turn->others();
            active->completer.queue();
            waiting_for_turn_.emplace(id, std::move(active));
            return true;
        }
    }
    auto source = process(*active);
    return start(id, std::move(active), std::move(source));
}

// Where there is no place any more it waits for that, and then for another turn: meanwhile others have this one.
void CommandExecutor::turn_has_come(FlightId id) {
    auto active = std::move(waiting_for_turn_.extract(id).mapped());
    if (place_free()) {
        active->completer.begin();
        auto source = process(*active);
        start(id, std::move(active), std::move(source));
    } else {
        active->turn.reset();
        queue(id, std::move(active));
    }
    start_queued();
}

// With its place: as likely as not it will be run here.
void CommandExecutor::ask(FlightId id, std::unique_ptr<Active> active) {
    Active& asking = *active;
    asking.completer.state().phase = Run::Phase::asking;
    running_.emplace(id, std::move(active));
    places_.take(id);
    asking.membership = options_.sharing->ask(
        id, asking.job, asking.completer.state(),
        {.run_here =
             [this, id] {
                 if (auto asked = take_asked(id)) {
                     asked->elsewhere = false;
                     run_here(id, std::move(asked));
                 }
             },
         .follow =
             [this, id](std::unique_ptr<RunSource> source) {
                 if (auto asked = take_asked(id)) {
                     asked->elsewhere = true;
                     start(id, std::move(asked), std::move(source));
                     start_queued();  // it needs no place
                 }
             },
         .again = [this, id] { return again(id); },
         .nobody_else = [this, id] { nobody_else(id); },
         .somebody_else = [this, id] { somebody_else(id); },
         .over = [this, id](Outcome outcome, milliseconds grace) { over(id, std::move(outcome), grace); }});
}

std::unique_ptr<CommandExecutor::Active> CommandExecutor::take_asked(FlightId id) {
    const Active* const active = live(id);
    return active != nullptr && !active->source ? take_running(id) : nullptr;
}

// False: for want of resources it went back to the queue, until another run ends.
bool CommandExecutor::start(FlightId id, std::unique_ptr<Active> active, std::unique_ptr<RunSource> source) {
    Run& run = active->completer.state();
    const bool again = std::exchange(active->again, false);
    if (!again) run.spool = std::make_shared<Spool>(spool_limits_);
    run.started = system_clock::now();
    active->started_steady = steady_clock::now();
    auto refusal = source->start({[this, active = active.get(), id](Stream stream, std::span<const char> bytes) {
                                      on_output(*active, id, stream, bytes);
                                  },
                                  [this, id](Outcome outcome) { on_ended(id, std::move(outcome)); }});
    // With others running, their end will bring the resources back.
    if (refusal && refusal->for_want && !again && places_.working() > 0) {
        run.phase = Run::Phase::queued;
        run.spool.reset();  // the next start has its own
        active->turn.reset();
        active->completer.queue();
        queue(id, std::move(active));
        return false;
    }
    ++active->attempts;
    if (active->membership) active->completer.keep([this, id] { alone(id); });
    run.phase = Run::Phase::running;
    if (refusal) {
        land(std::move(active), std::move(refusal->outcome));
        return true;
    }
    run.pid = source->pid();
    run.spool->on_room([source = source.get()] { source->resume(); });
    active->source = std::move(source);
    if (!active->elsewhere) {
        ++runs_;
        places_.take(id);
        if (active->job.timeout) {
            if (!active->timeout) active->timeout.emplace(loop_);
            active->timeout->start(*active->job.timeout,
                                   [this, id, grace = active->job.grace] { end(id, Ending::timed_out, grace); });
        }
    }
    running_.emplace(id, std::move(active));
    if (on_started_) on_started_(id);
    return true;
}

// Between two tries it stands in the queue. What is over is about to land.
CommandExecutor::Active* CommandExecutor::going_on(FlightId id) const {
    Active* const active = queued(id);
    return active != nullptr ? active : live(id);
}

// Whoever comes before there is an answer might join what is about to be cancelled.
void CommandExecutor::alone(FlightId id) {
    Active* const active = going_on(id);
    if (active == nullptr) return;
    active->completer.close_to_joiners();
    active->membership->alone();
}

// Who waits here after all stays.
void CommandExecutor::nobody_else(FlightId id) {
    Active* const active = going_on(id);
    if (active != nullptr && active->completer.waiters() == 0) active->completer.let_go();
}

void CommandExecutor::somebody_else(FlightId id) {
    Active* const active = going_on(id);
    if (active == nullptr || active->ending != Ending::none) return;
    const auto& spool = active->completer.state().spool;
    if (!spool || spool->replayable()) active->completer.open_to_joiners();
}

// Its requesters keep their places, and their reading of a spool that nothing has come to; where
// nobody reads before the end, it begins anew, as a retry does.
bool CommandExecutor::again(FlightId id) {
    Active* const active = live(id);
    if (active == nullptr || !active->source || !active->elsewhere || active->ending != Ending::none) return false;
    Run& run = active->completer.state();
    const bool untouched = run.spool->size() == 0;
    if (!untouched && (!active->job.whole || !run.spool->replayable())) return false;
    active->source.reset();
    active->again = untouched;
    run.spool->on_room({});
    if (!untouched) run.spool.reset();
    run.phase = Run::Phase::asking;
    run.host.clear();
    places_.take(id);
    return true;
}

void CommandExecutor::over(FlightId id, Outcome outcome, milliseconds grace) {
    if (auto waiting = take_queued(id)) return land(std::move(waiting), std::move(outcome));
    if (live(id) != nullptr) end(id, Ending::refused, grace, std::move(outcome));
}

void CommandExecutor::on_output(Active& active, FlightId id, Stream stream, std::span<const char> bytes) {
    Spool& spool = *active.completer.state().spool;
    // What nobody will read is not kept, since nothing would bound it until the grace
    // period ends; the command may still have to write it in order to end.
    if (active.abandoned || active.ending == Ending::refused || (active.ending == Ending::cancelled && spool.full()))
        return;
    auto kept = spool.append(stream, bytes);
    if (!kept) return refuse(id, Outcome::refused(kept.error().code.value(), "cannot " + kept.error().message()));
    if (spool.replayable()) return;
    active.completer.close_to_joiners();
    if (!spool.full() || active.ending == Ending::cancelled) return;
    active.source->pause();
    if (on_stalled_) on_stalled_(id);
}

CommandExecutor::Active* CommandExecutor::live(FlightId id) const {
    const auto found = running_.find(id);
    return found == running_.end() ? nullptr : found->second.get();
}

std::unique_ptr<CommandExecutor::Active> CommandExecutor::take_running(FlightId id) {
    auto node = running_.extract(id);
    places_.give_back(id);
    return std::move(node.mapped());
}

void CommandExecutor::end(FlightId id, Ending ending, milliseconds grace, Outcome refusal) {
    Active& active = *live(id);
    if (!active.source)  // nothing runs yet
        return land(take_running(id), ending == Ending::refused ? std::move(refusal) : Outcome::cancelled());
    if (active.ending == Ending::none) {
        active.ending = ending;
        active.refusal = std::move(refusal);
    }
    active.completer.state().phase = Run::Phase::ending;
    if (ending != Ending::timed_out || active.attempts > active.job.retries) active.completer.close_to_joiners();
    if (ending != Ending::timed_out) active.source->resume();
    active.source->terminate(grace);
}

void CommandExecutor::on_ended(FlightId id, Outcome outcome) {
    std::unique_ptr<Active> active = take_running(id);
    if (active->timeout) active->timeout->stop();
    active->turn.reset();
    active->completer.state().spool->on_room({});  // the spool may outlive what it would resume
    switch (active->ending) {
        case Ending::none:
            if (active->membership && !active->elsewhere) outcome = active->membership->judge(std::move(outcome));
            break;
        case Ending::timed_out:
            outcome = Outcome::timed_out();
            break;
        case Ending::cancelled:
            outcome = Outcome::cancelled();
            break;
        case Ending::refused:
            outcome = std::move(active->refusal);
            break;
    }
    const bool may_retry = active->ending == Ending::none || active->ending == Ending::timed_out;
    // Output that someone may have passed on cannot be taken back.
    const bool kept_whole = active->completer.state().spool->replayable();
    if (!outcome.success() && outcome.kind != Outcome::Kind::lost && may_retry && kept_whole && !no_more_ &&
        !active->elsewhere && active->attempts <= active->job.retries) {
        active->source.reset();
        active->ending = Ending::none;
        active->completer.state().phase = Run::Phase::queued;
        queue(id, std::move(active));  // its old number: before all who came later
        return start_queued();
    }
    land(std::move(active), std::move(outcome));
}

void CommandExecutor::land(std::unique_ptr<Active> active, Outcome outcome) {
    Run& run = active->completer.state();
    active->shared = active->membership && run.phase != Run::Phase::asking;
    run.phase = Run::Phase::ending;
    run.pid = -1;
    if (run.spool) run.spool->close();
    const FlightId id = active->completer.flight().id();
    auto result = std::make_shared<const RunResult>(
        RunResult{.run = id,
                  .outcome = std::move(outcome),
                  .spool = run.spool,
                  .title = std::move(active->job.title),
                  .requested = run.requested,
                  .started = run.started,
                  .duration = active->attempts > 0 ? steady_clock::now() - active->started_steady : nanoseconds(0),
                  .attempts = active->attempts,
                  .host = active->elsewhere ? run.host : std::string()});
    const std::shared_ptr<Retention> retention = run.retention;
    if (!retention) return settle(id, std::move(active), std::move(result));
    active->completer.close_to_joiners();  // what is over is not joined
    active->result = result;
    concluding_.emplace(id, std::move(active));
    places_.take(id);  // as long as nobody has been told that it is free
    retention->keep(result, [this, id] { kept(id); });
}

void CommandExecutor::kept(FlightId id) {
    auto over = concluding_.extract(id);
    if (!over) return;
    places_.give_back(id);
    auto result = std::move(over.mapped()->result);
    settle(id, std::move(over.mapped()), std::move(result));
}

void CommandExecutor::settle(FlightId id, std::unique_ptr<Active> active, std::shared_ptr<const RunResult> result) {
    if (active->shared) return conclude(id, std::move(active), std::move(result));
    deliver(std::move(active), std::move(result));
}

// Those elsewhere first. Until they are told the flight stays in the table, and can be joined.
void CommandExecutor::conclude(FlightId id, std::unique_ptr<Active> active, std::shared_ptr<const RunResult> result) {
    active->source.reset();
    Sharing::Membership& membership = *active->membership;
    const RunResult& told = *result;
    active->result = std::move(result);
    concluding_.emplace(id, std::move(active));
    start_queued();
    membership.conclude(told, [this, id] {
        auto concluded = concluding_.extract(id);
        if (!concluded) return;
        auto landing = std::move(concluded.mapped()->result);
        deliver(std::move(concluded.mapped()), std::move(landing));
    });
}

void CommandExecutor::deliver(std::unique_ptr<Active> active, std::shared_ptr<const RunResult> result) {
    const FlightId id = active->completer.flight().id();
    auto completer = std::move(active->completer);
    const bool told = times_ != nullptr && active->attempts > 0 && !active->elsewhere && !active->cut_short &&
                      ended_by_itself(result->outcome);
    active.reset();
    if (on_over_) on_over_(result);
    completer.value(result);
    if (told) times_->ran(Flights::key_of(completer.flight()), *result);  // its requesters come first
    if (on_landed_) on_landed_(id);
    start_queued();
}

bool CommandExecutor::cancel(FlightId id, milliseconds grace) {
    if (auto waiting = take_queued(id)) {
        land(std::move(waiting), Outcome::cancelled());
        return true;
    }
    if (concluding_.contains(id)) return true;
    if (live(id) == nullptr) return flights_.cancel(id) > 0;  // it waits behind another run
    end(id, Ending::cancelled, grace);
    return true;
}

void CommandExecutor::refuse(FlightId id, Outcome refusal) {
    if (live(id) != nullptr) end(id, Ending::refused, milliseconds(0), std::move(refusal));
}

std::shared_ptr<Spool> CommandExecutor::spool_of(FlightId id) const {
    const Active* const active = live(id);
    return active == nullptr ? nullptr : active->completer.state().spool;
}

void CommandExecutor::hold(bool held) {
    if (std::exchange(held_, held) && !held) start_queued();
}

void CommandExecutor::cancel_queued() {
    while (!queue_.empty()) cancel(queue_.begin()->first, milliseconds(0));
    while (!queue_of_classes_.empty()) cancel(queue_of_classes_.begin()->first, milliseconds(0));
    while (!waiting_for_turn_.empty()) cancel(waiting_for_turn_.begin()->first, milliseconds(0));
}

void CommandExecutor::start_no_more() {
    no_more_ = true;
    cancel_queued();
}

void CommandExecutor::cancel_all(milliseconds grace) {
    cancel_queued();
    std::vector<FlightId> ids;
    for (const auto& [id, active] : running_) ids.push_back(id);
    for (const FlightId id : ids) cancel(id, grace);
}

void CommandExecutor::signal(FlightId id, int number) {
    Active* const active = live(id);
    if (active == nullptr || !active->source) return;
    active->cut_short = active->cut_short || !goes_on_after(number);
    active->source->signal(number);
}

std::optional<Usually> CommandExecutor::usually(const FlightRef& flight) const {
    return times_ == nullptr ? std::nullopt : times_->usually(Flights::key_of(flight));
}

Turns::Time CommandExecutor::turn_in_class(FlightId id) const {
    const auto found = waiting_for_turn_.find(id);
    return found == waiting_for_turn_.end() ? milliseconds(0) : found->second->turn->expected();
}

CommandExecutor::Counts CommandExecutor::counts() const {
    return {queue_.size() + queue_of_classes_.size() + waiting_for_turn_.size(), running_.size(), runs_};
}

bool CommandExecutor::is_own(pid_t pid) const noexcept {
    if (options_.guard != nullptr && options_.guard->pid() == pid) return true;
    return std::any_of(running_.begin(), running_.end(), [pid](const auto& running) {
        return running.second->source && running.second->source->pid() == pid;
    });
}

CommandExecutor::Loan CommandExecutor::lend_place_of(FlightId id) {
    Loan loan = places_.lend(id);
    start_queued();
    return loan;
}

}  // namespace coalesce
