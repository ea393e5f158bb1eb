// SPDX-License-Identifier: MIT
#include <coalesce/batch/batch.h>

#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <unordered_map>
#include <utility>
#include <vector>

#include <coalesce/command/duration.h>
#include <coalesce/command/text.h>
#include <coalesce/command/title.h>
#include <coalesce/io/guard.h>
#include <coalesce/io/loop.h>
#include <coalesce/io/reaper.h>
#include <coalesce/batch/delivery.h>
#include <coalesce/batch/dry_run.h>
#include <coalesce/command/insistence.h>
#include <coalesce/engine/key_hash.h>
#include <coalesce/batch/ledger.h>
#include <coalesce/batch/line_source.h>
#include <coalesce/batch/long_output.h>
#include <coalesce/batch/once.h>
#include <coalesce/batch/progress.h>
#include <coalesce/protocol/request.h>
#include <coalesce/protocol/resolved_request.h>

namespace coalesce {
namespace {

using namespace std::chrono;

// What waits for its result may cost so much: three million plain requests of one
// run, or fewer that more must be remembered of, or half a dozen of the longest lines.
constexpr std::uint64_t waiting_bytes_max = 192 << 20;
constexpr std::uint64_t joined_bytes = 64;

// A queued job has its line as its key, its argument, its line and its title.
std::uint64_t queued_bytes(std::size_t command_bytes) { return 1024 + 4 * std::uint64_t{command_bytes}; }

// Nobody has been told a result that is queued for a reader who does not read.
constexpr std::uint64_t undelivered_max = 65'536;
constexpr std::uint64_t backlog_bytes_max = 64 << 20;

// nohup and a shell's `&` ask for that.
bool was_told_to_ignore(int signal) {
    struct sigaction action {};
    return ::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN;
}

bool same_file(int a, int b) {
    struct stat x {};
    struct stat y {};
    return ::fstat(a, &x) == 0 && ::fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

constexpr int gave_up_status = 75;

// What there is of a run that its requester will not see the end of.
RunResult unfinished(const RunTicket& ticket) {
    const Run& run = ticket.state();
    return {.run = ticket.id(),
            .outcome = Outcome::cancelled(),
            .title = run.title,
            .requested = run.requested,
            .started = run.started};
}

class Batch {
  public:
    Batch(BatchOptions options, Surroundings own, Ledger ledger, std::optional<EarlierJobs> earlier);
    BatchEnd run();

  private:
    // A request that more must be remembered of than its place: where an account,
    // a JSON result or a waiting limit needs it.
    struct Asked {
        std::uint64_t sequence = 0;
        std::string id;
        std::string command;
        std::string key;
        bool with_output = true;
        std::uint64_t bytes = 0;  // what it costs while it waits
        system_clock::time_point at;
        steady_clock::time_point at_steady;
        RunTicket ticket;
        std::optional<Timer> patience;
    };

    void on_line(const LineSource::Line& line);
    void on_input_end(const std::optional<Error>& error);
    void take_line(std::uint64_t sequence, std::string_view text);
    void take_request(Request request, std::uint64_t sequence);
    void reject(std::uint64_t sequence, const std::string& id, std::string_view text, const std::string& why);
    [[nodiscard]] bool skips(std::uint64_t sequence, std::string_view command);
    void found(std::uint64_t sequence, std::shared_ptr<const RunResult> result, std::unique_ptr<Asked> asked);
    void wait_for(RunTicket ticket, std::uint64_t sequence, std::unique_ptr<Asked> asked,
                  std::optional<milliseconds> patience, std::size_t command_bytes);
    void give_up(std::uint64_t sequence, bool joined);
    void abandon();

    void landed(std::uint64_t sequence, bool joined, const Landing<RunResult>& landing);
    void deliver(std::uint64_t sequence, bool joined, std::shared_ptr<const RunResult> result, std::size_t requesters,
                 std::unique_ptr<Asked> asked, bool gave_up = false);
    void print(std::uint64_t sequence, bool joined, std::shared_ptr<const RunResult> result, std::size_t requesters,
               std::unique_ptr<Asked> asked, bool gave_up);
    void account(const RunResult& result, bool joined, std::size_t requesters, const Asked& asked, bool gave_up);
    void run_over(const RunResult& result);
    void halt();
    void forget(FlightId id);

    [[nodiscard]] bool remembers() const noexcept {
        return ledger_.wanted() || options_.format == Format::json || options_.input == BatchOptions::Input::json ||
               (options_.format == Format::tagged && options_.rules.key);
    }
    [[nodiscard]] std::unique_ptr<Asked> remember(std::uint64_t sequence, const KeyView& key) const;
    [[nodiscard]] Job job_defaults() const;
    [[nodiscard]] Job job_of_line(std::string line);
    void append_words(std::string& words, std::string_view line) const;
    void list(std::uint64_t sequence, const RequestKey& key, const std::string& title);
    void throttle();
    void stop_reading();
    void end_all();
    void interrupt(int number);
    void refused(const Error& error);
    void complain(const std::string& sentence);
    void say(const std::string& text);
    [[nodiscard]] std::string closing_words() const;
    [[nodiscard]] BatchSummary summary() const;
    [[nodiscard]] BatchEnd end() const;

    const BatchOptions options_;
    Ledger ledger_;
    const std::optional<EarlierJobs> earlier_;
    std::shared_ptr<const Surroundings> surroundings_;
    SurroundingsTable interned_;
    std::shared_ptr<const CanonicalSurroundings> canonical_;

    Loop loop_;
    OnceMemory once_;
    CommandExecutor executor_;
    Guard::Watched guarded_;
    Reaper orphans_;
    Delivery delivery_;
    LongOutput long_output_;
    LineSource source_;
    std::vector<std::unique_ptr<SignalWatch>> signals_;
    Insistence insistence_;
    std::optional<Progress> progress_;
    std::optional<DryRun> dry_run_;

    std::string words_;  // of the line at hand; kept for its room
    struct Leader {
        std::optional<LongOutput::Leader> request;  // nothing once it has given up
        std::uint64_t requests = 1;                 // counted where --halt asks for it
    };
    std::unordered_map<FlightId, Leader> leaders_;                       // who led each live flight
    std::unordered_map<std::uint64_t, std::unique_ptr<Asked>> waiting_;  // all, where more is remembered of them

    Halt halt_;
    std::uint64_t requests_ = 0;
    std::uint64_t skipped_ = 0;  // done by an earlier batch
    std::uint64_t done_ = 0;
    std::uint64_t waiting_bytes_ = 0;
    std::uint64_t shared_ = 0;
    std::uint64_t failed_requests_ = 0;
    nanoseconds saved_{0};
    steady_clock::time_point begun_ = steady_clock::now();
    bool reading_ = true;
    bool knows_enough_;  // to start: for a percentage of all, how many they are, if that can be read ahead
    bool own_failure_ = false;
    int interrupted_by_ = 0;
    bool reader_gone_ = false;
};

Batch::Batch(BatchOptions options, Surroundings own, Ledger ledger, std::optional<EarlierJobs> earlier)
    : options_(std::move(options)),
      ledger_(std::move(ledger)),
      earlier_(std::move(earlier)),
      surroundings_(std::make_shared<const Surroundings>(std::move(own))),
      canonical_(interned_.intern(canonical_surroundings(*surroundings_, options_.rules))),
      executor_(loop_, options_.executor),
      guarded_(loop_, *options_.executor.guard),
      orphans_(loop_, [this](pid_t pid) { return executor_.is_own(pid); }),
      delivery_(loop_, {options_.format, options_.keep_order},
                {[this](const Error& error) { refused(error); }, [this] { throttle(); },
                 [this] {
                     if (progress_) progress_->clear();
                 }}),
      long_output_(loop_, executor_, delivery_, options_.executor.spool.replay_bytes, options_.format == Format::text),
      source_(loop_, options_.input_fd, options_.delimiter, request_bytes_max,
              {[this](const LineSource::Line& line) { on_line(line); },
               [this](const std::optional<Error>& error) { on_input_end(error); }}),
      halt_(options_.halt),
      knows_enough_(!halt_.counts_requests()) {
    executor_.hold(!knows_enough_);
    ledger_.on_complaint([this](const std::string& sentence) { complain(sentence); });
    executor_.on_stalled([this](FlightId id) {
        const auto leader = leaders_.find(id);
        long_output_.begin(id, leader == leaders_.end() ? std::nullopt : leader->second.request);
    });
    executor_.on_landed([this](FlightId id) {
        const auto leader = leaders_.find(id);
        if (leader == leaders_.end() || leader->second.request) return;
        loop_.post([this, id] { forget(id); });  // perhaps nobody is left to be told
    });
    executor_.on_over([this](const std::shared_ptr<const RunResult>& result) { run_over(*result); });
    if (options_.dry_run) dry_run_.emplace(loop_, canonical_, [this](const Error& error) { refused(error); });
    for (const int number : {SIGINT, SIGTERM, SIGHUP})
        if (!was_told_to_ignore(number))
            signals_.push_back(std::make_unique<SignalWatch>(loop_, number, [this, number] { interrupt(number); }));
    const bool terminal = ::isatty(STDERR_FILENO) != 0 && !(::isatty(STDOUT_FILENO) != 0 && same_file(1, 2));
    if (options_.progress.value_or(terminal) && !dry_run_)
        progress_.emplace(loop_, [this] {
            return ProgressFacts{.done = done_,
                                 .read = requests_,
                                 .total_known = !reading_,
                                 .running = executor_.counts().running,
                                 .shared = shared_,
                                 .failed = failed_requests_};
        });
}

BatchEnd Batch::run() {
    source_.resume();
    loop_.run();
    progress_.reset();
    abandon();
    ledger_.finish(summary());
    if (ledger_.failed()) own_failure_ = true;
    if (options_.verbose) complain(closing_words());
    return end();
}

void Batch::on_line(const LineSource::Line& line) {
    if (line.too_long) {
        reject(line.number, {}, line.text, fmt::format("longer than {} MiB, it begins with", request_bytes_max >> 20));
    } else if (line.text.find_first_not_of(" \t\r") == std::string_view::npos) {
        delivery_.skip(line.number);
        return;
    } else if (options_.input == BatchOptions::Input::json) {
        auto parsed = parse_request(line.text);
        if (auto* error = std::get_if<RequestError>(&parsed))
            reject(line.number, error->id, {}, error->message);
        else
            take_request(std::move(std::get<Request>(parsed)), line.number);
    } else if (line.text.find('\0') != std::string_view::npos) {
        reject(line.number, {}, line.text.substr(0, line.text.find('\0')), "a NUL byte after");
    } else {
        take_line(line.number, line.text);
    }
    throttle();
}

void Batch::on_input_end(const std::optional<Error>& error) {
    reading_ = false;
    if (error) {
        own_failure_ = true;
        complain("cannot read " + options_.input_name + ": " + error->code.message());
    }
    if (dry_run_) return dry_run_->list();
    if (halt_.input_over(requests_)) halt();
    throttle();
}

// Bad input is a failed request of its own: the others still run.
void Batch::reject(std::uint64_t sequence, const std::string& id, std::string_view text, const std::string& why) {
    if (skips(sequence, text)) return;
    std::string sentence = fmt::format("{}, line {}: {}", options_.input_name, sequence, why);
    if (!text.empty()) sentence += " " + display_word(text);
    ++requests_;
    auto asked = remember(sequence, {canonical_, {}});
    if (asked) {
        asked->id = id;
        asked->command = std::string(text);
    }
    auto result = std::make_shared<const RunResult>(
        RunResult{.outcome = Outcome::refused(0, std::move(sentence)), .title = title(text)});
    const bool enough = halt_.request_over(result->outcome);
    deliver(sequence, false, std::move(result), 1, std::move(asked));
    if (enough) halt();
}

// --resume. The input has to be the same as it was then, or other commands would be
// taken for done: the first that is not ends the batch.
bool Batch::skips(std::uint64_t sequence, std::string_view command) {
    if (!earlier_) return false;
    switch (earlier_->look_up(sequence, command)) {
        case EarlierJobs::Verdict::to_run:
            return false;
        case EarlierJobs::Verdict::to_skip:
            ++skipped_;
            break;
        case EarlierJobs::Verdict::another_command:
            own_failure_ = true;
            complain(fmt::format("cannot resume by {}: its command {} is {}, but line {} of {} is {}", options_.joblog,
                                 sequence, earlier_->command_of(sequence), sequence, options_.input_name,
                                 title(command)));
            stop_reading();
            executor_.start_no_more();
    }
    delivery_.skip(sequence);
    return true;
}

std::unique_ptr<Batch::Asked> Batch::remember(std::uint64_t sequence, const KeyView& key) const {
    if (!remembers()) return nullptr;
    auto asked = std::make_unique<Asked>();
    asked->sequence = sequence;
    asked->at = system_clock::now();
    asked->at_steady = steady_clock::now();
    if (ledger_.wants_key()) asked->key = key_hash(key);
    return asked;
}

Job Batch::job_defaults() const {
    return Job{.timeout = options_.timeout, .retries = options_.retries, .grace = options_.grace};
}

Job Batch::job_of_line(std::string line) {
    Job job = job_defaults();
    job.command.argv = {options_.executor.shell, "-c", line};
    job.command.surroundings = surroundings_;
    job.title = title(line);
    if (options_.once) {
        std::string words;
        append_words(words, line);
        job.retention = once_.keeper({canonical_, words}, true);
    }
    job.line = std::move(line);
    return job;
}

void Batch::append_words(std::string& words, std::string_view line) const {
    if (options_.rules.key)
        words += canonical_words({}, std::nullopt, options_.rules);
    else
        append_canonical_line(words, options_.executor.shell, line);
}

void Batch::list(std::uint64_t sequence, const RequestKey& key, const std::string& title) {
    dry_run_->count(key, title);
    delivery_.skip(sequence);
}

void Batch::take_line(std::uint64_t sequence, std::string_view text) {
    if (skips(sequence, text)) return;
    words_.clear();
    append_words(words_, text);
    if (options_.rules.no_share) append_unshared(words_);
    const RequestKey key{canonical_, words_};
    if (dry_run_) return list(sequence, key, title(text));
    ++requests_;
    auto asked = remember(sequence, {canonical_, words_});
    if (asked) asked->command = std::string(text);
    if (options_.once)
        if (auto result = once_.find(key)) return found(sequence, std::move(result), std::move(asked));
    RunTicket ticket =
        executor_.submit(key, [this, line = std::string(text)]() mutable { return job_of_line(std::move(line)); });
    wait_for(std::move(ticket), sequence, std::move(asked), std::nullopt, text.size());
}

void Batch::take_request(Request request, std::uint64_t sequence) {
    const auto refuse = [&](const std::string& why) { reject(sequence, request.id, {}, why); };
    if (!request.op.empty()) return refuse("\"op\" is for a server, not for a batch");
    if (request.output == Request::Output::stream || request.output == Request::Output::fd)
        return refuse("\"output\" can be whole or none in a batch");
    ResolvedRequest resolved = resolve(request, surroundings_, options_.rules, options_.executor.shell, job_defaults());
    const std::string command = resolved.job.line.value_or(resolved.job.title);
    if (skips(sequence, command)) return;
    const auto canonical =
        resolved.canonical_surroundings ? interned_.intern(std::move(*resolved.canonical_surroundings)) : canonical_;
    const std::string& words = resolved.canonical_words;
    const RequestKey key{canonical, words};
    if (dry_run_) return list(sequence, key, resolved.job.title);
    ++requests_;
    auto asked = remember(sequence, {canonical, words});
    asked->id = std::move(request.id);
    asked->command = command;
    asked->with_output = request.output == Request::Output::whole;
    const std::size_t command_bytes =
        words.size() + (resolved.job.command.stdin_bytes ? resolved.job.command.stdin_bytes->size() : 0);
    if (options_.once) {
        if (auto result = request.fresh ? nullptr : once_.find(key))
            return found(sequence, std::move(result), std::move(asked));
        resolved.job.retention = once_.keeper(key, !request.fresh);
    }
    RunTicket ticket = executor_.submit(key, [job = std::move(resolved.job)]() mutable { return std::move(job); },
                                        {.fresh = request.fresh});
    wait_for(std::move(ticket), sequence, std::move(asked), request.wait, command_bytes);
}

// --once: it has run.
void Batch::found(std::uint64_t sequence, std::shared_ptr<const RunResult> result, std::unique_ptr<Asked> asked) {
    const bool enough = halt_.request_over(result->outcome);
    deliver(sequence, true, std::move(result), 1, std::move(asked));
    if (enough) halt();
}

void Batch::wait_for(RunTicket ticket, std::uint64_t sequence, std::unique_ptr<Asked> asked,
                     std::optional<milliseconds> patience, std::size_t command_bytes) {
    const bool joined = !ticket.leader();
    if (!joined)
        leaders_.emplace(ticket.id(), Leader{LongOutput::Leader{sequence, !asked || asked->with_output}});
    else if (const auto leader = leaders_.find(ticket.id()); halt_.counts_requests() && leader != leaders_.end())
        ++leader->second.requests;
    std::uint64_t bytes = joined ? joined_bytes : queued_bytes(command_bytes);
    if (asked) bytes += sizeof(Asked) + asked->command.size() + asked->id.size() + asked->key.size();
    waiting_bytes_ += bytes;
    // Two words and no allocation: two million of these wait at a time.
    ticket.then([this, place = sequence << 1 | (joined ? 1U : 0U)](const Landing<RunResult>& landing) {
        landed(place >> 1, (place & 1) != 0, landing);
    });
    if (!asked) return std::move(ticket).detach();
    if (patience) {
        asked->patience.emplace(loop_);
        asked->patience->start(*patience, [this, sequence, joined] { give_up(sequence, joined); });
    }
    asked->bytes = bytes;
    asked->ticket = std::move(ticket);
    waiting_.emplace(sequence, std::move(asked));
}

void Batch::give_up(std::uint64_t sequence, bool joined) {
    if (waiting_.at(sequence)->ticket.landed()) return;  // its result is on the way
    auto node = waiting_.extract(sequence);
    std::unique_ptr<Asked> asked = std::move(node.mapped());
    const FlightId id = asked->ticket.id();
    waiting_bytes_ -= asked->bytes;
    if (long_output_.shown_to(id, sequence)) long_output_.give_up(id);
    if (const auto leader = leaders_.find(id); leader != leaders_.end()) {
        if (!joined) leader->second.request.reset();
        if (halt_.counts_requests()) --leader->second.requests;
    }
    auto result = std::make_shared<const RunResult>(unfinished(asked->ticket));
    asked->ticket = {};
    const bool enough = halt_.request_over(Outcome::exited(gave_up_status));
    deliver(sequence, joined, std::move(result), 1, std::move(asked), true);
    if (enough) halt();
}

// A second signal ends the batch with commands still running: their accounts say so.
void Batch::abandon() {
    for (auto& [sequence, asked] : waiting_) {
        RunResult result = unfinished(asked->ticket);
        if (result.started != system_clock::time_point()) result.duration = system_clock::now() - result.started;
        if (ledger_.wanted()) account(result, !asked->ticket.leader(), 1, *asked, false);
        std::move(asked->ticket).detach();
    }
    waiting_.clear();
}

// Called once for each requester, when its flight has landed.
void Batch::landed(std::uint64_t sequence, bool joined, const Landing<RunResult>& landing) {
    const std::shared_ptr<const RunResult>& result = landing.value;
    std::unique_ptr<Asked> asked;
    if (auto node = waiting_.extract(sequence)) asked = std::move(node.mapped());
    waiting_bytes_ -= asked ? asked->bytes : joined ? joined_bytes : queued_bytes(result->title.size());
    forget(result->run);
    deliver(sequence, joined, result, landing.requesters, std::move(asked));
}

void Batch::deliver(std::uint64_t sequence, bool joined, std::shared_ptr<const RunResult> result,
                    std::size_t requesters, std::unique_ptr<Asked> asked, bool gave_up) {
    ++done_;
    print(sequence, joined, std::move(result), requesters, std::move(asked), gave_up);
    throttle();
}

void Batch::print(std::uint64_t sequence, bool joined, std::shared_ptr<const RunResult> result, std::size_t requesters,
                  std::unique_ptr<Asked> asked, bool gave_up) {
    const bool shown_live = long_output_.shown_to(result->run, sequence);
    if (result->outcome.kind == Outcome::Kind::cancelled && !gave_up) {  // it was ended by us
        if (asked && ledger_.wanted()) account(*result, joined, requesters, *asked, false);
        if (!shown_live) return delivery_.skip(sequence);
        long_output_.shown(result->run);
        return;
    }
    const bool with_output = !asked || asked->with_output;
    const bool ended_by_limit =
        result->spool &&
        (!result->spool->whole() || (result->outcome.kind == Outcome::Kind::refused && !result->spool->replayable()));
    if (!shown_live && with_output && ended_by_limit) {
        auto refusal = std::make_shared<RunResult>(*result);
        refusal->spool.reset();
        refusal->outcome = long_output_.refusal();
        result = std::move(refusal);
    }
    if (joined) {
        ++shared_;
        saved_ += result->duration;
    }
    if (gave_up || !result->outcome.success()) ++failed_requests_;
    if (asked && ledger_.wanted()) account(*result, joined, requesters, *asked, gave_up);
    if (shown_live) {
        const std::string words = gave_up ? gave_up_words(result->title) : last_words(result->outcome, result->title);
        if (!words.empty()) say(words);
        long_output_.shown(result->run);
        return;
    }
    if (options_.unique && joined) return delivery_.skip(sequence);
    std::unique_ptr<Delivered> delivered;
    if (asked && (options_.format != Format::text || !with_output || gave_up))
        delivered = std::make_unique<Delivered>(Delivered{.id = std::move(asked->id),
                                                          .command = std::move(asked->command),
                                                          .joined = joined,
                                                          .requesters = requesters,
                                                          .with_output = with_output,
                                                          .gave_up = gave_up});
    delivery_.add(sequence, std::move(result), std::move(delivered));
}

void Batch::account(const RunResult& result, bool joined, std::size_t requesters, const Asked& asked, bool gave_up) {
    // Not when it is delivered: by then the next one has its place.
    const bool ran = result.duration.count() != 0 && !gave_up;
    RequestRecord record{
        .sequence = asked.sequence,
        .run = result.run,
        .command = asked.command,
        .id = asked.id,
        .joined = joined,
        .requesters = requesters,
        .requested = asked.at,
        .started = result.started,
        .ended = ran ? result.started + duration_cast<system_clock::duration>(result.duration) : system_clock::now(),
        .waited = steady_clock::now() - asked.at_steady,
        .run_time = result.duration,
        .outcome = gave_up ? Outcome::exited(gave_up_status) : result.outcome,
        .attempts = result.attempts};
    if (result.spool) {
        record.stdout_bytes = result.spool->size(Stream::out);
        record.stderr_bytes = result.spool->size(Stream::err);
    }
    ledger_.add(record, asked.key);
}

// Before another run takes its place.
void Batch::run_over(const RunResult& result) {
    const auto leader = leaders_.find(result.run);  // none if it is over while it is being asked for
    if (halt_.run_over(result.outcome, leader == leaders_.end() ? 1 : leader->second.requests)) halt();
    throttle();
}

void Batch::halt() {
    stop_reading();
    executor_.start_no_more();
    if (halt_.now()) executor_.cancel_all(options_.grace);
}

void Batch::forget(FlightId id) {
    leaders_.erase(id);
    long_output_.over(id);
}

// Reads on while there is room for what is read, and lets commands start while
// their results find a way out.
void Batch::throttle() {
    const bool full = executor_.counts().queued >= options_.read_ahead || waiting_bytes_ >= waiting_bytes_max ||
                      delivery_.waiting() >= undelivered_max;
    if (!reading_ || full) knows_enough_ = true;
    // Never when nothing runs: the result that all others wait for may be yet to start.
    executor_.hold(!knows_enough_ || (delivery_.backlog_bytes() > backlog_bytes_max && executor_.counts().running > 0));
    if (!reading_) return;
    if (full)
        source_.pause();
    else
        source_.resume();
}

void Batch::stop_reading() {
    reading_ = false;
    source_.stop();
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

void Batch::end_all() {
    stop_reading();
    executor_.start_no_more();
    executor_.cancel_all(options_.grace);
}

void Batch::refused(const Error& error) {
    if (error.code == std::errc::broken_pipe) {
        reader_gone_ = true;
    } else {
        own_failure_ = true;
        complain("cannot " + error.message());
    }
    end_all();
}

void Batch::complain(const std::string& sentence) { say("coalesce: " + visible(sentence) + "\n"); }

void Batch::say(const std::string& text) {
    if (progress_) progress_->clear();
    std::fputs(text.c_str(), stderr);
}

std::string Batch::closing_words() const {
    const BatchSummary sums = summary();
    const auto shown = [](nanoseconds time) { return format_duration(duration_cast<milliseconds>(time)); };
    return fmt::format("{} requests, {} runs, {} shared, {} failed, {}{} in all, {} saved", sums.requests, sums.runs,
                       sums.shared, sums.failed, earlier_ ? fmt::format("{} skipped, ", skipped_) : "",
                       shown(sums.wall), shown(sums.saved));
}

BatchSummary Batch::summary() const {
    return {.requests = done_,
            .runs = executor_.counts().runs,
            .shared = shared_,
            .failed = failed_requests_,
            .wall = steady_clock::now() - begun_,
            .saved = saved_};
}

BatchEnd Batch::end() const {
    if (interrupted_by_ != 0) return {128 + interrupted_by_};
    if (own_failure_) return {125};
    if (reader_gone_) return {128 + SIGPIPE, SIGPIPE};
    if (const auto status = halt_.status()) return {*status};
    return {failed_requests_ > 0 ? 123 : 0};
}

}  // namespace

Result<BatchEnd> run_batch(BatchOptions options) {
    auto own = own_surroundings();
    if (!own) return own.error();
    own->identity = own_identity();
    options.executor.directory = own->cwd;
    options.executor.directory_itself = own->directory;
    auto guard = Guard::start();  // before there is anything else that it would hold as well
    if (!guard) return guard.error();
    options.executor.guard = guard->get();
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
    return Batch(std::move(options), std::move(*own), std::move(*ledger), std::move(earlier)).run();
}

}  // namespace coalesce
