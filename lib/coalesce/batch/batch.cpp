// SPDX-License-Identifier: MIT
#include <coalesce/batch/batch.h>

#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include <coalesce/batch/dry_run.h>
#include <coalesce/batch/intake.h>
#include <coalesce/batch/ledger.h>
#include <coalesce/batch/lookups.h>
#include <coalesce/batch/progress.h>
#include <coalesce/batch/results.h>
#include <coalesce/batch/submission.h>
#include <coalesce/command/duration.h>
#include <coalesce/command/insistence.h>
#include <coalesce/command/title.h>
#include <coalesce/io/guard.h>
#include <coalesce/io/loop.h>
#include <coalesce/io/reaper.h>
#include <coalesce/kept/remembered_times.h>
#include <coalesce/protocol/format.h>

namespace coalesce {
namespace {

using namespace std::chrono;

// What waits for its result may cost so much: three million plain requests of one
// run, or fewer that more must be remembered of, or half a dozen of the longest lines.
constexpr std::uint64_t waiting_bytes_max = 192 << 20;
constexpr std::uint64_t joined_bytes = 64;

// A queued job has its line as its key, its argument, its line and its title.
std::uint64_t queued_bytes(std::size_t command_bytes) { return 1024 + 4 * std::uint64_t{command_bytes}; }

// Each may bring a result that was kept, in memory or with a descriptor, and one is looked for at a time.
constexpr std::size_t looks_max = 64;

// Nobody has been told a result that is queued for a reader who does not read.
constexpr std::uint64_t undelivered_max = 65'536;
constexpr std::uint64_t backlog_bytes_max = 64 << 20;

bool same_file(int a, int b) {
    struct stat x {};
    struct stat y {};
    return ::fstat(a, &x) == 0 && ::fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

bool progress_is_seen() {
    return ::isatty(STDERR_FILENO) != 0 && !(::isatty(STDOUT_FILENO) != 0 && same_file(STDOUT_FILENO, STDERR_FILENO));
}

// What there is of a run that its requester will not see the end of.
RunResult unfinished(const RunTicket& ticket) {
    const Run& run = ticket.state();
    return {.run = ticket.id(),
            .outcome = Outcome::cancelled(),
            .title = run.title,
            .requested = run.requested,
            .started = run.started};
}

// The requests between the input and their ends: who leads, who waits and for how long,
// how many there may be, and when all of it stops.
class Batch {
  public:
    Batch(BatchOptions options, Surroundings own, StorePlace store, Ledger ledger, std::optional<EarlierJobs> earlier);
    BatchEnd run();

  private:
    using Requester = std::unique_ptr<BatchRequester>;

    struct Leader {
        std::optional<LongOutput::Leader> request;  // nothing once it has given up
        std::uint64_t requests = 1;                 // counted where --halt asks for it
    };
    struct Waiting {
        Requester requester;
        RunTicket ticket;
        std::optional<Timer> patience;
        std::uint64_t bytes = 0;  // what it costs meanwhile
    };

    void asked(Intake::Asking&& asking);
    void refused(const Intake::Refused& refused);
    void input_over(const std::optional<Error>& error);

    [[nodiscard]] bool was_answered(const Intake::Asking& asking, Requester& requester);
    void answered(Intake::Asking&& asking, Requester requester, std::shared_ptr<const RunResult> kept);
    void ask(Intake::Asking&& asking, Requester requester);
    void wait_for(RunTicket ticket, const Intake::Asking& asking, Requester requester);
    void give_up(std::uint64_t sequence, bool joined);
    void landed(std::uint64_t sequence, bool joined, std::uint64_t bytes, const Landing<RunResult>& landing);
    void end_without_run(Results::End&& end);
    void run_over(FlightId id, const RunResult& result);
    void forget(FlightId run);
    [[nodiscard]] std::optional<LongOutput::Leader> leader_of(FlightId run) const;
    [[nodiscard]] bool leader_left(FlightId run) const;

    void throttle();
    void start_no_more();
    void halt();
    void interrupt(int number);
    void output_refused(const Error& error);
    void fail(const std::string& sentence);
    void end_all();
    void abandon();
    [[nodiscard]] ProgressFacts progress() const;
    [[nodiscard]] std::string closing_words() const;
    [[nodiscard]] BatchEnd end() const;

    [[nodiscard]] CommandExecutor::Options executor_options() const;

    const BatchOptions options_;
    Loop loop_;
    std::unique_ptr<Cluster> cluster_;  // null: nothing is shared with other machines
    OnceMemory once_;
    RememberedTimes times_{loop_};
    CommandExecutor executor_;
    std::optional<Guard::Watched> guarded_;
    Progress progress_;
    Results results_;
    Intake intake_;
    std::vector<std::unique_ptr<SignalWatch>> signals_;
    Insistence insistence_;
    std::optional<DryRun> dry_run_;
    KeptDesk desk_;
    Reaper orphans_;
    Lookups lookups_;
    Submission submission_;

    std::unordered_map<FlightId, Leader> leaders_;        // who led each live flight
    std::unordered_map<std::uint64_t, Waiting> waiting_;  // all, where more is remembered of them
    std::uint64_t waiting_bytes_ = 0;
    std::uint64_t requests_ = 0;
    Halt halt_;
    bool knows_enough_;           // to start: for a percentage of all, how many they are, if that can be read ahead
    std::set<std::string> said_;  // a sentence about the engine once, not for each line
    bool own_failure_ = false;
    int interrupted_by_ = 0;
    bool reader_gone_ = false;
};

Batch::Batch(BatchOptions options, Surroundings own, StorePlace store, Ledger ledger,
             std::optional<EarlierJobs> earlier)
    : options_(std::move(options)),
      cluster_(options_.circle && options_.executor.guard != nullptr
                   ? std::make_unique<Cluster>(loop_, *options_.circle, *options_.executor.guard,
                                               options_.circle->access.url.lease)
                   : nullptr),
      executor_(loop_, executor_options()),
      progress_(loop_, options_.progress.value_or(progress_is_seen()) && !options_.dry_run,
                [this] { return progress(); }),
      results_(loop_, executor_, options_, std::move(ledger), progress_,
               {[this](const Error& error) { output_refused(error); }, [this] { throttle(); }}),
      intake_(loop_, options_, std::move(own), std::move(earlier),
              {[this](Intake::Asking&& asking) { asked(std::move(asking)); },
               [this](const Intake::Refused& line) { refused(line); },
               [this](std::uint64_t sequence) {
                   results_.skip(sequence);
                   throttle();
               },
               [this](const std::string& sentence) {
                   fail(sentence);
                   executor_.start_no_more();
               },
               [this](const std::optional<Error>& error) { input_over(error); }}),
      desk_(loop_, executor_.spool_limits(),
            {.place = std::move(store),
             .make_refresh_program = options_.make_refresh_program,
             .in_child = options_.executor.in_child},
            {.on_not_written = [this](const std::string& words) { progress_.complain(words); }}),
      orphans_(loop_, [this](pid_t pid) { return executor_.is_own(pid) || desk_.is_own(pid); }),
      lookups_(desk_,
               [this](Intake::Asking&& asking, Requester requester, std::shared_ptr<const RunResult> kept) {
                   answered(std::move(asking), std::move(requester), std::move(kept));
               }),
      submission_(executor_, options_, intake_, desk_, once_, cluster_.get()),
      halt_(options_.halt),
      knows_enough_(!halt_.counts_requests()) {
    if (cluster_)
        cluster_->on_notice([this](FlightId, const std::string& sentence) {
            if (said_.insert(sentence).second) progress_.complain(sentence);
        });
    if (options_.executor.guard != nullptr) guarded_.emplace(loop_, *options_.executor.guard);
    if (options_.remembers) executor_.remember_in(times_);
    executor_.hold(!knows_enough_);
    executor_.on_stalled([this](FlightId run) { results_.stalled(run, leader_of(run)); });
    executor_.on_landed([this](FlightId run) {
        if (leader_left(run)) loop_.post([this, run] { forget(run); });  // perhaps nobody is left to be told
    });
    executor_.on_over([this](FlightId id, const std::shared_ptr<const RunResult>& result) { run_over(id, *result); });
    if (options_.dry_run)
        dry_run_.emplace(loop_, intake_.surroundings(), [this](const Error& error) { output_refused(error); });
    for (const int number : {SIGINT, SIGTERM, SIGHUP})
        if (!SignalWatch::told_to_ignore(number))
            signals_.push_back(std::make_unique<SignalWatch>(loop_, number, [this, number] { interrupt(number); }));
}

CommandExecutor::Options Batch::executor_options() const {
    CommandExecutor::Options options = options_.executor;
    options.sharing = cluster_.get();
    return options;
}

BatchEnd Batch::run() {
    intake_.resume();
    loop_.run();
    progress_.clear();
    abandon();
    if (!results_.finish()) own_failure_ = true;
    if (options_.verbose) progress_.complain(closing_words());
    return end();
}

void Batch::asked(Intake::Asking&& asking) {
    if (dry_run_) {
        dry_run_->count(asking.key, asking.job ? asking.job->title : title(asking.command));
        return results_.skip(asking.sequence);
    }
    ++requests_;
    Requester requester = results_.remember(asking.sequence, asking.key, asking.command);
    if (requester) {
        requester->id = std::move(asking.id);
        requester->with_output = asking.with_output;
    }
    if (!asking.wish.warm && was_answered(asking, requester)) return;
    if (asking.wish.reads() || asking.wish.warm) {
        if (!asking.job) asking.job = intake_.job_of_line(std::string(asking.command));
        waiting_bytes_ += queued_bytes(asking.job_bytes);
        lookups_.look(std::move(asking), std::move(requester));
        return throttle();
    }
    ask(std::move(asking), std::move(requester));
}

// Its line has run in this batch, or was found in the store, and that will do (--once).
bool Batch::was_answered(const Intake::Asking& asking, Requester& requester) {
    auto result = submission_.result_of_earlier(asking);
    if (!result) return false;
    end_without_run(
        {.sequence = asking.sequence, .joined = true, .result = std::move(result), .requester = std::move(requester)});
    return true;
}

// The store has been asked about it.
void Batch::answered(Intake::Asking&& asking, Requester requester, std::shared_ptr<const RunResult> kept) {
    waiting_bytes_ -= queued_bytes(asking.job_bytes);
    if (!asking.wish.warm && was_answered(asking, requester)) return;
    if (!kept) return ask(std::move(asking), std::move(requester));
    submission_.remember(asking.key, kept);
    end_without_run({.sequence = asking.sequence, .result = std::move(kept), .requester = std::move(requester)});
}

void Batch::ask(Intake::Asking&& asking, Requester requester) {
    RunTicket ticket = submission_.submit(asking);
    wait_for(std::move(ticket), asking, std::move(requester));
    throttle();
}

void Batch::refused(const Intake::Refused& refused) {
    ++requests_;
    Requester requester = results_.remember(refused.sequence, {intake_.surroundings(), {}}, refused.command);
    if (requester) requester->id = refused.id;
    auto result = std::make_shared<const RunResult>(
        RunResult{.outcome = Outcome::refused(0, refused.why), .title = title(refused.command)});
    end_without_run({.sequence = refused.sequence, .result = std::move(result), .requester = std::move(requester)});
    throttle();
}

void Batch::input_over(const std::optional<Error>& error) {
    if (error) fail("cannot read " + options_.input_name + ": " + error->code.message());
    if (dry_run_) return dry_run_->list();
    if (halt_.input_over(requests_)) halt();
    throttle();
}

void Batch::wait_for(RunTicket ticket, const Intake::Asking& asking, Requester requester) {
    const std::uint64_t sequence = asking.sequence;
    const bool joined = !ticket.leader();
    if (!joined)
        leaders_.emplace(ticket.id(), Leader{LongOutput::Leader{sequence, asking.with_output}});
    else if (const auto leader = leaders_.find(ticket.id()); halt_.counts_requests() && leader != leaders_.end())
        ++leader->second.requests;
    std::uint64_t bytes = joined ? joined_bytes : queued_bytes(asking.job_bytes);
    // Who joins needs two words and no allocation: two million of these wait at a time.
    if (joined)
        ticket.then(
            [this, sequence](const Landing<RunResult>& landing) { landed(sequence, true, joined_bytes, landing); });
    else
        ticket.then([this, sequence, bytes, id = ticket.id()](const Landing<RunResult>& landing) {
            landed(sequence, landing.value->run != id, bytes, landing);
        });
    if (requester)
        bytes += sizeof(Waiting) + sizeof(BatchRequester) + requester->command.size() + requester->id.size() +
                 requester->key.size();
    waiting_bytes_ += bytes;
    if (!requester) return std::move(ticket).detach();
    Waiting& waiting = waiting_[sequence];
    waiting.requester = std::move(requester);
    waiting.ticket = std::move(ticket);
    waiting.bytes = bytes;
    if (!asking.patience) return;
    waiting.patience.emplace(loop_);
    waiting.patience->start(*asking.patience, [this, sequence, joined] { give_up(sequence, joined); });
}

void Batch::give_up(std::uint64_t sequence, bool joined) {
    if (waiting_.at(sequence).ticket.landed()) return;  // its result is on the way
    auto node = waiting_.extract(sequence);
    Waiting& waiting = node.mapped();
    waiting_bytes_ -= waiting.bytes;
    auto result = std::make_shared<const RunResult>(unfinished(waiting.ticket));
    waiting.ticket = {};
    if (const auto leader = leaders_.find(result->run); leader != leaders_.end()) {
        if (!joined) leader->second.request.reset();
        if (halt_.counts_requests()) --leader->second.requests;
    }
    end_without_run({.sequence = sequence,
                     .joined = joined,
                     .gave_up = true,
                     .result = std::move(result),
                     .requester = std::move(waiting.requester)});
}

// Called once for each requester, when its flight has landed. `bytes` is what it has cost if nothing is remembered
// of it: what was added and nothing else, or the account would pass below nothing, and no more be read.
void Batch::landed(std::uint64_t sequence, bool joined, std::uint64_t bytes, const Landing<RunResult>& landing) {
    const std::shared_ptr<const RunResult>& result = landing.value;
    Requester requester;
    if (auto node = waiting_.extract(sequence)) {
        requester = std::move(node.mapped().requester);
        waiting_bytes_ -= node.mapped().bytes;
    } else {
        waiting_bytes_ -= bytes;
    }
    forget(result->run);
    results_.add({.sequence = sequence,
                  .joined = joined,
                  .requesters = landing.requesters,
                  .result = result,
                  .requester = std::move(requester)});
    throttle();
}

// It was refused, gave up, or found a result.
void Batch::end_without_run(Results::End&& end) {
    const bool stands_for_a_run = end.result->kept && !end.joined;
    static const Outcome gave_up = Outcome::exited(gave_up_status);
    const Outcome& outcome = end.gave_up ? gave_up : end.result->outcome;
    const bool enough = stands_for_a_run ? halt_.run_over(outcome, 1) : halt_.request_over(outcome);
    results_.add(std::move(end));
    throttle();
    if (enough) halt();
}

// Before another run takes its place.
void Batch::run_over(FlightId id, const RunResult& result) {
    const auto leader = leaders_.find(id);  // none if it is over while it is being asked for
    const std::uint64_t requests = leader == leaders_.end() ? 1 : leader->second.requests;
    // Of --once: an earlier run of the line ended while this waited, and was counted, but for these requests.
    const bool ran = result.run == id;
    if ((ran || halt_.counts_requests()) && halt_.run_over(result.outcome, requests)) halt();
    if (!ran) forget(id);
    throttle();
}

std::optional<LongOutput::Leader> Batch::leader_of(FlightId run) const {
    const auto leader = leaders_.find(run);
    return leader == leaders_.end() ? std::nullopt : leader->second.request;
}

bool Batch::leader_left(FlightId run) const {
    const auto leader = leaders_.find(run);
    return leader != leaders_.end() && !leader->second.request;
}

void Batch::forget(FlightId run) {
    leaders_.erase(run);
    results_.run_landed(run);
}

// Reads on while there is room for what is read, and lets commands start while
// their results find a way out.
void Batch::throttle() {
    const bool much = results_.backlog_bytes() > backlog_bytes_max;
    const bool full = executor_.counts().queued + lookups_.count() >= options_.read_ahead ||
                      waiting_bytes_ >= waiting_bytes_max || results_.waiting() >= undelivered_max ||
                      (much && lookups_.any());  // what is kept comes without a run that could be held
    if (!intake_.reading() || full) knows_enough_ = true;
    // Never when nothing works and nothing is being written: the result that all others wait for may be yet to start.
    executor_.hold(!knows_enough_ || (much && (results_.writing() || executor_.counts().working > 0)));
    if (!intake_.reading()) return;
    if (full || lookups_.count() >= looks_max)
        intake_.pause();
    else
        intake_.resume();
}

void Batch::halt() {
    start_no_more();
    if (halt_.now()) executor_.cancel_all(options_.grace);
}

// The first signal ends the commands and flushes what has finished; a second one
// does not wait.
void Batch::interrupt(int number) {
    switch (insistence_.told(number)) {
        case Insistence::Is::echo:
            return;
        case Insistence::Is::second:
            return loop_.stop();
        case Insistence::Is::first:
            break;
    }
    interrupted_by_ = number;
    if (dry_run_ && dry_run_->listing()) return loop_.stop();
    end_all();
    if (dry_run_) dry_run_->list();  // what has been read
}

void Batch::output_refused(const Error& error) {
    if (error.code == std::errc::broken_pipe)
        reader_gone_ = true;
    else
        fail("cannot " + error.message());
    end_all();
}

void Batch::fail(const std::string& sentence) {
    own_failure_ = true;
    progress_.complain(sentence);
}

void Batch::start_no_more() {
    intake_.stop();
    desk_.refresh_no_more();
    executor_.start_no_more();
}

void Batch::end_all() {
    start_no_more();
    executor_.cancel_all(options_.grace);
}

// A second signal ends the batch with commands still running: their accounts say so.
void Batch::abandon() {
    for (auto& [sequence, waiting] : waiting_) {
        results_.abandon(*waiting.requester, unfinished(waiting.ticket), !waiting.ticket.leader());
        std::move(waiting.ticket).detach();
    }
    waiting_.clear();
    lookups_.abandon([this](const BatchRequester& requester) {
        results_.abandon(
            requester, {.outcome = Outcome::cancelled(), .title = title(requester.command), .requested = requester.at},
            false);
    });
}

ProgressFacts Batch::progress() const {
    const BatchSummary sums = results_.summary();
    return {.done = sums.requests,
            .read = requests_,
            .total_known = !intake_.reading(),
            .running = executor_.counts().running,
            .shared = sums.shared,
            .failed = sums.failed};
}

std::string Batch::closing_words() const {
    const BatchSummary sums = results_.summary();
    const auto passed_over = intake_.passed_over();
    const std::string kept = sums.kept > 0 ? formatted("{} kept, ", sums.kept) : "";
    return formatted("{} requests, {} runs, {} shared, {}{} failed, {}{} in all, {} saved", sums.requests, sums.runs,
                     sums.shared, kept, sums.failed, passed_over ? formatted("{} skipped, ", *passed_over) : "",
                     format_duration(sums.wall), format_duration(sums.saved));
}

BatchEnd Batch::end() const {
    if (interrupted_by_ != 0) return {128 + interrupted_by_};
    if (own_failure_) return {125};
    if (reader_gone_) return {128 + SIGPIPE, SIGPIPE};
    if (const auto status = halt_.status()) return {*status};
    return {results_.summary().failed > 0 ? 123 : 0};
}

}  // namespace

Result<BatchEnd> run_batch(BatchOptions options) {
    auto own = own_surroundings();
    if (!own) return own.error();
    own->identity = own_identity();
    if (options.terminal) give_terminal(*own, *options.terminal);
    options.executor.directory = own->cwd;
    options.executor.directory_itself = own->directory;
    std::unique_ptr<Guard> guard;
    if (!options.dry_run) {             // which starts nothing that could be left behind
        auto started = Guard::start();  // before there is anything else that it would hold as well
        if (!started) return started.error();
        guard = std::move(*started);
        options.executor.guard = guard.get();
    }
    std::optional<EarlierJobs> earlier;
    if (options.resume) {
        if (options.joblog.empty()) return Error{{}, "resume without a joblog: --joblog names it"};
        auto read = EarlierJobs::read(options.joblog, *options.resume);
        if (!read) return read.error();
        earlier.emplace(std::move(*read));
    }
    // A dry run leaves no account of what did not happen.
    const auto path = [&options](const std::string& told) { return options.dry_run ? std::string() : told; };
    auto ledger = Ledger::open({.joblog = path(options.joblog),
                                .report = path(options.report),
                                .html = path(options.html),
                                .joblog_goes_on = options.joblog_goes_on || options.resume,
                                .input_fd = options.input_fd});
    if (!ledger) return ledger.error();
    StorePlace store = store_place(options.cache_directory, own->env, namespaces_in(own->identity));
    store.bounds = options.cache_bounds;
    return Batch(std::move(options), std::move(*own), std::move(store), std::move(*ledger), std::move(earlier)).run();
}

}  // namespace coalesce
