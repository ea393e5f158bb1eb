// SPDX-License-Identifier: MIT
#include <coalesce/reception/final_message.h>

#include <exception>
#include <string_view>
#include <system_error>
#include <utility>

#include <coalesce/protocol/answer.h>

namespace coalesce {
namespace {

constexpr std::uint64_t shared_answer_bytes = 64 * 1024;  // answers up to this are worth keeping for the next requester

Delivered delivered(const Requester& requester, const Landing<RunResult>& landing) {
    const Retention* const retention = requester.ticket ? requester.ticket.state().retention.get() : nullptr;
    return {.id = requester.id,
            .command = requester.title(),
            .joined = requester.joined,
            .requesters = landing.requesters,
            .with_output = requester.output == Request::Output::whole,
            .keeping = retention != nullptr ? retention->words() : std::string(),
            .keeping_failed = retention != nullptr && retention->failed()};
}

void say_why(const Requester& requester, std::string_view code, const std::string& why) {
    requester.client->session->send(error_line(requester.id, code, why));
}

}  // namespace

void FinalMessages::send(Requester& requester, const Landing<RunResult>& landing) {
    if (!landing.value)
        refuse(requester, landing);
    else if (requester.wants_output_as_it_comes())
        end_following(requester, exit_line(*landing.value, delivered(requester, landing)));
    else
        answer_whole(requester, landing);
}

void FinalMessages::refuse(const Requester& requester, const Landing<RunResult>& landing) {
    try {
        std::rethrow_exception(landing.error);
    } catch (const std::system_error& error) {
        const bool deadlock = error.code() == std::errc::resource_deadlock_would_occur;
        say_why(requester, deadlock ? "would_wait_for_itself" : "cancelled",
                requester.title() + (deadlock ? " would wait for itself" : ": cancelled"));
    } catch (const std::exception& error) {
        say_why(requester, "lost", error.what());
    }
}

void FinalMessages::end_following(Requester& requester, const std::string& last_line) {
    Session& session = *requester.client->session;
    StreamRendering* const stream = requester.extras ? std::exchange(requester.extras->stream, nullptr) : nullptr;
    if (stream == nullptr) return session.send(last_line);
    stream->end(last_line);
    session.wake(*stream);
}

void FinalMessages::answer_whole(Requester& requester, const Landing<RunResult>& landing) {
    Session& session = *requester.client->session;
    const auto& spool = landing.value->spool;
    const Delivered one = delivered(requester, landing);
    if (one.with_output && spool && !spool->whole())
        return say_why(requester, "output_too_long", "the output is longer than the replay limit; ask for a stream");
    const bool short_enough = !one.with_output || !spool || spool->size() <= shared_answer_bytes;
    // Rendered as it is read, so that what waits to be sent takes no memory; without the output there is none to hold.
    if (one.with_output && (!session.idle() || !short_enough))
        return session.send(render(Format::json, landing.value, one));
    if (const auto line = shared_answer_.line_for(landing.value, one)) return session.send(*line);
    say_why(requester, "lost", "the kept output cannot be read back");
}

}  // namespace coalesce
