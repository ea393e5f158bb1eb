// SPDX-License-Identifier: MIT
#include <coalesce/batch/results.h>

#include <utility>

#include <coalesce/batch/progress.h>
#include <coalesce/engine/command_executor.h>
#include <coalesce/engine/key_hash.h>
#include <coalesce/protocol/rendering.h>

namespace coalesce {
namespace {

using namespace std::chrono;

}  // namespace

Results::Results(Loop& loop, CommandExecutor& executor, const BatchOptions& options, Ledger ledger, Progress& progress,
                 Events events)
    : options_(options),
      executor_(executor),
      progress_(progress),
      ledger_(std::move(ledger)),
      remembers_(ledger_.wanted() || options.format == Format::json || options.input == BatchOptions::Input::json ||
                 (options.format == Format::tagged && (options.rules.key || options.options_for))),
      delivery_(loop, {options.format, options.keep_order},
                {std::move(events.on_refused), std::move(events.on_progress), [this] { progress_.clear(); }}),
      long_output_(loop, executor, delivery_, options.executor.spool.replay_bytes, options.format == Format::text) {
    ledger_.on_complaint([this](const std::string& sentence) { progress_.complain(sentence); });
}

std::unique_ptr<BatchRequester> Results::remember(std::uint64_t sequence, const KeyView& key,
                                                  std::string_view command) const {
    if (!remembers_) return nullptr;
    auto requester = std::make_unique<BatchRequester>();
    requester->sequence = sequence;
    requester->command = command;
    requester->at = system_clock::now();
    requester->at_steady = steady_clock::now();
    if (ledger_.wants_key()) requester->key = key_hash(key);
    return requester;
}

void Results::add(End&& end) {
    ++sums_.requests;
    print(std::move(end));
}

void Results::print(End&& end) {
    const FlightId run = end.result->run;
    const BatchRequester* const requester = end.requester.get();
    const bool shown_live = long_output_.shown_to(run, end.sequence);
    if (end.gave_up && shown_live) long_output_.give_up(run);
    if (end.result->outcome.withdrawn() && !end.gave_up) {  // it was ended by us
        if (requester != nullptr) account(*end.result, *requester, end.joined, end.requesters, false);
        if (!shown_live) return delivery_.skip(end.sequence);
        long_output_.shown(run);
        return;
    }
    const bool with_output = requester == nullptr || requester->with_output;
    const bool left_to_another = options_.unique && leaves_printing_to_another(end, with_output);
    if (!shown_live && with_output && !left_to_another) keep_within_limits(end.result);
    const bool shared = end.joined || !end.result->host.empty();
    if (shared) {
        ++sums_.shared;
        sums_.saved += end.result->duration;
    }
    if (end.result->kept && !end.joined) {
        ++sums_.kept;
        sums_.spared += end.result->duration;
    }
    if (end.gave_up || !end.result->outcome.success()) ++sums_.failed;
    if (requester != nullptr) account(*end.result, *requester, end.joined, end.requesters, end.gave_up);
    if (shown_live) {
        progress_.say(end.gave_up ? gave_up_words(end.result->title)
                                  : last_words(end.result->outcome, end.result->title));
        long_output_.shown(run);
        return;
    }
    if (left_to_another) return delivery_.skip(end.sequence);
    std::unique_ptr<Delivered> delivered;
    if (requester != nullptr && (options_.format != Format::text || !with_output || end.gave_up))
        delivered = std::make_unique<Delivered>(Delivered{.id = std::move(end.requester->id),
                                                          .command = std::move(end.requester->command),
                                                          .joined = end.joined,
                                                          .requesters = end.requesters,
                                                          .with_output = with_output,
                                                          .gave_up = end.gave_up});
    delivery_.add(end.sequence, std::move(end.result), std::move(delivered));
}

// By the machine that runs it, or to another requester here: its leader, unless that wanted no output, or no longer.
bool Results::leaves_printing_to_another(const End& end, bool with_output) {
    if (!end.result->host.empty()) return true;
    const bool prints_it = with_output && !end.gave_up;
    const std::pair run(end.result->run, end.result->kept ? end.result.get() : nullptr);
    if (end.joined) return !prints_it || unprinted_.erase(run) == 0;
    if (!prints_it && (options_.once || !end.result->kept)) unprinted_.insert(run);
    return false;
}

// A result whose output is past the replay limit is a refusal, though all of it be there still: the first to whom it
// is passed on frees it.
void Results::keep_within_limits(std::shared_ptr<const RunResult>& result) const {
    if (!result->spool || result->spool->replayable()) return;
    auto refusal = std::make_shared<RunResult>(*result);
    refusal->spool.reset();
    refusal->outcome = long_output_.refusal();
    result = std::move(refusal);
}

void Results::abandon(const BatchRequester& requester, RunResult unfinished, bool joined) {
    if (unfinished.started != system_clock::time_point())
        unfinished.duration = system_clock::now() - unfinished.started;
    account(unfinished, requester, joined, 1, false);
}

// Not when it is delivered: by then the next one has its place.
void Results::account(const RunResult& result, const BatchRequester& requester, bool joined, std::size_t requesters,
                      bool gave_up) {
    if (!ledger_.wanted()) return;
    const bool ran = result.duration.count() != 0 && !gave_up;
    RequestRecord record{
        .sequence = requester.sequence,
        .run = result.run,
        .command = requester.command,
        .id = requester.id,
        .joined = joined,
        .requesters = requesters,
        .requested = requester.at,
        .started = result.started,
        .ended = ran ? result.started + duration_cast<system_clock::duration>(result.duration) : system_clock::now(),
        .waited = steady_clock::now() - requester.at_steady,
        .run_time = result.duration,
        .outcome = gave_up ? Outcome::exited(gave_up_status) : result.outcome,
        .attempts = result.attempts,
        .kept = result.kept};
    record.stdout_bytes = result.written(Stream::out);
    record.stderr_bytes = result.written(Stream::err);
    ledger_.add(record, requester.key);
}

BatchSummary Results::summary() const {
    BatchSummary sums = sums_;
    sums.runs = executor_.counts().runs;
    sums.wall = steady_clock::now() - begun_;
    return sums;
}

bool Results::finish() {
    ledger_.finish(summary());
    return !ledger_.failed();
}

}  // namespace coalesce
