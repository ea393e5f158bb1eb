// SPDX-License-Identifier: MIT
#include <coalesce/engine/process_source.h>

#include <unistd.h>

#include <cerrno>
#include <span>
#include <system_error>
#include <utility>

#include <coalesce/command/shell_line.h>
#include <coalesce/command/want.h>
#include <coalesce/io/loop.h>
#include <coalesce/io/unnamed_file.h>

namespace coalesce {
namespace {

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
        case Started::Step::terminal:
            return Outcome::refused(start.error, "cannot open a pseudo-terminal: " + why);
        case Started::Step::descriptors:
            return Outcome::refused(start.error,
                                    "cannot keep our descriptors from " + display({command.argv.front()}) + ": " + why);
        default:
            return Outcome::refused(start.error, "cannot start a process: " + why);
    }
}

bool may_be_for_want(Started::Step step) {
    return step == Started::Step::spawn || step == Started::Step::input || step == Started::Step::terminal;
}

}  // namespace

ProcessSource::ProcessSource(Loop& loop, const ExecutorOptions& options, LinePrograms& line_programs, Job& job,
                             ProcessMark mark)
    : loop_(loop), options_(options), line_programs_(line_programs), job_(job), mark_(mark) {}

std::optional<RunSource::Refusal> ProcessSource::start(Events events) {
    events_ = std::move(events);
    Descriptor input;
    if (job_.command.stdin_bytes && !job_.launched) {
        auto file = input_file(*job_.command.stdin_bytes);
        if (!file) {
            const int error = file.error().code.value();
            return Refusal{Outcome::refused(error, file.error().message()), is_want(error)};
        }
        input = std::move(*file);
    }
    Child::Start started = start_child(input);
    child_ = std::move(started.child);
    if (child_) return std::nullopt;
    return Refusal{refusal_of(started, job_.command), may_be_for_want(started.failed) && is_want(started.error)};
}

Child::Start ProcessSource::start_child(const Descriptor& input) {
    if (job_.launched) return Child::adopt(loop_, std::exchange(job_.launched, {}).value(), child_events());
    const Command& command = job_.command;
    if (job_.line) {
        if (const auto program = line_programs_.find(*job_.line, command.surroundings)) {
            Child::Start started = execute(program->argv, *program->env, program->path.c_str(), input);
            // What cannot be executed is the shell's to explain, in its own words.
            direct_ = static_cast<bool>(started.child);
            if (started.child || started.failed != Started::Step::execute) return started;
        }
    }
    return execute(command.argv, command.surroundings->env, nullptr, input);
}

Child::Start ProcessSource::execute(const std::vector<std::string>& argv, const std::vector<std::string>& env,
                                    const char* path, const Descriptor& input) {
    const Surroundings& surroundings = *job_.command.surroundings;
    Program program{.argv = argv,
                    .env = env,
                    .path = path,
                    .umask = surroundings.umask,
                    .terminal = surroundings.terminal,
                    .hook = options_.in_child,
                    .mark = mark_,
                    .guard = options_.guard,
                    .guard_deadline = job_.guard_deadline};
    // Looked at again: who has this library in its program may have gone elsewhere meanwhile.
    const bool own = surroundings.cwd == options_.directory && surroundings.directory == options_.directory_itself &&
                     surroundings.directory == identity_of_current_directory();
    if (!surroundings.cwd.empty() && !own) program.directory = surroundings.cwd.c_str();
    return Child::start(loop_, program, input, child_events());
}

Child::Events ProcessSource::child_events() {
    Child::Events events{[this](Stream stream, std::span<const char> bytes) { events_.on_output(stream, bytes); },
                         [this](Outcome outcome) { on_ended(std::move(outcome)); }};
    if (job_.command.surroundings->terminal) {
        questions_.emplace();
        events.on_output = [this](Stream stream, std::span<const char> bytes) {
            questions_->filter(bytes, [&](std::span<const char> passed) { events_.on_output(stream, passed); });
        };
    }
    return events;
}

void ProcessSource::on_ended(Outcome outcome) {
    over_ = true;
    if (questions_)
        if (const std::string rest = questions_->rest(); !rest.empty()) events_.on_output(Stream::out, rest);
    if (direct_ && !told_to_end_) {
        // The shell would have stayed its parent, and have had something to say.
        ShellEnd end = end_as_shell_would(outcome);
        outcome = std::move(end.outcome);
        if (!end.notice.empty()) events_.on_output(questions_ ? Stream::out : Stream::err, end.notice);
    }
    auto on_ended = std::move(events_.on_ended);
    on_ended(std::move(outcome));  // may destroy this
}

void ProcessSource::terminate(std::chrono::milliseconds grace) {
    told_to_end_ = true;
    if (!over_) child_->terminate(grace);
}

void ProcessSource::signal(int number) noexcept {
    if (!over_) child_->signal(number);
}

void ProcessSource::pause() noexcept {
    if (!over_) child_->pause();
}

void ProcessSource::resume() {
    if (!over_) child_->resume();
}

}  // namespace coalesce
