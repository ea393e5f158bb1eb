// SPDX-License-Identifier: MIT
#include <coalesce/engine/command_executor.h>

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include <coalesce/engine/process_source.h>
#include <coalesce/io/loop.h>

namespace coalesce {

using namespace std::chrono;

namespace {

constexpr milliseconds until_there_is_room{100};

}  // namespace

CommandExecutor::CommandExecutor(Loop& loop, Options options)
    : loop_(loop),
      options_(std::move(options)),
      spool_limits_(std::make_shared<const SpoolLimits>(options_.spool)),
      line_programs_(options_.shell),
      places_(options_.jobs),
      queue_(loop, options_, places_, [this](FlightId id) { turn_has_come(id); }),
      landings_(places_),
      flights_(loop) {
    landings_.events().on_later = [this] { start_next(); };
}

// Whoever listened may be gone already, and the end of one run starts no other.
CommandExecutor::~CommandExecutor() {
    *alive_ = false;
    queue_.close();
    landings_.events() = {};
    on_started_ = {};
    on_stalled_ = {};
    // A ticket's holder may have the spool still, and read on.
    for (const auto& [id, flight] : running_)
        if (flight->source) flight->run().spool->on_room({});
}

void CommandExecutor::note_join(RunTicket& ticket, bool fresh) {
    if (ticket.leader()) return CommandFlight::note_leader(ticket.state(), milliseconds(0), fresh);
    CommandFlight::note_request(ticket.state(), fresh);
    const CommandFlight* const flight = going_on(ticket.id());
    if (flight != nullptr && flight->membership) flight->membership->joined();
}

void CommandExecutor::admit(RunCompleter completer, Job job, system_clock::time_point requested) {
    const FlightId id = completer.flight().id();
    Run& run = completer.state();
    run.title = job.title;
    run.requested = requested;
    run.refresh = job.refresh;
    completer.on_cancel([this, id] {
        CommandFlight* const flight = live(id);
        if (flight != nullptr) flight->abandoned = true;
        call_off(id, flight != nullptr ? flight->job.grace : milliseconds(0), false);
    });
    auto flight = std::make_unique<CommandFlight>(std::move(completer), std::move(job));
    if (queue_.closed()) return land(std::move(flight), Outcome::cancelled());
    if (!run.retention) run.retention = flight->job.retention;
    if (run.retention) {
        if (const auto kept = run.retention->find()) {
            landings_.deliver(std::move(flight), kept);
            return start_next();
        }
    }
    if (flight->job.run_class) {
        run.run_class = flight->job.run_class->name;
        run.askers.insert(run.askers.begin(), flight->job.asker);
    }
    if (!start_is_due_ && queue_.lets_pass(*flight)) return void(launch(std::move(flight)));
    const bool in_class = flight->job.run_class.has_value();
    flight->completer.queue();
    queue_.push(std::move(flight));
    if (in_class && !start_is_due_) start_queued();  // it may not have to wait for others of a class after all
}

// Also while nothing waits: it may have to, when what it follows elsewhere is lost, or when it is admitted.
void CommandExecutor::joined_by(const RunTicket& ticket, pid_t asker) {
    if (options_.turnstile == nullptr || ticket.landed()) return;
    const CommandFlight* const flight = going_on(ticket.id());
    if (flight != nullptr && !flight->job.run_class) return;
    std::vector<pid_t>& askers = ticket.state().askers;
    if (std::find(askers.begin(), askers.end(), asker) != askers.end()) return;
    askers.push_back(asker);
    queue_.joined_by(ticket.id(), asker);
    start_queued();
}

void CommandExecutor::start_queued() {
    if (starting_) return;  // who is told of a start may ask for more
    starting_ = true;
    while (auto first = queue_.take_first())
        if (!launch(std::move(first))) break;
    starting_ = false;
}

// After a landing. Who waited for that key is admitted by what the landing has posted, and may be before those that
// are queued: until then nobody starts (SPEC F12).
void CommandExecutor::start_next() {
    if (queue_.size() == 0) return;
    start_is_due_ = true;
    loop_.post([this, alive = alive_] {
        if (!*alive) return;
        start_is_due_ = false;
        start_queued();
    });
}

// False: for want of resources it went back to the queue.
bool CommandExecutor::launch(Flight flight) {
    flight->completer.begin();
    if (auto refusal = queue_.wait_for_turn(flight, landings_.times())) {
        land(std::move(flight), std::move(*refusal));
        return true;
    }
    return !flight || begin(std::move(flight));
}

// With its place, and its turn where it needs one: as likely as not it will be run here.
bool CommandExecutor::begin(Flight flight) {
    if (options_.sharing == nullptr || flight->membership || flight->job.shared_as.empty())
        return start_process(std::move(flight));
    ask(std::move(flight));
    return true;
}

bool CommandExecutor::start_process(Flight flight) {
    auto process = std::make_unique<ProcessSource>(loop_, options_, line_programs_, flight->job,
                                                   flight->turn ? flight->turn->mark() : ProcessMark{});
    return start(std::move(flight), std::move(process));
}

void CommandExecutor::turn_has_come(FlightId id) {
    if (auto flight = queue_.take_with_turn(id)) begin(std::move(flight));
    start_queued();
}

void CommandExecutor::ask(Flight flight) {
    CommandFlight& asking = *flight;
    const FlightId id = asking.id();
    asking.run().phase = Run::Phase::asking;
    running_.emplace(id, std::move(flight));
    places_.take(id);
    asking.membership = options_.sharing->ask(
        id, asking.job, asking.run(),
        {.run_here = [this, id] { run_here(id); },
         .waits =
             [this, id] {
                 CommandFlight* const asked = live(id);
                 if (asked == nullptr || asked->source) return;
                 asked->turn.reset();
                 places_.give_back(id);
                 start_queued();
             },
         .follow =
             [this, id](std::unique_ptr<RunSource> source) {
                 if (auto asked = take_asked(id)) {
                     asked->elsewhere = true;
                     asked->turn.reset();
                     start(std::move(asked), std::move(source));
                     start_queued();  // it needs no place
                 }
             },
         .over_elsewhere =
             [this, id] {
                 CommandFlight* const followed = going_on(id);
                 if (followed == nullptr) return;
                 followed->over_elsewhere = true;
                 followed->completer.close_to_joiners();
             },
         .again = [this, id] { return again(id); },
         .nobody_else = [this, id] { nobody_else(id); },
         .somebody_else =
             [this, id] {
                 if (CommandFlight* const shared = going_on(id)) shared->open_to_joiners();
             },
         .over = [this, id](Outcome outcome, milliseconds grace) { over(id, std::move(outcome), grace); }});
}

void CommandExecutor::run_here(FlightId id) {
    auto asked = take_asked(id);
    if (!asked) return;
    asked->elsewhere = false;
    asked->run().phase = Run::Phase::queued;
    if (queue_.closed()) return land(std::move(asked), Outcome::cancelled());
    if (places_.free()) {
        launch(std::move(asked));  // without its turn, if it has followed another or waited for it
    } else {
        asked->completer.queue();
        queue_.push(std::move(asked));
    }
    // Others run meanwhile, and may wait for it wherever it is run: what is queued holds nothing, and asks when it has
    // its place and its turn (SPEC M14).
    CommandFlight* const queued = queue_.find(id);
    if (queued == nullptr) return;
    queued->membership.reset();
    nobody_else(id);  // that had been asked and will not be answered
}

CommandExecutor::Flight CommandExecutor::take_asked(FlightId id) {
    const CommandFlight* const flight = live(id);
    return flight != nullptr && !flight->source ? take_running(id) : nullptr;
}

// False: for want of resources it went back to the queue.
bool CommandExecutor::start(Flight flight, std::unique_ptr<RunSource> source) {
    const FlightId id = flight->id();
    Run& run = flight->run();
    flight->begin_attempt(spool_limits_);
    const bool spool_is_new = std::exchange(flight->spool_is_new, false);
    auto refusal = source->start({[this, flight = flight.get()](Stream stream, std::span<const char> bytes) {
                                      on_output(*flight, stream, bytes);
                                  },
                                  [this, id](Outcome outcome) { on_ended(id, std::move(outcome)); }});
    // With others running, their end will bring the resources back.
    if (refusal && refusal->for_want && !spool_is_new && places_.working() > 0) {
        start_later(std::move(flight));
        return false;
    }
    ++flight->attempts;
    if (flight->membership) flight->completer.keep([this, id] { alone(id); });
    run.phase = Run::Phase::running;
    if (refusal) {
        land(std::move(flight), std::move(refusal->outcome));
        return true;
    }
    flight->runs(std::move(source));
    if (!flight->elsewhere) {
        ++runs_;
        places_.take(id);
        flight->limit_time(loop_, [this, id, grace = flight->job.grace] { end(id, Ending::timed_out, grace); });
    }
    running_.emplace(id, std::move(flight));
    if (on_started_) on_started_(id);
    return true;
}

// Where that is on others' account, there may be room again long before one of ours ends (SPEC F14).
void CommandExecutor::start_later(Flight flight) {
    flight->start_later();
    queue_.push(std::move(flight));
    if (!put_off_) put_off_.emplace(loop_).in_background();
    put_off_->start(until_there_is_room, [this] { start_queued(); });
}

// Between two tries it stands in the queue. What is over is about to land.
CommandFlight* CommandExecutor::going_on(FlightId id) const {
    CommandFlight* const flight = queue_.find(id);
    return flight != nullptr ? flight : live(id);
}

// Whoever comes before there is an answer might join what is about to be cancelled.
void CommandExecutor::alone(FlightId id) {
    CommandFlight* const flight = going_on(id);
    if (flight == nullptr) return;
    if (!flight->membership) return flight->completer.let_go();  // it has been elsewhere, and is to ask anew
    flight->completer.close_to_joiners();
    flight->membership->alone();
}

// Who waits here after all stays.
void CommandExecutor::nobody_else(FlightId id) {
    CommandFlight* const flight = going_on(id);
    if (flight != nullptr && flight->completer.waiters() == 0) flight->completer.let_go();
}

bool CommandExecutor::again(FlightId id) {
    CommandFlight* const flight = live(id);
    if (flight == nullptr || !flight->begin_anew()) return false;
    places_.take(id);
    return true;
}

void CommandExecutor::over(FlightId id, Outcome outcome, milliseconds grace) {
    if (auto waiting = queue_.take(id)) return land(std::move(waiting), std::move(outcome));
    if (live(id) != nullptr) end(id, Ending::refused, grace, std::move(outcome));
}

void CommandExecutor::on_output(CommandFlight& flight, Stream stream, std::span<const char> bytes) {
    auto is_stalled = flight.take(stream, bytes);
    if (!is_stalled)
        return refuse(flight.id(),
                      Outcome::refused(is_stalled.error().code.value(), "cannot " + is_stalled.error().message()));
    if (*is_stalled) stalled(flight.id());
}

// On a later turn: the run is being recorded just now. Without a reader it would stay paused for ever.
void CommandExecutor::stalled(FlightId id) {
    if (on_stalled_) return on_stalled_(id);
    loop_.post([this, alive = alive_, id] {
        if (!*alive) return;
        const auto spool = spool_of(id);
        if (spool && !spool->has_readers())
            refuse(id, Outcome::refused(0, "the output is longer than the replay limit"));
    });
}

CommandFlight* CommandExecutor::live(FlightId id) const {
    const auto found = running_.find(id);
    return found == running_.end() ? nullptr : found->second.get();
}

CommandExecutor::Flight CommandExecutor::take_running(FlightId id) {
    auto node = running_.extract(id);
    places_.give_back(id);
    return std::move(node.mapped());
}

void CommandExecutor::end(FlightId id, Ending ending, milliseconds grace, Outcome refusal) {
    CommandFlight& flight = *live(id);
    if (!flight.source)  // nothing runs yet
        return land(take_running(id), ending == Ending::refused ? std::move(refusal) : Outcome::cancelled());
    flight.end_as(ending, std::move(refusal));
    if (ending != Ending::timed_out) flight.source->resume();
    flight.source->terminate(grace);
}

void CommandExecutor::on_ended(FlightId id, Outcome outcome) {
    Flight flight = take_running(id);
    if (flight->timeout) flight->timeout->stop();
    flight->run().spool->on_room({});  // the spool may outlive what it would resume
    outcome = flight->came_to(std::move(outcome));
    if (queue_.closed() || !flight->may_try_again(outcome)) return land(std::move(flight), std::move(outcome));
    flight->try_again();
    queue_.push(std::move(flight));
    start_queued();
}

void CommandExecutor::land(Flight flight, Outcome outcome) {
    landings_.land(std::move(flight), std::move(outcome));
    start_next();
}

bool CommandExecutor::cancel(FlightId id) {
    const CommandFlight* const flight = going_on(id);
    return call_off(id, flight != nullptr ? flight->job.grace : milliseconds(0), true);
}

bool CommandExecutor::call_off(FlightId id, milliseconds grace, bool for_everyone) {
    if (const CommandFlight* const flight = going_on(id); flight != nullptr && flight->membership)
        flight->membership->called_off(for_everyone);
    if (auto waiting = queue_.take(id)) {
        land(std::move(waiting), Outcome::cancelled());
        return true;
    }
    if (landings_.under_way(id)) return true;
    if (live(id) == nullptr) return flights_.cancel(id) > 0;  // it waits behind another run
    end(id, Ending::cancelled, grace);
    return true;
}

void CommandExecutor::refuse(FlightId id, Outcome refusal) {
    if (live(id) != nullptr) end(id, Ending::refused, milliseconds(0), std::move(refusal));
}

std::shared_ptr<Spool> CommandExecutor::spool_of(FlightId id) const {
    const CommandFlight* const flight = live(id);
    return flight == nullptr ? nullptr : flight->run().spool;
}

void CommandExecutor::cancel_queued() {
    while (auto waiting = queue_.take_any()) land(std::move(waiting), Outcome::cancelled());
}

void CommandExecutor::start_no_more() {
    queue_.close();
    cancel_queued();
}

void CommandExecutor::cancel_all(milliseconds grace) {
    cancel_queued();
    std::vector<FlightId> ids;
    for (const auto& [id, flight] : running_) ids.push_back(id);
    for (const FlightId id : ids) call_off(id, grace, false);
}

void CommandExecutor::signal(FlightId id, int number) {
    CommandFlight* const flight = live(id);
    if (flight == nullptr) return;
    flight->signal(number);
    if (flight->cut_short && flight->membership) flight->membership->called_off(false);
}

std::optional<Usually> CommandExecutor::usually(const FlightRef& flight) const {
    RunTimes* const times = landings_.times();
    return times == nullptr ? std::nullopt : times->usually(CommandFlights::key_of(flight));
}

Turns::Time CommandExecutor::turn_in_class(FlightId id) const { return queue_.turn_in_class(id); }

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
