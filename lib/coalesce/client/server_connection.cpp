// SPDX-License-Identifier: MIT
#include <coalesce/client/server_connection.h>

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include <coalesce/io/unix_socket.h>
#include <coalesce/protocol/message.h>
#include <coalesce/protocol/request_line.h>

namespace coalesce {
namespace {

std::exception_ptr refused(std::string code, const std::string& message) {
    return std::make_exception_ptr(RequestRefused(std::move(code), message));
}

std::exception_ptr gone_away(const std::string& why) {
    return refused("disconnected", "the server went away without an answer: " + why);
}

// The line for standard error without what makes it one.
std::string sentence(std::string text) {
    while (text.ends_with('\n')) text.pop_back();
    constexpr std::string_view ours = "coalesce: ";
    return text.starts_with(ours) ? text.substr(ours.size()) : text;
}

Outcome outcome_of(const Fields& end) {
    const std::string code = end.text("code");
    const std::string why = sentence(end.text("message"));
    const auto status = static_cast<int>(end.number("exit"));
    if (code.empty())
        return end.has("signal") ? Outcome::signalled(static_cast<int>(end.number("signal"))) : Outcome::exited(status);
    if (code == "timed_out") return Outcome::timed_out();
    if (code == "not_started") return Outcome::not_started(status == 127 ? ENOENT : EACCES, why);
    if (code == "refused") return Outcome::refused(0, why);
    if (code == "cancelled")  // by one who asked for it, or for everyone with a reason
        return why.ends_with(Outcome::cancelled().describe())
                   ? Outcome::cancelled()
                   : Outcome{.kind = Outcome::Kind::cancelled, .reason = why};
    if (code == "engine_down") return Outcome::engine_down(why);
    return Outcome::lost(why);
}

std::chrono::microseconds time_in(const Fields& fields, const char* name) {
    return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::duration<double>(fields.seconds(name)));
}

Answered answered_of(const Fields& end) {
    Answered answered;
    answered.outcome = outcome_of(end);
    answered.joined = end.flag("joined");
    answered.requesters = static_cast<std::size_t>(end.number("requesters"));
    answered.duration = time_in(end, "duration");
    answered.host = end.text("host");
    if (const auto kept = Fields::parse(end.raw("kept")))
        answered.kept = {
            .age = time_in(*kept, "age"), .left = time_in(*kept, "left"), .refreshing = kept->flag("refreshing")};
    return answered;
}

// Whether it has what the protocol promises of such a message.
bool is_whole(const Fields& message) {
    const std::string event = message.text("event");
    if (const auto error = Fields::parse(message.raw("error"))) return error->has("code") && error->has("message");
    if (event == "exit") return message.has("duration") && (message.has("exit") || message.has("signal"));
    return (event != "stdout" && event != "stderr") || message.has("bytes");
}

std::string leave_line(std::uint64_t number) { return "{\"id\":" + std::to_string(number) + ",\"op\":\"leave\"}\n"; }

}  // namespace

void ServerConnection::connect() {
    auto connected = connect_to(path_);
    if (!connected && connected.error().code == std::errc::resource_unavailable_try_again) {
        constexpr std::chrono::milliseconds until_there_is_room{10};
        return again_.start(until_there_is_room, [self = shared_from_this()] { self->connect(); });
    }
    const auto fail = [this](const Error& error) {
        closing_ = true;
        loop_.post([self = shared_from_this(),
                    why = std::make_exception_ptr(std::system_error(error.code, error.doing))] { self->close(why); });
    };
    if (!connected) return fail(connected.error());
    socket_ = std::move(*connected);
    // Ready in a while: its owner may let go of it in a callback of its own.
    auto watch = Watch::start(loop_, socket_.get(), Readiness::either, [this] {
        const auto self = shared_from_this();
        ready();
    });
    if (!watch) return fail(watch.error());
    watch_ = std::move(*watch);
    for (const auto& [number, line] : std::exchange(unsent_, {})) out_ += line;
    flush();
    watch_again();
}

std::uint64_t ServerConnection::send(Request request, Waiter waiter) {
    const std::uint64_t number = ++last_number_;
    request.id = std::to_string(number);
    if (request.op.empty()) {
        request.output = Request::Output::stream;
        request.quiet = true;
    }
    std::string line = request_line(request);
    if (line.size() > request_bytes_max + 1)
        throw RequestRefused("too_long", "the request has " + std::to_string(line.size() - 1) + " bytes, and at most " +
                                             std::to_string(request_bytes_max) + " are taken");
    waiting_.emplace(number, std::move(waiter));
    if (socket_)
        out_ += line;
    else
        unsent_.emplace(number, std::move(line));
    flush();
    watch_again();
    return number;
}

void ServerConnection::leave(std::uint64_t number) {
    if (waiting_.erase(number) == 0) return;
    if (!socket_) {
        unsent_.erase(number);
        if (waiting_.empty()) close(nullptr);  // else it would try on for nobody
        return;
    }
    out_ += leave_line(number);
    flush();
    watch_again();
}

bool ServerConnection::usable() const noexcept {
    if (closing_) return false;
    pollfd state{.fd = socket_.get(), .events = POLLRDHUP, .revents = 0};
    return !socket_ || ::poll(&state, 1, 0) == 0;
}

void ServerConnection::pause() {
    paused_ = true;
    watch_again();
}

void ServerConnection::resume() {
    paused_ = false;
    watch_again();
}

void ServerConnection::ready() {
    flush();
    if (!paused_ && socket_) {
        const auto buffer = loop_.read_buffer();
        const ssize_t got = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
        if (got > 0)
            take({buffer.data(), static_cast<std::size_t>(got)});
        else if (got == 0 || (errno != EAGAIN && errno != EINTR))
            close(gone_away(got == 0 ? "end of file" : std::system_category().message(errno)));
    }
    watch_again();
}

void ServerConnection::flush() {
    if (!socket_) return;
    std::size_t sent = 0;
    blocked_ = false;
    while (sent < out_.size() && !blocked_) {
        const ssize_t taken =
            ::send(socket_.get(), out_.data() + sent, out_.size() - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (taken >= 0)
            sent += static_cast<std::size_t>(taken);
        else if (errno == EAGAIN)
            blocked_ = true;
        else if (errno != EINTR)
            break;  // that shows at the next read
    }
    out_.erase(0, blocked_ ? sent : out_.size());
}

// An idle connection does not keep the loop running, nor does one whose output nobody wants now.
void ServerConnection::watch_again() {
    if (!watch_) return;
    const bool reading = !waiting_.empty() && !paused_;
    if (!reading && !blocked_) return watch_.stop();
    watch_.resume(!blocked_ ? Readiness::readable : reading ? Readiness::either : Readiness::writable);
}

void ServerConnection::take(std::string_view bytes) {
    while (!bytes.empty() && socket_) {
        if (raw_ > 0) {
            const std::string_view piece =
                bytes.substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(raw_, bytes.size())));
            bytes.remove_prefix(piece.size());
            raw_ -= piece.size();
            const auto owner = waiting_.find(owner_);
            if (owner == waiting_.end()) continue;
            // Held aside while it runs: it may leave.
            auto on_output = std::move(owner->second.on_output);
            on_output(stream_, piece);
            if (const auto still = waiting_.find(owner_); still != waiting_.end())
                still->second.on_output = std::move(on_output);
            continue;
        }
        const std::size_t end = bytes.find('\n');
        text_ += bytes.substr(0, end);
        if (end == std::string_view::npos) return;
        bytes.remove_prefix(end + 1);
        take_message(std::exchange(text_, {}));
    }
}

void ServerConnection::take_message(std::string_view line) {
    const auto message = Fields::parse(line);
    if (!message || !is_whole(*message)) return close(gone_away("it does not speak coalesce-protocol(7)"));
    const std::string event = message->text("event");
    const auto number = static_cast<std::uint64_t>(message->number("id"));
    if (event == "stdout" || event == "stderr") {
        stream_ = event == "stdout" ? Stream::out : Stream::err;
        raw_ = static_cast<std::uint64_t>(message->number("bytes"));
        owner_ = number;
    } else if (const auto error = Fields::parse(message->raw("error"))) {
        const auto why = refused(error->text("code"), error->text("message"));
        if (!message->has("id")) return close(why);  // it is about the connection
        closing_ = closing_ || error->text("code") == "shutting_down";
        end(number, {}, why);
    } else if (event == "exit") {
        end(number, answered_of(*message), nullptr);
    } else if (event == "forgotten") {
        end(number, {}, nullptr);
    }
}

void ServerConnection::end(std::uint64_t number, Answered answered, std::exception_ptr why) {
    auto waiter = waiting_.extract(number);
    if (!waiter.empty()) waiter.mapped().on_end(std::move(answered), std::move(why));
}

void ServerConnection::close(const std::exception_ptr& why) {
    const auto self = shared_from_this();
    closing_ = true;
    again_.stop();
    // Who only goes away leaves a run that is to be kept to its end (SPEC T8).
    for (const auto& waiting : waiting_) out_ += leave_line(waiting.first);
    flush();
    watch_.reset();
    socket_.reset();
    while (!waiting_.empty()) end(waiting_.begin()->first, {}, why);
}

}  // namespace coalesce
