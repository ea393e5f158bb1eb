// SPDX-License-Identifier: MIT
#include <coalesce/protocol/answer.h>

#include <unistd.h>

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

std::string started_line(std::string_view id, const Run& run, bool joined, std::size_t waiting) {
    Message message = message_to(id)
                          .text("event", "started")
                          .flag("joined", joined)
                          .number("pid", run.pid)
                          .seconds("started", run.started.time_since_epoch())
                          .number("requesters", static_cast<std::int64_t>(waiting));
    if (joined) message.text("command", run.title);
    return message.line();
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
    return message.flag("joined", delivered.joined)
        .number("requesters", static_cast<std::int64_t>(delivered.requesters))
        .seconds("duration", std::chrono::duration<double>(result.duration).count())
        .line();
}

std::string flight_object(const Run& run, const FlightStatus& status) {
    const char* const state = run.phase == Run::Phase::running  ? (run.refresh ? "refreshing" : "running")
                              : run.phase == Run::Phase::ending ? "ending"
                                                                : "queued";
    return Message()
        .text("id", status.name)
        .text("key", status.key)
        .text("state", state)
        .seconds("started", (run.spool ? run.started : run.requested).time_since_epoch())
        .number("requesters", static_cast<std::int64_t>(status.waiting))
        .number("output", run.spool ? static_cast<std::int64_t>(run.spool->size()) : 0)
        .number("pid", run.pid)
        .number("supervisor", ::getpid())
        .text("command", run.title)
        .object();
}

}  // namespace coalesce
