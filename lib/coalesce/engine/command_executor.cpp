// SPDX-License-Identifier: MIT
#include <coalesce/engine/command_executor.h>

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include <coalesce/command/shell_line.h>
#include <coalesce/io/loop.h>
#include <coalesce/io/unnamed_file.h>

namespace coalesce {
namespace {

using namespace std::chrono;

// A file rather than a pipe: it needs no feeding while the command runs, and a
// command that does not read it costs nothing. Sealed, since the child's
// descriptor could write.
Result<Descriptor> input_file(const std::string& bytes) {
    auto file = make_unnamed_file("the command's input");
    if (!file) return file;
    std::size_t done = 0;
    while (done < bytes.size()) {
        const ssize_t wrote = ::write(file->get(), bytes.data() + done, bytes.size() - done);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) return system_error_now("keep the command's input");
        done += static_cast<std::size_t>(wrote);
    }
    ::lseek(file->get(), 0, SEEK_SET);
    seal(file->get());
    return file;
}

Outcome refusal_of(const Child::Start& start, const Command& command) {
    const std::string why = std::error_code(start.error, std::system_category()).message();
    switch (start.failed) {
        case Started::Step::directory:
            return Outcome::refused(start.error, "cannot enter " + command.surroundings->cwd + ": " + why);
        case Started::Step::execute:
            return Outcome::not_started(start.error, "cannot run " + display({command.argv.front()}) + ": " + why);
        case Started::Step::input:
            return Outcome::refused(start.error, "cannot open /dev/null: " + why);
        case Started::Step::descriptors:
            return Outcome::refused(start.error,
                                    "cannot keep our descriptors from " + display({command.argv.front()}) + ": " + why);
        default:
            return Outcome::refused(start.error, "cannot start a process: " + why);
    }
}

bool short_of_resources(const Child::Start& start) {
    return (start.failed == Started::Step::spawn || start.failed == Started::Step::input) &&
           (start.error == EAGAIN || start.error == ENOMEM || start.error == EMFILE || start.error == ENFILE);
}

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
    for (const auto& [id, active] : running_) active->completer.state().spool->on_room({});
}

void CommandExecutor::admit(RunCompleter completer, Job job, system_clock::time_point requested) {
    const FlightId id = completer.flight().id();
    Run& run = completer.state();
    run.title = job.title;
    run.requested = requested;
    run.refresh = job.refresh;
    completer.on_cancel([this, id] {
        const auto found = running_.find(id);
        if (found == running_.end()) return void(cancel(id, milliseconds(0)));
        found->second->abandoned = true;
        cancel(id, found->second->job.grace);
    });
    auto active = std::make_unique<Active>(Active{.completer = std::move(completer),
                                                  .job = std::move(job),
                                                  .child = {},
                                                  .timeout = {},
                                                  .refusal = {},
                                                  .started_steady = {}});
    if (no_more_) return land(std::move(active), Outcome::cancelled());
    if (!run.retention) run.retention = active->job.retention;
    if (run.retention) {
        if (auto kept = run.retention->find()) return deliver(std::move(active), std::move(kept));
    }
    if (queue_.empty() && place_free()) return void(launch(id, std::move(active)));
    active->completer.queue();
    queue_.emplace(id, std::move(active));
}

bool CommandExecutor::place_free() const noexcept {
    if (held_ || no_more_) return false;
    return places_.free();
}

void CommandExecutor::start_queued() {
    if (starting_) return;  // a launch that fails at once lands, and landing calls here
    starting_ = true;
    while (!queue_.empty() && place_free()) {
        auto first = queue_.extract(queue_.begin());
        if (!launch(first.key(), std::move(first.mapped()))) break;
    }
    starting_ = false;
}

// False: for want of resources it went back to the queue, until another run ends.
bool CommandExecutor::launch(FlightId id, std::unique_ptr<Active> active) {
    active->completer.begin();
    Run& run = active->completer.state();
    run.spool = std::make_shared<Spool>(spool_limits_);
    run.started = system_clock::now();
    active->started_steady = steady_clock::now();
    Child::Start start = start_child(id, *active);
    if (!start.child) {
        // With others running, their end will bring the resources back.
        if (short_of_resources(start) && places_.working() > 0) {
            active->ending = Ending::none;
            run.spool.reset();  // the next start has its own
            active->completer.queue();
            queue_.emplace(id, std::move(active));
            return false;
        }
        ++active->attempts;
        Outcome refused =
            active->ending == Ending::refused ? std::move(active->refusal) : refusal_of(start, active->job.command);
        land(std::move(active), std::move(refused));
        return true;
    }
    ++active->attempts;
    ++runs_;
    run.phase = Run::Phase::running;
    run.pid = start.child->pid();
    active->child = std::move(start.child);
    run.spool->on_room([child = active->child.get()] { child->resume(); });
    if (active->job.timeout) {
        if (!active->timeout) active->timeout.emplace(loop_);
        active->timeout->start(*active->job.timeout,
                               [this, active = active.get()] { end(*active, Ending::timed_out, active->job.grace); });
    }
    running_.emplace(id, std::move(active));
    places_.take(id);
    if (on_started_) on_started_(id);
    return true;
}

Child::Start CommandExecutor::start_child(FlightId id, Active& active) {
    const Command& command = active.job.command;
    const Surroundings& surroundings = *command.surroundings;
    const auto events = [this, &active, id] {
        return Child::Events{
            [this, &active, id](Stream stream, std::span<const char> bytes) { on_output(active, id, stream, bytes); },
            [this, id](Outcome outcome) { on_ended(id, std::move(outcome)); }};
    };
    if (active.job.launched) return Child::adopt(loop_, std::exchange(active.job.launched, {}).value(), events());
    Descriptor input;
    if (command.stdin_bytes) {
        auto file = input_file(*command.stdin_bytes);
        if (!file) {
            active.ending = Ending::refused;
            active.refusal = Outcome::refused(file.error().code.value(), file.error().message());
            return {nullptr, Started::Step::spawn, file.error().code.value()};
        }
        input = std::move(*file);
    }
    const auto start = [&](const std::vector<std::string>& argv, const std::vector<std::string>& env,
                           const char* path) {
        Program program{.argv = argv,
                        .env = env,
                        .path = path,
                        .umask = surroundings.umask,
                        .hook = options_.in_child,
                        .guard = options_.guard};
        const bool own = surroundings.cwd == options_.directory && surroundings.directory == options_.directory_itself;
        if (!surroundings.cwd.empty() && !own) program.directory = surroundings.cwd.c_str();
        return Child::start(loop_, program, input, events());
    };
    if (active.job.line) {
        if (const auto direct = line_programs_.find(*active.job.line, command.surroundings)) {
            Child::Start started = start(direct->argv, *direct->env, direct->path.c_str());
            // What cannot be executed is the shell's to explain, in its own words.
            active.direct = static_cast<bool>(started.child);
            if (started.child || started.failed != Started::Step::execute) return started;
        }
    }
    if (active.job.line && active.job.line->find_first_of("-+") == 0)  // or the shell takes it as its own options
        return start({command.argv[0], "-c", "--", *active.job.line}, surroundings.env, nullptr);
    return start(command.argv, surroundings.env, nullptr);
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
    active.child->pause();
    if (on_stalled_) on_stalled_(id);
}

void CommandExecutor::end(Active& active, Ending ending, milliseconds grace) {
    if (active.ending == Ending::none) active.ending = ending;
    active.completer.state().phase = Run::Phase::ending;
    if (ending != Ending::timed_out || active.attempts > active.job.retries) active.completer.close_to_joiners();
    if (ending != Ending::timed_out) active.child->resume();
    active.child->terminate(grace);
}

void CommandExecutor::on_ended(FlightId id, Outcome outcome) {
    auto node = running_.extract(id);
    std::unique_ptr<Active> active = std::move(node.mapped());
    places_.give_back(id);
    if (active->timeout) active->timeout->stop();
    active->completer.state().spool->on_room({});  // the spool may outlive what it would resume
    if (active->direct && active->ending == Ending::none) {
        // The shell would have stayed its parent, and have had something to say.
        ShellEnd end = end_as_shell_would(outcome);
        outcome = std::move(end.outcome);
        auto kept = active->completer.state().spool->append(Stream::err, end.notice);
        if (!kept) outcome = Outcome::refused(kept.error().code.value(), "cannot " + kept.error().message());
    }
    switch (active->ending) {
        case Ending::none:
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
    if (!outcome.success() && may_retry && kept_whole && !no_more_ && active->attempts <= active->job.retries) {
        active->child.reset();
        active->ending = Ending::none;
        active->completer.state().phase = Run::Phase::queued;
        queue_.emplace(id, std::move(active));  // its old number: before all who came later
        return start_queued();
    }
    land(std::move(active), std::move(outcome));
}

void CommandExecutor::land(std::unique_ptr<Active> active, Outcome outcome) {
    Run& run = active->completer.state();
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
                  .attempts = active->attempts});
    if (run.retention) run.retention->keep(result);
    deliver(std::move(active), std::move(result));
}

void CommandExecutor::deliver(std::unique_ptr<Active> active, std::shared_ptr<const RunResult> result) {
    const FlightId id = active->completer.flight().id();
    auto completer = std::move(active->completer);
    active.reset();
    if (on_over_) on_over_(result);
    completer.value(std::move(result));
    if (on_landed_) on_landed_(id);
    start_queued();
}

bool CommandExecutor::cancel(FlightId id, milliseconds grace) {
    if (auto waiting = queue_.extract(id)) {
        land(std::move(waiting.mapped()), Outcome::cancelled());
        return true;
    }
    const auto found = running_.find(id);
    if (found == running_.end()) return flights_.cancel(id) > 0;  // it waits behind another run
    end(*found->second, Ending::cancelled, grace);
    return true;
}

void CommandExecutor::refuse(FlightId id, Outcome refusal) {
    const auto found = running_.find(id);
    if (found == running_.end()) return;
    found->second->refusal = std::move(refusal);
    end(*found->second, Ending::refused, milliseconds(0));
}

std::shared_ptr<Spool> CommandExecutor::spool_of(FlightId id) const {
    const auto found = running_.find(id);
    return found == running_.end() ? nullptr : found->second->completer.state().spool;
}

void CommandExecutor::hold(bool held) {
    if (std::exchange(held_, held) && !held) start_queued();
}

void CommandExecutor::cancel_queued() {
    while (!queue_.empty()) cancel(queue_.begin()->first, milliseconds(0));
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
    const auto found = running_.find(id);
    if (found != running_.end()) found->second->child->signal(number);
}

CommandExecutor::Counts CommandExecutor::counts() const { return {queue_.size(), running_.size(), runs_}; }

bool CommandExecutor::is_own(pid_t pid) const noexcept {
    if (options_.guard != nullptr && options_.guard->pid() == pid) return true;
    return std::any_of(running_.begin(), running_.end(),
                       [pid](const auto& running) { return running.second->child->pid() == pid; });
}

CommandExecutor::Loan CommandExecutor::lend_place_of(FlightId id) {
    Loan loan = places_.lend(id);
    start_queued();
    return loan;
}

}  // namespace coalesce
