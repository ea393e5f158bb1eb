// SPDX-License-Identifier: MIT
#include <coalesce/batch/batch.h>

#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cinttypes>
#include <cstdio>
#include <unordered_map>
#include <utility>
#include <vector>

#include <coalesce/command/duration.h>
#include <coalesce/command/size.h>
#include <coalesce/command/text.h>
#include <coalesce/command/title.h>
#include <coalesce/flight/string_hash.h>
#include <coalesce/io/loop.h>
#include <coalesce/batch/delivery.h>
#include <coalesce/command/insistence.h>
#include <coalesce/engine/key_hash.h>
#include <coalesce/batch/ledger.h>
#include <coalesce/batch/line_source.h>
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

class Batch {
  public:
    Batch(BatchOptions options, Surroundings own, Ledger ledger);
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
        RunTicket ticket;  // kept only for a request that may give up waiting
        std::optional<Timer> patience;
    };

    void on_line(const LineSource::Line& line);
    void take_line(std::string_view text);
    void take_request(Request request, std::uint64_t line_number);
    void reject(std::uint64_t line_number, const std::string& id, std::string_view text, const std::string& why);
    void wait_for(RunTicket ticket, std::uint64_t sequence, std::unique_ptr<Asked> asked,
                  std::optional<milliseconds> patience, std::size_t command_bytes);
    void give_up(std::uint64_t sequence, bool joined);

    void landed(std::uint64_t sequence, bool joined, const Landing<RunResult>& landing, std::unique_ptr<Asked> asked);
    void deliver(std::uint64_t sequence, bool joined, std::shared_ptr<const RunResult> result, std::size_t requesters,
                 std::unique_ptr<Asked> asked, bool gave_up = false);
    void print(std::uint64_t sequence, bool joined, std::shared_ptr<const RunResult> result, std::size_t requesters,
               std::unique_ptr<Asked> asked, bool gave_up);
    void account(const RunResult& result, bool joined, std::size_t requesters, const Asked& asked, bool gave_up);
    void count_run(const Outcome& outcome);
    void on_stalled(FlightId id);
    void drain(FlightId id);
    void forget(FlightId id);
    void keep(const std::shared_ptr<const RunResult>& result);
    [[nodiscard]] Outcome beyond_replay() const;

    [[nodiscard]] bool remembers() const noexcept {
        return ledger_.wanted() || options_.format == Format::json || options_.input == BatchOptions::Input::json ||
               (options_.format == Format::tagged && options_.rules.key);
    }
    [[nodiscard]] std::unique_ptr<Asked> remember(std::uint64_t sequence, const KeyView& key) const;
    [[nodiscard]] Job job_defaults() const;
    [[nodiscard]] Job job_of_line(std::string line) const;
    void throttle();
    void stop_reading();
    void interrupt(int number);
    void refused(const Error& error);
    void complain(const std::string& sentence);
    void say(const std::string& text);
    void list_distinct();
    [[nodiscard]] BatchSummary summary() const;
    [[nodiscard]] BatchEnd end() const;

    const BatchOptions options_;
    Ledger ledger_;
    std::shared_ptr<const Surroundings> surroundings_;
    SurroundingsTable interned_;
    std::shared_ptr<const CanonicalSurroundings> canonical_;

    Loop loop_;
    CommandExecutor executor_;
    Delivery delivery_;
    LineSource source_;
    std::vector<std::unique_ptr<SignalWatch>> signals_;
    Insistence insistence_;
    std::optional<Progress> progress_;

    std::string words_;  // of the line at hand; kept for its room
    struct Leader {
        std::uint64_t sequence;  // 0 once it has given up
        bool with_output;
        std::string once_key;  // --once: what to keep its result under
    };
    std::unordered_map<FlightId, Leader> leaders_;                       // who led each live flight
    std::unordered_map<FlightId, std::unique_ptr<SpoolReader>> drains_;  // of long output that its leader does not want
    std::unordered_map<FlightId, std::uint64_t> live_;  // printed while they run: the sequence number shown
    std::unordered_map<std::uint64_t, std::unique_ptr<Asked>> impatient_;
    // --once: results by key, and the key that is being asked for just now.
    std::unordered_map<std::string, std::shared_ptr<const RunResult>, StringHash, std::equal_to<>> kept_;
    std::string asking_once_;
    std::vector<std::pair<std::string, std::uint64_t>> listed_;  // --dry-run
    std::unordered_map<std::string, std::size_t, StringHash, std::equal_to<>> listed_at_;

    std::uint64_t requests_ = 0;
    std::uint64_t done_ = 0;
    std::uint64_t waiting_bytes_ = 0;
    std::uint64_t shared_ = 0;
    std::uint64_t failed_requests_ = 0;
    std::uint64_t failed_runs_ = 0;
    nanoseconds saved_{0};
    steady_clock::time_point begun_ = steady_clock::now();
    bool reading_ = true;
    bool own_failure_ = false;
    std::optional<int> halted_with_;
    int interrupted_by_ = 0;
    bool reader_gone_ = false;
};

Batch::Batch(BatchOptions options, Surroundings own, Ledger ledger)
    : options_(std::move(options)),
      ledger_(std::move(ledger)),
      surroundings_(std::make_shared<const Surroundings>(std::move(own))),
      canonical_(interned_.intern(canonical_surroundings(*surroundings_, options_.rules))),
      executor_(loop_, options_.executor),
      delivery_(loop_, {options_.format, options_.keep_order},
                {[this](const Error& error) { refused(error); }, [this] { throttle(); },
                 [this] {
                     if (progress_) progress_->clear();
                 }}),
      source_(loop_, options_.input_fd, options_.delimiter, request_bytes_max,
              {[this](const LineSource::Line& line) { on_line(line); },
               [this](std::optional<Error> error) {
                   reading_ = false;
                   if (error) {
                       own_failure_ = true;
                       complain("cannot read " + options_.input_name + ": " + error->code.message());
                   }
               }}) {
    ledger_.on_complaint([this](const std::string& sentence) { complain(sentence); });
    executor_.on_stalled([this](FlightId id) { on_stalled(id); });
    executor_.on_landed([this](FlightId id) {
        const auto leader = leaders_.find(id);
        if (leader == leaders_.end() || leader->second.sequence != 0) return;
        loop_.post([this, id] { forget(id); });  // perhaps nobody is left to be told
    });
    executor_.on_over([this](const std::shared_ptr<const RunResult>& result) {
        count_run(result->outcome);
        keep(result);
        throttle();
    });
    for (const int number : {SIGINT, SIGTERM, SIGHUP})
        if (!was_told_to_ignore(number))
            signals_.push_back(std::make_unique<SignalWatch>(loop_, number, [this, number] { interrupt(number); }));
    const bool terminal = ::isatty(STDERR_FILENO) != 0 && !(::isatty(STDOUT_FILENO) != 0 && same_file(1, 2));
    if (options_.progress.value_or(terminal) && !options_.dry_run)
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
    if (options_.dry_run) list_distinct();
    ledger_.finish(summary());
    if (ledger_.failed()) own_failure_ = true;
    if (options_.verbose) {
        const BatchSummary sums = summary();
        complain(fmt::format("{} requests, {} runs, {} shared, {} failed, {} in all, {} saved", sums.requests,
                             sums.runs, sums.shared, sums.failed,
                             format_duration(duration_cast<milliseconds>(sums.wall)),
                             format_duration(duration_cast<milliseconds>(sums.saved))));
    }
    return end();
}

void Batch::on_line(const LineSource::Line& line) {
    if (line.too_long) {
        reject(line.number, {}, line.text, fmt::format("longer than {} MiB, it begins with", request_bytes_max >> 20));
    } else if (line.text.find_first_not_of(" \t\r") == std::string_view::npos) {
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
        take_line(line.text);
    }
    throttle();
}

// Bad input is a failed request of its own: the others still run.
void Batch::reject(std::uint64_t line_number, const std::string& id, std::string_view text, const std::string& why) {
    std::string sentence = fmt::format("{}, line {}: {}", options_.input_name, line_number, why);
    if (!text.empty()) sentence += " " + display_word(text);
    const std::uint64_t sequence = ++requests_;
    auto asked = remember(sequence, {canonical_, {}});
    if (asked) {
        asked->id = id;
        asked->command = std::string(text);
    }
    auto result = std::make_shared<const RunResult>(
        RunResult{.outcome = Outcome::refused(0, std::move(sentence)), .title = title(text)});
    deliver(sequence, false, std::move(result), 1, std::move(asked));
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

Job Batch::job_of_line(std::string line) const {
    Job job = job_defaults();
    job.command.argv = {options_.executor.shell, "-c", line};
    job.command.surroundings = surroundings_;
    job.title = title(line);
    job.line = std::move(line);
    return job;
}

void Batch::take_line(std::string_view text) {
    if (options_.dry_run) {
        const auto found = listed_at_.find(text);
        if (found != listed_at_.end()) {
            ++listed_[found->second].second;
            return;
        }
        listed_at_.emplace(text, listed_.size());
        listed_.emplace_back(text, 1);
        return;
    }
    const std::uint64_t sequence = ++requests_;
    if (options_.rules.key) {
        words_ = canonical_words({}, std::nullopt, options_.rules);
    } else {
        words_.clear();
        append_canonical_line(words_, options_.executor.shell, text);
    }
    if (options_.rules.no_share) append_unshared(words_);
    auto asked = remember(sequence, {canonical_, words_});
    if (asked) asked->command = std::string(text);
    if (options_.once) {
        if (const auto kept = kept_.find(words_); kept != kept_.end())
            return deliver(sequence, true, kept->second, 1, std::move(asked));
    }
    if (options_.once) asking_once_ = words_;
    RunTicket ticket = executor_.submit(RequestKey{canonical_, words_}, [this, line = std::string(text)]() mutable {
        return job_of_line(std::move(line));
    });
    wait_for(std::move(ticket), sequence, std::move(asked), std::nullopt, text.size());
}

void Batch::take_request(Request request, std::uint64_t line_number) {
    const auto refuse = [&](const std::string& why) { reject(line_number, request.id, {}, why); };
    if (!request.op.empty()) return refuse("\"op\" is for a server, not for a batch");
    if (request.output == Request::Output::stream || request.output == Request::Output::fd)
        return refuse("\"output\" can be whole or none in a batch");
    ResolvedRequest resolved = resolve(request, surroundings_, options_.rules, options_.executor.shell, job_defaults());
    if (options_.dry_run) return take_line(resolved.job.title);
    const std::uint64_t sequence = ++requests_;
    const auto canonical =
        resolved.canonical_surroundings ? interned_.intern(std::move(*resolved.canonical_surroundings)) : canonical_;
    const std::string& words = resolved.canonical_words;
    auto asked = remember(sequence, {canonical, words});
    asked->id = std::move(request.id);
    asked->command = resolved.job.line.value_or(resolved.job.title);
    asked->with_output = request.output == Request::Output::whole;
    const std::size_t command_bytes =
        words.size() + (resolved.job.command.stdin_bytes ? resolved.job.command.stdin_bytes->size() : 0);
    if (options_.once) asking_once_ = canonical->bytes + words;
    if (options_.once && !request.fresh) {
        if (const auto kept = kept_.find(asking_once_); kept != kept_.end())
            return deliver(sequence, true, kept->second, 1, std::move(asked));
    }
    RunTicket ticket = executor_.submit(RequestKey{canonical, words},
                                        [job = std::move(resolved.job)]() mutable { return std::move(job); },
                                        {.fresh = request.fresh});
    wait_for(std::move(ticket), sequence, std::move(asked), request.wait, command_bytes);
}

void Batch::wait_for(RunTicket ticket, std::uint64_t sequence, std::unique_ptr<Asked> asked,
                     std::optional<milliseconds> patience, std::size_t command_bytes) {
    const bool joined = !ticket.leader();
    if (!joined) leaders_.emplace(ticket.id(), Leader{sequence, !asked || asked->with_output, std::move(asking_once_)});
    std::uint64_t bytes = joined ? joined_bytes : queued_bytes(command_bytes);
    if (asked) {
        bytes += sizeof(Asked) + asked->command.size() + asked->id.size() + asked->key.size();
        asked->bytes = bytes;
    }
    waiting_bytes_ += bytes;
    if (patience) {
        asked->ticket = std::move(ticket);
        asked->ticket.then([this, sequence, joined](const Landing<RunResult>& landing) {
            auto node = impatient_.extract(sequence);
            landed(sequence, joined, landing, std::move(node.mapped()));
        });
        asked->patience.emplace(loop_);
        asked->patience->start(*patience, [this, sequence, joined] { give_up(sequence, joined); });
        impatient_.emplace(sequence, std::move(asked));
        return;
    }
    if (asked) {
        ticket.then([this, joined, asked = std::move(asked)](const Landing<RunResult>& landing) mutable {
            const std::uint64_t number = asked->sequence;
            landed(number, joined, landing, std::move(asked));
        });
    } else {
        // Two words and no allocation: two million of these wait at a time.
        ticket.then([this, place = sequence << 1 | (joined ? 1U : 0U)](const Landing<RunResult>& landing) {
            landed(place >> 1, (place & 1) != 0, landing, nullptr);
        });
    }
    std::move(ticket).detach();
}

void Batch::give_up(std::uint64_t sequence, bool joined) {
    if (impatient_.at(sequence)->ticket.landed()) return;  // its result is on the way
    auto node = impatient_.extract(sequence);
    std::unique_ptr<Asked> asked = std::move(node.mapped());
    const FlightId id = asked->ticket.id();
    waiting_bytes_ -= asked->bytes;
    // Output that has been shown to this request cannot be shown to another.
    if (const auto live = live_.find(id); live != live_.end() && live->second == sequence)
        executor_.refuse(id, beyond_replay());
    if (const auto leader = leaders_.find(id); leader != leaders_.end() && leader->second.sequence == sequence)
        leader->second.sequence = 0;
    const Run& run = asked->ticket.state();
    auto result = std::make_shared<const RunResult>(RunResult{.run = asked->ticket.id(),
                                                              .outcome = Outcome::cancelled(),
                                                              .title = run.title,
                                                              .requested = run.requested,
                                                              .started = run.started});
    asked->ticket = {};
    deliver(sequence, joined, std::move(result), 1, std::move(asked), true);
}

// Called once for each requester, when its flight has landed.
void Batch::landed(std::uint64_t sequence, bool joined, const Landing<RunResult>& landing,
                   std::unique_ptr<Asked> asked) {
    const std::shared_ptr<const RunResult>& result = landing.value;
    waiting_bytes_ -= asked ? asked->bytes : joined ? joined_bytes : queued_bytes(result->title.size());
    if (const auto leader = leaders_.find(result->run); leader != leaders_.end()) {
        forget(result->run);
    }
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
    const auto live = live_.find(result->run);
    const bool shown_live = live != live_.end() && live->second == sequence;
    if (result->outcome.kind == Outcome::Kind::cancelled && !gave_up) {  // it was ended by us
        if (!shown_live) return delivery_.skip(sequence);
        live_.erase(live);
        return;
    }
    const bool with_output = !asked || asked->with_output;
    const bool ended_by_limit =
        result->spool &&
        (!result->spool->whole() || (result->outcome.kind == Outcome::Kind::refused && !result->spool->replayable()));
    if (!shown_live && with_output && ended_by_limit) {
        auto refusal = std::make_shared<RunResult>(*result);
        refusal->spool.reset();
        refusal->outcome = beyond_replay();
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
        live_.erase(live);
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
    RequestRecord record{.sequence = asked.sequence,
                         .run = result.run,
                         .command = asked.command,
                         .id = asked.id,
                         .joined = joined,
                         .requesters = requesters,
                         .requested = asked.at,
                         .started = result.started,
                         .ended = system_clock::now(),
                         .waited = steady_clock::now() - asked.at_steady,
                         .run_time = result.duration,
                         .outcome = gave_up ? Outcome::exited(75) : result.outcome,
                         .attempts = result.attempts};
    if (result.spool) {
        record.stdout_bytes = result.spool->size(Stream::out);
        record.stderr_bytes = result.spool->size(Stream::err);
    }
    ledger_.add(record, asked.key);
}

void Batch::count_run(const Outcome& outcome) {
    if (outcome.success() || outcome.kind == Outcome::Kind::cancelled) return;
    ++failed_runs_;
    if (!options_.halt || failed_runs_ < options_.halt->failures || halted_with_) return;
    halted_with_ = outcome.status();
    stop_reading();
    executor_.start_no_more();
    if (options_.halt->now) executor_.cancel_all(options_.grace);
}

// Before the key is free: a line that is read between a run's end and its delivery
// must not run again. A command that cannot be started is over while it is being asked for.
void Batch::keep(const std::shared_ptr<const RunResult>& result) {
    if (!options_.once || result->outcome.kind == Outcome::Kind::cancelled) return;
    const auto leader = leaders_.find(result->run);
    const std::string& key = leader == leaders_.end() ? asking_once_ : leader->second.once_key;
    kept_.emplace(key, result);
}

void Batch::forget(FlightId id) {
    leaders_.erase(id);
    drains_.erase(id);
}

// Past the replay limit a result cannot be kept whole, so the request that led
// the run is shown it as it comes. Whoever else shares it is refused at its end.
void Batch::on_stalled(FlightId id) {
    const auto leader = leaders_.find(id);
    if (live_.contains(id) || drains_.contains(id)) return;
    if (leader == leaders_.end() || leader->second.sequence == 0) return executor_.refuse(id, beyond_replay());
    if (!leader->second.with_output) return drain(id);
    if (options_.format != Format::text) return executor_.refuse(id, beyond_replay());
    live_.emplace(id, leader->second.sequence);
    delivery_.add_live(leader->second.sequence, executor_.spool_of(id));
}

// On a later turn: the run is being recorded just now.
void Batch::drain(FlightId id) {
    drains_.emplace(id, nullptr);
    loop_.post([this, id] {
        const auto spool = executor_.spool_of(id);
        const auto found = drains_.find(id);
        if (!spool || found == drains_.end()) return;
        const auto read_on = [reader = &found->second] {
            while (const auto piece = (*reader)->next()) (*reader)->advance(piece->extent.length);
        };
        found->second = std::make_unique<SpoolReader>(*spool, read_on);
        read_on();
    });
}

Outcome Batch::beyond_replay() const {
    return Outcome::refused(0, "the output is longer than the replay limit of " +
                                   format_size(options_.executor.spool.replay_bytes) +
                                   "; raise it with --replay-limit");
}

// Reads on while there is room for what is read, and lets commands start while
// their results find a way out.
void Batch::throttle() {
    // Never when nothing runs: the result that all others wait for may be yet to start.
    executor_.hold(delivery_.backlog_bytes() > backlog_bytes_max && executor_.counts().running > 0);
    if (!reading_) return;
    if (executor_.counts().queued >= options_.read_ahead || waiting_bytes_ >= waiting_bytes_max ||
        delivery_.waiting() >= undelivered_max)
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
    stop_reading();
    executor_.start_no_more();
    executor_.cancel_all(options_.grace);
}

void Batch::complain(const std::string& sentence) { say("coalesce: " + visible(sentence) + "\n"); }

void Batch::say(const std::string& text) {
    if (progress_) progress_->clear();
    std::fputs(text.c_str(), stderr);
}

void Batch::list_distinct() {
    for (const auto& [line, count] : listed_) std::printf("%7" PRIu64 " %s\n", count, line.c_str());
    if (std::fflush(stdout) != 0) refused(system_error_now("write to standard output"));
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
    if (halted_with_) return {*halted_with_};
    return {failed_requests_ > 0 ? 123 : 0};
}

}  // namespace

Result<BatchEnd> run_batch(BatchOptions options) {
    auto own = own_surroundings();
    if (!own) return own.error();
    own->identity = own_identity();
    options.executor.directory = own->cwd;
    options.executor.directory_itself = own->directory;
    auto ledger = Ledger::open({options.joblog, options.report, options.html});
    if (!ledger) return ledger.error();
    return Batch(std::move(options), std::move(*own), std::move(*ledger)).run();
}

}  // namespace coalesce
