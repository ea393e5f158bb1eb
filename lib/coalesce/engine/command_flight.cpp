// SPDX-License-Identifier: MIT
#include <coalesce/engine/command_flight.h>

#include <signal.h>

#include <algorithm>
#include <array>
#include <utility>

#include <coalesce/io/boot_time.h>

namespace coalesce {

using namespace std::chrono;

namespace {

// As a rule: 0 only asks, and USR1 and USR2 are told to programs that expect them.
bool goes_on_after(int signal) {
    constexpr std::array signals{0,       SIGUSR1, SIGUSR2,  SIGCONT, SIGSTOP, SIGTSTP,
                                 SIGTTIN, SIGTTOU, SIGWINCH, SIGURG,  SIGCHLD};
    return std::find(signals.begin(), signals.end(), signal) != signals.end();
}

}  // namespace

CommandFlight::CommandFlight(RunCompleter its_completer, Job its_job)
    : completer(std::move(its_completer)), job(std::move(its_job)) {}

void CommandFlight::note_request(Run& run, bool fresh) {
    run.newest_request = since_boot();
    run.fresh = run.fresh || fresh;
}

void CommandFlight::note_leader(Run& run, milliseconds asked, bool fresh) {
    if (run.newest_request.count() != 0) return;
    note_request(run, fresh);
    if (asked.count() != 0) run.newest_request = asked;
}

void CommandFlight::begin_attempt(const std::shared_ptr<const SpoolLimits>& limits) {
    Run& state = run();
    if (!spool_is_new) state.spool = std::make_shared<Spool>(limits);
    state.started = system_clock::now();
    started_steady = steady_clock::now();
}

void CommandFlight::start_later() {
    run().phase = Run::Phase::queued;
    run().spool.reset();  // the next start has its own
    completer.queue();
}

void CommandFlight::runs(std::unique_ptr<RunSource> started) {
    source = std::move(started);
    Run& state = run();
    state.pid = source->pid();
    state.spool->on_room([from = source.get()] { from->resume(); });
}

Result<bool> CommandFlight::take(Stream stream, std::span<const char> bytes) {
    Spool& spool = *run().spool;
    // What nobody will read is not kept, since nothing would bound it until the grace
    // period ends; the command may still have to write it in order to end.
    if (abandoned || ending == Ending::refused || (ending == Ending::cancelled && spool.full())) return false;
    if (auto kept = spool.append(stream, bytes); !kept) return kept.error();
    if (spool.replayable()) return false;
    completer.close_to_joiners();
    if (!spool.full() || ending == Ending::cancelled) return false;
    source->pause();
    return true;
}

// Who comes now did not ask for that, and waits for a run of its own.
void CommandFlight::signal(int number) {
    if (!source) return;
    cut_short = cut_short || !goes_on_after(number);
    if (cut_short) completer.close_to_joiners();
    source->signal(number);
}

void CommandFlight::end_as(Ending reason, Outcome refused_with) {
    if (ending == Ending::none || (ending == Ending::timed_out && attempts <= job.retries)) {
        ending = reason;
        refusal = std::move(refused_with);
    }
    run().phase = Run::Phase::ending;
    if (reason != Ending::timed_out || attempts > job.retries) completer.close_to_joiners();
}

Outcome CommandFlight::came_to(Outcome outcome) {
    switch (ending) {
        case Ending::timed_out:
            outcome = Outcome::timed_out();
            break;
        case Ending::cancelled:
            return Outcome::cancelled();
        case Ending::refused:
            return std::move(refusal);
        case Ending::none:
            break;
    }
    return membership && !elsewhere ? membership->judge(std::move(outcome)) : outcome;
}

bool CommandFlight::may_try_again(const Outcome& outcome) const {
    const bool by_itself = ending == Ending::none || ending == Ending::timed_out;
    return !outcome.success() && outcome.kind != Outcome::Kind::lost && by_itself && !cut_short &&
           run().spool->replayable() && !elsewhere && attempts <= job.retries;
}

void CommandFlight::try_again() {
    source.reset();
    ending = Ending::none;
    run().phase = Run::Phase::queued;
}

bool CommandFlight::begin_anew() {
    if (!source || !elsewhere || ending != Ending::none) return false;
    Run& state = run();
    const bool untouched = state.spool->size() == 0;
    if (!untouched && (state.read_live || !state.spool->replayable())) return false;
    source.reset();
    spool_is_new = untouched;
    state.spool->on_room({});
    if (!untouched) state.spool.reset();
    --attempts;  // it was none of ours
    state.phase = Run::Phase::asking;
    state.host.clear();
    state.end_elsewhere.reset();
    if (std::exchange(over_elsewhere, false) && completer.waiters() > 0) open_to_joiners();
    return true;
}

void CommandFlight::open_to_joiners() {
    if (ending != Ending::none || cut_short) return;
    const auto& spool = run().spool;
    if (!spool || spool->replayable()) completer.open_to_joiners();
}

std::shared_ptr<const RunResult> CommandFlight::result_of(Outcome outcome) {
    const Run& state = run();
    const auto ended = elsewhere ? state.end_elsewhere : std::nullopt;
    const nanoseconds took = ended ? ended->took : attempts > 0 ? steady_clock::now() - started_steady : nanoseconds(0);
    return std::make_shared<const RunResult>(
        RunResult{.run = id(),
                  .outcome = std::move(outcome),
                  .spool = state.spool,
                  .title = std::move(job.title),
                  .requested = state.requested,
                  .started = ended ? system_clock::now() - ended->over_for - ended->took : state.started,
                  .duration = took,
                  .attempts = attempts,
                  .cut_short = cut_short,
                  .host = elsewhere ? state.host : std::string(),
                  .over_for = ended ? ended->over_for : milliseconds(0),
                  .sizes_elsewhere = ended ? std::optional(ended->sizes) : std::nullopt});
}

bool CommandFlight::tells_how_long(const RunResult& of_it) const noexcept {
    const Outcome::Kind kind = of_it.outcome.kind;
    return attempts > 0 && !elsewhere && !of_it.cut_short &&
           (kind == Outcome::Kind::exited || kind == Outcome::Kind::signalled);
}

}  // namespace coalesce
