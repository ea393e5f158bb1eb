// SPDX-License-Identifier: MIT
#include <coalesce/protocol/answer.h>

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace coalesce {

std::string_view code_of(const Outcome& outcome) {
    switch (outcome.kind) {
        case Outcome::Kind::exited:
        case Outcome::Kind::signalled:
            break;
        case Outcome::Kind::timed_out:
            return "timed_out";
        case Outcome::Kind::not_started:
            return "not_started";
        case Outcome::Kind::refused:
            return "refused";
        case Outcome::Kind::cancelled:
            return "cancelled";
        case Outcome::Kind::lost:
            return "lost";
        case Outcome::Kind::engine_down:
            return "engine_down";
    }
    return {};
}

Message message_to(std::string_view id) {
    Message message;
    if (!id.empty()) message.raw("id", id);
    return message;
}

std::string error_line(std::string_view id, std::string_view code, std::string_view why) {
    return message_to(id).error(code, why).line();
}

namespace {

void add_usually(Message& message, const std::optional<Usually>& usually) {
    if (!usually) return;
    message.seconds("usual", usually->time).number("usual_runs", usually->runs);
}

void add_turn(Message& message, std::optional<std::chrono::milliseconds> turn) {
    if (turn) message.seconds("turn_in", *turn);
}

}  // namespace

std::string started_line(std::string_view id, const Run& run, const StartFacts& started) {
    Message message = message_to(id).text("event", "started").flag("joined", started.joined);
    if (run.pid > 0) message.number("pid", run.pid);  // else it runs elsewhere
    message.seconds("started", run.started.time_since_epoch())
        .number("requesters", static_cast<std::int64_t>(started.waiting));
    add_usually(message, started.usually);
    if (started.joined) message.text("command", run.title);
    if (!run.host.empty()) message.text("host", run.host);
    return message.line();
}

Message kept_facts(const KeptMark& kept) {
    return Message()
        .seconds("age", kept.age)
        .seconds("left", std::max(kept.left, std::chrono::nanoseconds(0)))
        .flag("refreshing", kept.refreshing);
}

std::string kept_line(std::string_view id, const RunResult& result) {
    Message kept = kept_facts(*result.kept);
    kept.bytes("directory", result.kept->directory);
    return message_to(id)
        .text("event", "started")
        .flag("joined", false)
        .seconds("started", result.started.time_since_epoch())
        .seconds("duration", result.duration)
        .number("requesters", 1)
        .raw("kept", kept.object())
        .line();
}

std::string waiting_line(std::string_view id, const Run& run, std::optional<std::chrono::milliseconds> turn) {
    Message message = message_to(id).text("event", "waiting");
    if (!run.run_class.empty())
        message.text("class", run.run_class).number("others", static_cast<std::int64_t>(run.others));
    add_turn(message, turn);
    return message.line();
}

std::optional<Usually> usually_in(const Fields& message) {
    if (!message.has("usual")) return std::nullopt;
    return Usually{.time = message.time("usual"), .runs = static_cast<unsigned>(message.number("usual_runs"))};
}

void add_end(Message& message, const RunResult& result, const std::string& command) {
    if (result.outcome.kind == Outcome::Kind::signalled)
        message.number("signal", result.outcome.code);
    else
        message.number("exit", result.outcome.status());
    if (const std::string_view code = code_of(result.outcome); !code.empty())
        message.text("code", code).text("message", last_words(result.outcome, command));
}

std::string exit_line(const RunResult& result, const Delivered& delivered) {
    Message message = message_to(delivered.id).text("event", "exit");
    add_end(message, result, delivered.command);
    if (!delivered.keeping.empty())
        message.text("keeping", delivered.keeping).flag("keeping_failed", delivered.keeping_failed);
    if (result.kept) message.raw("kept", kept_facts(*result.kept).object());
    if (!result.host.empty()) message.text("host", result.host);
    return message.flag("joined", delivered.joined)
        .number("requesters", static_cast<std::int64_t>(delivered.requesters))
        .seconds("duration", std::chrono::duration<double>(result.duration).count())
        .line();
}

std::string flight_object(const Run& run, const FlightStatus& status) {
    const char* const state = run.phase == Run::Phase::running  ? (run.refresh ? "refreshing" : "running")
                              : run.phase == Run::Phase::ending ? "ending"
                                                                : "queued";
    Message message;
    message.text("id", status.name).text("key", status.key).text("state", state);
    if (!run.run_class.empty()) message.text("class", run.run_class);
    message.seconds("started", (run.spool ? run.started : run.requested).time_since_epoch())
        .number("requesters", static_cast<std::int64_t>(status.waiting))
        .number("output", run.spool ? static_cast<std::int64_t>(run.spool->size()) : 0)
        .number("pid", run.pid)
        .number("supervisor", ::getpid());
    add_usually(message, status.usually);
    add_turn(message, status.turn);
    if (!run.host.empty())
        message.text("host", run.host).number("machines", static_cast<std::int64_t>(run.elsewhere + 1));
    return message.text("command", run.title).object();
}

}  // namespace coalesce
