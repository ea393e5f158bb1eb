// SPDX-License-Identifier: MIT
#include <coalesce/batch/intake.h>

#include <unistd.h>

#include <utility>
#include <variant>

#include <coalesce/command/shell_line.h>
#include <coalesce/command/text.h>
#include <coalesce/command/title.h>
#include <coalesce/protocol/format.h>
#include <coalesce/protocol/resolved_request.h>

namespace coalesce {

Intake::Intake(Loop& loop, const BatchOptions& options, Surroundings own, std::optional<EarlierJobs> earlier,
               Events events)
    : options_(options),
      earlier_(std::move(earlier)),
      usual_(usual_in(std::make_shared<const Surroundings>(std::move(own)), options_)),
      canonical_shell_(canonical_shell(options_.executor.shell)),
      events_(std::move(events)),
      source_(loop, options_.input_fd, options_.delimiter, request_bytes_max,
              {[this](const LineSource::Line& line) { take(line); },
               [this](const std::optional<Error>& error) {
                   reading_ = false;
                   events_.on_end(error);
               }}) {}

void Intake::stop() noexcept {
    reading_ = false;
    source_.stop();
}

void Intake::take(const LineSource::Line& line) {
    const std::string_view text = line.text;
    if (line.too_long) {
        refuse(line.number, {}, text, formatted("longer than {} MiB, it begins with", request_bytes_max >> 20));
    } else if (text.find_first_not_of(" \t\r") == std::string_view::npos) {
        events_.on_nothing(line.number);
    } else if (options_.input == BatchOptions::Input::json) {
        auto parsed = parse_request(text);
        if (auto* error = std::get_if<RequestError>(&parsed))
            refuse(line.number, error->id, {}, error->message);
        else
            take_request(line.number, std::move(std::get<Request>(parsed)));
    } else if (text.find('\0') != std::string_view::npos) {
        refuse(line.number, {}, text.substr(0, text.find('\0')), "a NUL byte after");
    } else {
        take_line(line.number, text);
    }
}

void Intake::take_line(std::uint64_t sequence, std::string_view line) {
    if (passes_over(sequence, line)) return;
    const std::string owned = options_.options_for ? std::string(line) : std::string();
    const BatchOptions& options = options_for(&owned, {}, nullptr);
    const Usual& usual = usual_by(options);
    words_.clear();
    append_words(words_, line, options);
    if (options.rules.no_share) append_unshared(words_);
    Asking asking{.sequence = sequence,
                  .key = {usual.canonical, words_},
                  .command = line,
                  .job_bytes = line.size(),
                  .wish = options.wish};
    if (&options != &options_) asking.job = job_of_line(owned, options, usual.surroundings);
    events_.on_request(std::move(asking));
}

void Intake::take_request(std::uint64_t sequence, Request request) {
    if (!request.op.empty())
        return refuse(sequence, std::move(request.id), {}, "\"op\" is for a server, not for a batch");
    if (Request::as_it_comes(request.output))
        return refuse(sequence, std::move(request.id), {}, "\"output\" can be whole or none in a batch");
    const BatchOptions& options =
        options_for(request.line ? &*request.line : nullptr, request.argv, request.cwd ? &*request.cwd : nullptr);
    const Usual& usual = usual_by(options);
    ResolvedRequest resolved =
        resolve(request, usual.surroundings, options.rules, options_.executor.shell, job_defaults(options));
    const std::string command = resolved.job.line.value_or(resolved.job.title);
    if (passes_over(sequence, command)) return;
    const std::size_t own_surroundings = resolved.canonical_surroundings ? resolved.canonical_surroundings->size() : 0;
    const auto canonical = resolved.canonical_surroundings
                               ? interned_.intern(std::move(*resolved.canonical_surroundings))
                               : usual.canonical;
    const std::string& words = resolved.canonical_words;
    const auto& input = resolved.job.command.stdin_bytes;
    events_.on_request({.sequence = sequence,
                        .key = {canonical, words},
                        .command = command,
                        .job_bytes = words.size() + (input ? input->size() : 0) + own_surroundings,
                        .id = std::move(request.id),
                        .fresh = request.fresh,
                        .wish = wish_of(request, options),
                        .with_output = request.output == Request::Output::whole,
                        .patience = request.wait,
                        .job = std::move(resolved.job)});
}

// Bad input is a failed request of its own: the others still run.
void Intake::refuse(std::uint64_t sequence, std::string id, std::string_view command, const std::string& why) {
    if (passes_over(sequence, command)) return;
    std::string sentence = formatted("{}, line {}: {}", options_.input_name, sequence, why);
    if (!command.empty()) sentence += " " + display_word(command);
    events_.on_refused({sequence, std::move(id), command, std::move(sentence)});
}

// --resume. The input has to be the same as it was then, or other commands would be
// taken for done: the first that is not ends the batch.
bool Intake::passes_over(std::uint64_t sequence, std::string_view command) {
    if (!earlier_) return false;
    switch (earlier_->look_up(sequence, command)) {
        case EarlierJobs::Verdict::to_run:
            return false;
        case EarlierJobs::Verdict::to_skip:
            ++passed_over_;
            break;
        case EarlierJobs::Verdict::another_command:
            stop();
            events_.on_other_input(formatted("cannot resume by {}: its command {} is {}, but line {} of {} is {}",
                                             options_.joblog, sequence, earlier_->command_of(sequence), sequence,
                                             options_.input_name, title(command)));
    }
    events_.on_nothing(sequence);
    return true;
}

std::optional<std::uint64_t> Intake::passed_over() const {
    return earlier_ ? std::optional(passed_over_) : std::nullopt;
}

// Its own, or else the whole batch's: of two halves nobody could say what they come to.
Wish Intake::wish_of(const Request& request, const BatchOptions& options) {
    if (request.no_share || options.rules.no_share) return {};
    Wish wish = request.own_wish ? request.wish : options.wish;
    wish.fresh = request.fresh;
    return wish;
}

Job Intake::job_defaults(const BatchOptions& options) {
    return Job{.timeout = options.timeout,
               .retries = options.retries,
               .grace = options.grace,
               .run_class = options.run_class,
               .asker = ::getpid()};
}

const BatchOptions& Intake::options_for(const std::string* line, const std::vector<std::string>& argv,
                                        const std::string* directory) const {
    const BatchOptions* const own = options_.options_for ? options_.options_for(line, argv, directory) : nullptr;
    return own == nullptr ? options_ : *own;
}

Intake::Usual Intake::usual_in(std::shared_ptr<const Surroundings> surroundings, const BatchOptions& options) {
    auto canonical = interned_.intern(canonical_surroundings(*surroundings, options.rules));
    return {std::move(surroundings), std::move(canonical)};
}

const Intake::Usual& Intake::usual_by(const BatchOptions& options) {
    if (&options == &options_) return usual_;
    const auto found = usual_by_rules_.find(&options);
    if (found != usual_by_rules_.end()) return found->second;
    std::shared_ptr<const Surroundings> surroundings = usual_.surroundings;
    if (options.terminal && options.terminal != options_.terminal) {
        auto own = std::make_shared<Surroundings>(*surroundings);
        give_terminal(*own, *options.terminal);
        surroundings = std::move(own);
    }
    return usual_by_rules_.emplace(&options, usual_in(std::move(surroundings), options)).first->second;
}

Job Intake::job_of_line(std::string line, const BatchOptions& options,
                        std::shared_ptr<const Surroundings> surroundings) const {
    Job job = job_defaults(options);
    job.command.argv = argv_of_line(options_.executor.shell, line);
    job.command.surroundings = std::move(surroundings);
    job.title = title(line);
    job.line = std::move(line);
    return job;
}

void Intake::append_words(std::string& words, std::string_view line, const BatchOptions& options) const {
    if (options.rules.key)
        words += canonical_words({}, std::nullopt, options.rules);
    else
        append_canonical_line(words, canonical_shell_, line);
}

Key Intake::key_of_line(std::string_view line) const {
    std::string words;
    append_words(words, line, options_);
    return {usual_.canonical, std::move(words)};
}

}  // namespace coalesce
