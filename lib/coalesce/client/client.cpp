// SPDX-License-Identifier: MIT
#include <coalesce/client/client.h>

#include <unistd.h>

#include <filesystem>
#include <optional>
#include <system_error>
#include <vector>

#include <coalesce/client/server_connection.h>
#include <coalesce/client/server_place.h>

namespace coalesce {
namespace {

constexpr const char* ancestry = "COALESCE_ANCESTRY=";

// As a child would have them. The ancestry goes with any environment, so that who would
// wait for itself is told. Where this process has no directory any more none is told, and the command would run in the
// server's.
void add_own_surroundings(Request& request) {
    if (!request.cwd || !request.cwd->starts_with('/')) {
        std::error_code none;
        const auto here = std::filesystem::current_path(none);
        if (none) throw std::system_error(none, "read the current directory");
        request.cwd = request.cwd ? (here / *request.cwd).string() : here.string();
    }
    const bool own = !request.env && request.env_changes.empty();
    if (own) request.env.emplace();
    for (char** entry = environ; *entry != nullptr; ++entry) {
        const std::string_view text(*entry);
        if (own || (request.env && text.starts_with(ancestry))) request.env->emplace_back(text);
    }
}

// What a run has written until its end.
struct Collected {
    Completer<Answered> completer;
    std::string out;
    std::string err;
};

}  // namespace

class Client::Impl {
  public:
    Impl(Loop& loop, std::string path) : loop_(loop), path_(std::move(path)), asked_(loop), forgetting_(loop) {}
    ~Impl();

    Ticket<Answered> run(Request request);
    Ticket<void> forget(Request request);
    std::unique_ptr<AnswerStream> stream(Request request, AnswerStream::Events events);

  private:
    class OwnStream;
    std::shared_ptr<ServerConnection> connect();
    template <class T>
    void ask(Request request, Completer<T>& completer, ServerConnection::Waiter waiter);

    Loop& loop_;
    const std::string path_;
    // No key twice: the server, not these tables, decides what is the same.
    Group<std::uint64_t, Answered> asked_;
    Group<std::uint64_t, void> forgetting_;
    std::uint64_t last_key_ = 0;
    std::shared_ptr<ServerConnection> connection_;
    std::vector<std::weak_ptr<ServerConnection>> earlier_;  // that may still bring answers
};

Client::Impl::~Impl() {
    if (connection_) earlier_.push_back(connection_);
    for (const auto& one : earlier_)
        if (const auto connection = one.lock())
            connection->close(std::make_exception_ptr(RequestRefused("disconnected", "the client was closed")));
}

std::shared_ptr<ServerConnection> Client::Impl::connect() {
    auto connection = std::make_shared<ServerConnection>(loop_, path_.empty() ? server_place() : path_);
    connection->connect();
    return connection;
}

Ticket<Answered> Client::Impl::run(Request request) {
    return asked_.join(++last_key_, [&](Completer<Answered> completer) {
        const auto collected = std::make_shared<Collected>(Collected{std::move(completer), {}, {}});
        ask(std::move(request), collected->completer,
            {.on_output =
                 [collected](Stream stream, std::string_view bytes) {
                     (stream == Stream::out ? collected->out : collected->err) += bytes;
                 },
             .on_end =
                 [collected](Answered answered, std::exception_ptr why) {
                     if (why) return collected->completer.error(std::move(why));
                     answered.out = std::move(collected->out);
                     answered.err = std::move(collected->err);
                     collected->completer.value(std::move(answered));
                 }});
    });
}

Ticket<void> Client::Impl::forget(Request request) {
    request.op = "forget";
    return forgetting_.join(++last_key_, [&](Completer<void> completer) {
        const auto told = std::make_shared<Completer<void>>(std::move(completer));
        ask(std::move(request), *told,
            {.on_output = [](Stream, std::string_view) {},
             .on_end = [told](const Answered&,
                              std::exception_ptr why) { why ? told->error(std::move(why)) : told->value(); }});
    });
}

// On the connection that all share. The completer is the waiter's.
template <class T>
void Client::Impl::ask(Request request, Completer<T>& completer, ServerConnection::Waiter waiter) {
    std::uint64_t number = 0;
    try {
        add_own_surroundings(request);
        if (!connection_ || !connection_->usable()) {
            std::erase_if(earlier_, [](const auto& one) { return one.expired(); });
            if (connection_) earlier_.push_back(connection_);
            connection_ = connect();
        }
        number = connection_->send(std::move(request), std::move(waiter));
    } catch (const std::runtime_error&) {  // refused, or without a directory
        return completer.error(std::current_exception());
    }
    // Posted: to leave drops the completer, which is on the stack here.
    completer.on_cancel([&loop = loop_, number, connection = connection_] {
        loop.post([number, connection] { connection->leave(number); });
    });
}

class Client::Impl::OwnStream final : public AnswerStream {
  public:
    OwnStream(std::shared_ptr<ServerConnection> connection, Request request, Events events)
        : connection_(std::move(connection)) {
        const auto shared = std::make_shared<Events>(std::move(events));
        number_ = connection_->send(
            std::move(request),
            {.on_output = [shared](Stream stream, std::string_view bytes) { shared->on_output(stream, bytes); },
             .on_end =
                 [shared](Answered answered, std::exception_ptr why) {
                     Landing<Answered> landing;
                     landing.requesters = answered.requesters;
                     if (why)
                         landing.error = std::move(why);
                     else
                         landing.value = std::make_shared<const Answered>(std::move(answered));
                     shared->on_end(landing);
                 }});
    }
    ~OwnStream() override {
        connection_->leave(number_);
        connection_->close(nullptr);
    }
    void pause() override { connection_->pause(); }
    void resume() override { connection_->resume(); }

  private:
    std::shared_ptr<ServerConnection> connection_;
    std::uint64_t number_ = 0;
};

std::unique_ptr<AnswerStream> Client::Impl::stream(Request request, AnswerStream::Events events) {
    add_own_surroundings(request);
    return std::make_unique<OwnStream>(connect(), std::move(request), std::move(events));
}

Client::Client(Loop& loop, std::string path) : impl_(std::make_unique<Impl>(loop, std::move(path))) {}
Client::~Client() = default;

Ticket<Answered> Client::run(Request request) { return impl_->run(std::move(request)); }

Ticket<void> Client::forget(Request request) { return impl_->forget(std::move(request)); }

std::unique_ptr<AnswerStream> Client::stream(Request request, AnswerStream::Events events) {
    return impl_->stream(std::move(request), std::move(events));
}

}  // namespace coalesce
