#include <coalesce/service/server.h>

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <list>
#include <memory>
#include <unordered_map>
#include <utility>

// spdlog with Debian's own fmt, both header-only: no static archive of either exists.
#define SPDLOG_HEADER_ONLY
#define SPDLOG_FMT_EXTERNAL_HO
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <coalesce/command/duration.h>
#include <coalesce/io/loop.h>
#include <coalesce/service/descriptor_relay.h>
#include <coalesce/service/key_hash.h>
#include <coalesce/service/message.h>
#include <coalesce/service/resolved_request.h>
#include <coalesce/service/server_socket.h>
#include <coalesce/service/session.h>

namespace coalesce {
namespace {

using namespace std::chrono;

double seconds_since_epoch(system_clock::time_point time) { return duration<double>(time.time_since_epoch()).count(); }

struct Client;

// One request that waits on a flight.
struct Asked {
    Client* client = nullptr;
    std::string id;     // as JSON text
    std::string title;  // as it was asked for
    Request::Output output = Request::Output::whole;
    RunTicket ticket;
    CommandExecutor::Loan loan;
    std::optional<Timer> patience;
    std::optional<DescriptorRelay> relay;  // fd
    StreamRendering* stream = nullptr;     // stream: owned by the session
    std::list<Asked>::iterator place;      // in its client's list
    bool joined = false;
    std::shared_ptr<const RunResult> result;
    std::size_t requesters = 0;
};

struct Client {
    std::unique_ptr<Session> session;
    std::list<Asked> asked;
    uid_t uid = 0;
    pid_t pid = 0;
};

class Server {
  public:
    Server(ServerOptions options, ServerSocket socket, Surroundings own);
    int run();

  private:
    void accept_all();
    void receive(Descriptor connection, const ucred& peer);
    [[nodiscard]] bool admits(uid_t uid) const;
    void on_line(Client& client, std::string_view line, bool too_long);
    void on_gone(Client& client);

    void take(Client& client, Request request);
    void operate(Client& client, const Request& request);
    void admit(Client& client, Request& request, ResolvedRequest resolved);
    void follow(Asked& asked);
    void forget(FlightId id);
    void stop_awaiting_start(Asked& asked);
    void landed(Asked& asked, const Landing<RunResult>& landing);
    void end(Asked& asked);
    void refuse_landing(Asked& asked, const Landing<RunResult>& landing);
    void give_up(Asked& asked);
    void bury(Asked& asked);

    void leave(Client& client, const Request& request);
    void signal(Client& client, const Request& request);
    void cancel(Client& client, const Request& request);
    void tell_status(Client& client, const Request& request);
    void tell_stats(Client& client, const Request& request);
    [[nodiscard]] FlightRef asking_flight(const std::vector<std::string>& env) const;
    [[nodiscard]] Message message_to(const std::string& id) const;
    void refuse(Client& client, const std::string& id, std::string_view code, const std::string& why);
    void finish_if_served(Client& client);

    void stop(int number);
    void stop_if_idle();

    const ServerOptions options_;
    ServerSocket socket_;
    const std::shared_ptr<const Surroundings> surroundings_;
    SurroundingsTable interned_;
    spdlog::logger log_;

    Loop loop_;
    Watch listener_;
    CommandExecutor executor_;
    std::unordered_map<Client*, std::unique_ptr<Client>> clients_;
    std::unordered_map<FlightId, std::string> keys_;             // the hash of each live flight: its id for people
    std::unordered_map<std::string, FlightRef> flights_by_key_;  // for requests that a flight's command makes
    std::unordered_multimap<FlightId, Asked*> await_start_;      // those who follow live, until the run starts
    std::vector<std::unique_ptr<SignalWatch>> signals_;
    std::optional<Timer> drain_;
    std::optional<Timer> watchdog_;
    std::optional<Timer> accept_again_;
    std::uint64_t requests_ = 0;
    std::uint64_t joins_ = 0;
    nanoseconds saved_{0};
    std::size_t waiting_ = 0;
    bool stopping_ = false;
};

spdlog::logger make_log(const std::string& level) {
    spdlog::logger log("coalesce", std::make_shared<spdlog::sinks::stderr_sink_st>());
    // journald keeps its own time and takes the level from <N>.
    log.set_pattern(std::getenv("JOURNAL_STREAM") != nullptr ? "%v" : "%Y-%m-%dT%H:%M:%S.%e %l %v");
    log.set_level(spdlog::level::from_str(level));
    log.flush_on(spdlog::level::trace);
    return log;
}

Server::Server(ServerOptions options, ServerSocket socket, Surroundings own)
    : options_(std::move(options)),
      socket_(std::move(socket)),
      surroundings_(std::make_shared<const Surroundings>(std::move(own))),
      log_(make_log(options_.log_level)),
      executor_(loop_, options_.executor) {
    executor_.on_started([this](FlightId id) {
        std::vector<Asked*> waiting;
        const auto [first, last] = await_start_.equal_range(id);
        for (auto it = first; it != last; ++it) waiting.push_back(it->second);
        await_start_.erase(first, last);
        for (Asked* asked : waiting) follow(*asked);
    });
    executor_.on_landed([this](FlightId id) { forget(id); });
    for (const int number : {SIGTERM, SIGINT})
        signals_.push_back(std::make_unique<SignalWatch>(loop_, number, [this, number] { stop(number); }));
}

int Server::run() {
    auto watch = Watch::create(loop_, socket_.fd(), [this] { accept_all(); });
    if (!watch) {
        log_.critical("cannot {}", watch.error().message());
        return 125;
    }
    listener_ = std::move(*watch);
    listener_.start(Readiness::readable);
    if (const char* const text = std::getenv("WATCHDOG_USEC")) {
        const auto interval = duration_cast<milliseconds>(microseconds(std::atoll(text))) / 2;
        if (interval.count() > 0) {
            watchdog_.emplace(loop_);
            watchdog_->in_background();
            watchdog_->start(interval, interval, [] { notify_service_manager("WATCHDOG=1"); });
        }
    }
    log_.info("listening on {}", socket_.path());
    notify_service_manager("READY=1");
    loop_.run();
    clients_.clear();
    log_.info("ended");
    return 0;
}

void Server::accept_all() {
    while (true) {
        Descriptor connection(::accept4(socket_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (!connection) {
            if (errno != EMFILE && errno != ENFILE && errno != ENOMEM && errno != ENOBUFS) return;
            // Whoever waits in the socket's queue is served when something is free again.
            log_.warn("cannot accept a connection: {}", std::strerror(errno));
            listener_.stop();
            if (!accept_again_) accept_again_.emplace(loop_);
            accept_again_->start(milliseconds(100), [this] { listener_.start(Readiness::readable); });
            return;
        }
        ucred peer{};
        socklen_t length = sizeof peer;
        if (::getsockopt(connection.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0)
            receive(std::move(connection), peer);
    }
}

bool Server::admits(uid_t uid) const {
    return uid == ::geteuid() || uid == 0 ||
           std::find(options_.allowed_users.begin(), options_.allowed_users.end(), uid) != options_.allowed_users.end();
}

void Server::receive(Descriptor connection, const ucred& peer) {
    auto owned = std::make_unique<Client>();
    Client& client = *owned;
    clients_.emplace(&client, std::move(owned));
    client.uid = peer.uid;
    client.pid = peer.pid;
    client.session = std::make_unique<Session>(
        loop_, std::move(connection),
        Session::Events{[this, &client](std::string_view line, bool too_long) { on_line(client, line, too_long); },
                        [this, &client] { finish_if_served(client); }, [this, &client] { on_gone(client); }});
    if (admits(peer.uid)) return;
    log_.warn("uid {} (pid {}) was refused", peer.uid, peer.pid);
    refuse(client, {}, "not_allowed", "this server does not serve uid " + std::to_string(peer.uid));
    client.session->finish();
}

void Server::on_line(Client& client, std::string_view line, bool too_long) {
    if (!admits(client.uid)) return;
    if (too_long)
        return refuse(client, {}, "too_long", "a request is at most " + std::to_string(request_bytes_max >> 20) + " MiB long");
    if (line.empty()) {  // the oldest output message in fd mode is dealt with
        for (Asked& asked : client.asked)
            if (asked.relay && asked.relay->acknowledge()) return;
        return;
    }
    if (!line.starts_with('{')) {
        if (line.find_first_not_of(" \t\r") == std::string_view::npos) return;
        if (line.find('\0') != std::string_view::npos) return refuse(client, {}, "bad_request", "the line has a NUL byte");
        Request request;
        request.line = std::string(line);
        return take(client, std::move(request));
    }
    auto parsed = parse_request(line);
    if (const auto* error = std::get_if<RequestError>(&parsed))
        return refuse(client, error->id, error->code, error->message);
    auto& request = std::get<Request>(parsed);
    if (request.op.empty())
        take(client, std::move(request));
    else
        operate(client, request);
}

void Server::take(Client& client, Request request) {
    ++requests_;
    if (stopping_) return refuse(client, request.id, "shutting_down", "the server is about to end");
    if (waiting_ >= options_.requesters_max)
        return refuse(client, request.id, "too_many_requesters",
                      std::to_string(options_.requesters_max) + " requesters wait already");
    const Job defaults{.grace = options_.grace};
    KeyRules rules;
    rules.user = client.uid;
    ResolvedRequest resolved = resolve(request, surroundings_, std::move(rules), options_.executor.shell, defaults);
    admit(client, request, std::move(resolved));
}

void Server::admit(Client& client, Request& request, ResolvedRequest resolved) {
    const auto canonical = interned_.intern(std::move(resolved.canonical_surroundings));
    const RequestKey key{canonical, resolved.canonical_words};
    if (executor_.counts().queued >= options_.queue_max && executor_.flights().find_state(KeyView(key)) == nullptr)
        return refuse(client, request.id, "queue_full", std::to_string(options_.queue_max) + " flights wait already");

    Asked& asked = client.asked.emplace_back();
    asked.client = &client;
    asked.place = std::prev(client.asked.end());
    asked.id = std::move(request.id);
    asked.title = resolved.job.title;
    asked.output = request.output;
    const FlightRef asking = asking_flight(resolved.job.command.surroundings->env);
    const std::string hash = key_hash(key);
    asked.ticket = executor_.submit(
        key,
        [job = std::move(resolved.job), hash]() mutable {
            auto own = std::make_shared<Surroundings>(*job.command.surroundings);
            const std::string above(env_value(own->env, kAncestryVariable).value_or(""));
            set_env(own->env, kAncestryVariable, above.empty() ? hash : above + ":" + hash);
            job.command.surroundings = std::move(own);
            return std::move(job);
        },
        {.fresh = request.fresh, .on_behalf_of = asking});
    asked.joined = !asked.ticket.leader();
    if (asked.joined) ++joins_;
    if (asking && !asked.ticket.landed()) asked.loan = executor_.lend_place_of(asking.id());
    if (!asked.joined) {
        keys_[asked.ticket.id()] = hash;
        flights_by_key_[hash] = asked.ticket.ref();
        log_.debug("flight {} of {} (pid {}): {}", hash.substr(0, 12), client.uid, client.pid, asked.title);
    }
    ++waiting_;
    if (request.wait) {
        asked.patience.emplace(loop_);
        asked.patience->start(*request.wait, [this, &asked] { give_up(asked); });
    }
    asked.ticket.then([this, &asked](const Landing<RunResult>& landing) { landed(asked, landing); });
    if (asked.output == Request::Output::whole || asked.output == Request::Output::none || asked.ticket.landed()) return;
    if (asked.ticket.state().spool)
        follow(asked);
    else
        await_start_.emplace(asked.ticket.id(), &asked);
}

// Called before the requesters are told, and also when there are none.
void Server::forget(FlightId id) {
    if (const auto found = keys_.find(id); found != keys_.end()) {
        const auto by_key = flights_by_key_.find(found->second);
        if (by_key != flights_by_key_.end() && by_key->second.id() == id) flights_by_key_.erase(by_key);
        keys_.erase(found);
    }
    stop_if_idle();
}

void Server::stop_awaiting_start(Asked& asked) {
    if (!asked.ticket) return;
    const auto [first, last] = await_start_.equal_range(asked.ticket.id());
    for (auto it = first; it != last; ++it)
        if (it->second == &asked) return void(await_start_.erase(it));
}

// The server's flight whose command makes this request, if its ancestry names one.
FlightRef Server::asking_flight(const std::vector<std::string>& env) const {
    std::string_view ancestry = env_value(env, kAncestryVariable).value_or("");
    while (!ancestry.empty()) {
        const std::size_t colon = ancestry.rfind(':');
        const std::string nearest(ancestry.substr(colon == std::string_view::npos ? 0 : colon + 1));
        if (const auto found = flights_by_key_.find(nearest); found != flights_by_key_.end() && !found->second.landed())
            return found->second;
        ancestry = colon == std::string_view::npos ? std::string_view() : ancestry.substr(0, colon);
    }
    return {};
}

Message Server::message_to(const std::string& id) const {
    Message message;
    if (!id.empty()) message.raw("id", id);
    return message;
}

void Server::follow(Asked& asked) {
    const Run& run = asked.ticket.state();
    Session& session = *asked.client->session;
    session.send(message_to(asked.id)
                     .text("event", "started")
                     .flag("joined", asked.joined)
                     .number("pid", run.pid)
                     .seconds("started", seconds_since_epoch(run.started))
                     .line());
    if (asked.output == Request::Output::stream) {
        auto rendering = std::make_unique<StreamRendering>(run.spool, asked.id, [&session] { session.wake(); });
        asked.stream = rendering.get();
        return session.send(std::move(rendering));
    }
    if (!run.spool->move_to_file()) {
        refuse(*asked.client, asked.id, "no_space", "cannot put the output into a file to hand over");
        --waiting_;
        asked.ticket = {};
        return bury(asked);
    }
    asked.relay.emplace(loop_, session, run.spool, asked.id, [this, &asked] {
        if (asked.result) end(asked);  // else the landing is on its way
    });
    asked.relay->pump();
}

void Server::landed(Asked& asked, const Landing<RunResult>& landing) {
    --waiting_;
    asked.patience.reset();
    asked.loan = {};
    if (!landing.value) return refuse_landing(asked, landing);
    asked.result = landing.value;
    asked.requesters = landing.requesters;
    if (asked.joined) saved_ += landing.value->duration;
    if (asked.relay && !asked.relay->finished()) return;
    end(asked);
}

void Server::refuse_landing(Asked& asked, const Landing<RunResult>& landing) {
    try {
        std::rethrow_exception(landing.error);
    } catch (const std::system_error& error) {
        const bool deadlock = error.code() == std::errc::resource_deadlock_would_occur;
        refuse(*asked.client, asked.id, deadlock ? "would_wait_for_itself" : "cancelled",
               deadlock ? asked.title + " would wait for itself" : "the request was cancelled");
    } catch (const std::exception& error) {
        refuse(*asked.client, asked.id, "lost", error.what());
    }
    bury(asked);
}

void Server::end(Asked& asked) {
    const RunResult& result = *asked.result;
    Session& session = *asked.client->session;
    if (asked.output == Request::Output::stream || asked.output == Request::Output::fd) {
        Message message = message_to(asked.id).text("event", "exit");
        if (result.outcome.kind == Outcome::Kind::signalled)
            message.number("signal", result.outcome.code);
        else
            message.number("exit", result.outcome.status());
        const std::string words = last_words(result.outcome, asked.title);
        if (!words.empty()) message.text("message", words);
        message.flag("joined", asked.joined)
            .number("requesters", static_cast<std::int64_t>(asked.requesters))
            .seconds("duration", duration<double>(result.duration).count());
        if (asked.stream != nullptr) {
            asked.stream->end(message.line());
            session.wake();
        } else {
            session.send(message.line());
        }
    } else if (result.spool && !result.spool->whole()) {
        refuse(*asked.client, asked.id, "too_long", "the output is longer than the replay limit; ask for a stream");
    } else {
        session.send(render(Format::json, asked.result,
                            Delivered{.id = asked.id,
                                      .command = asked.title,
                                      .joined = asked.joined,
                                      .requesters = asked.requesters,
                                      .with_output = asked.output == Request::Output::whole}));
    }
    bury(asked);
}

void Server::give_up(Asked& asked) {
    --waiting_;
    refuse(*asked.client, asked.id, "gave_up", "gave up waiting for " + asked.title);
    stop_awaiting_start(asked);
    asked.ticket = {};
    bury(asked);
}

// Whoever is over may still be on the stack.
void Server::bury(Asked& asked) {
    loop_.post([this, client = asked.client, place = asked.place] {
        if (!clients_.contains(client)) return;
        client->asked.erase(place);
        finish_if_served(*client);
    });
}

// A half-closed connection is closed when it has had its answers.
void Server::finish_if_served(Client& client) {
    if (client.session->gone() || !client.session->input_ended() || !client.asked.empty()) return;
    client.session->finish();
}

void Server::on_gone(Client& client) {
    for (Asked& asked : client.asked) {
        if (asked.ticket && !asked.result) --waiting_;
        stop_awaiting_start(asked);
        asked.ticket = {};
    }
    loop_.post([this, &client] { clients_.erase(&client); });
}

void Server::refuse(Client& client, const std::string& id, std::string_view code, const std::string& why) {
    const std::string error = Message().text("code", code).text("message", why).line();
    client.session->send(message_to(id).raw("error", std::string_view(error).substr(0, error.size() - 1)).line());
}

void Server::operate(Client& client, const Request& request) {
    if (request.op == "ping")
        client.session->send(message_to(request.id).number("protocol", protocol_version).line());
    else if (request.op == "status")
        tell_status(client, request);
    else if (request.op == "stats")
        tell_stats(client, request);
    else if (request.op == "cancel")
        cancel(client, request);
    else if (request.op == "leave")
        leave(client, request);
    else if (request.op == "signal")
        signal(client, request);
    else
        refuse(client, request.id, "unknown_op",
               "\"op\" must be ping, status, stats, cancel, leave or signal, not \"" + request.op + "\"");
}

void Server::tell_status(Client& client, const Request& request) {
    std::string flights;
    executor_.flights().for_each([&](const Key&, const auto& view) {
        const Run& run = view.state;
        const char* const state = run.phase == Run::Phase::running  ? "running"
                                  : run.phase == Run::Phase::ending ? "ending"
                                                                    : "queued";
        const auto key = keys_.find(view.id);
        const std::string line =
            Message()
                .text("id", key == keys_.end() ? std::to_string(view.id) : key->second)
                .text("state", state)
                .seconds("started", seconds_since_epoch(run.started))
                .number("requesters", static_cast<std::int64_t>(view.waiters))
                .number("output", run.spool ? static_cast<std::int64_t>(run.spool->size()) : 0)
                .number("pid", run.pid)
                .number("supervisor", ::getpid())
                .text("command", run.title)
                .line();
        if (!flights.empty()) flights += ',';
        flights += std::string_view(line).substr(0, line.size() - 1);
    });
    client.session->send(message_to(request.id).raw("flights", "[" + flights + "]").line());
}

void Server::tell_stats(Client& client, const Request& request) {
    const auto counts = executor_.counts();
    client.session->send(message_to(request.id)
                             .number("requests", static_cast<std::int64_t>(requests_))
                             .number("joins", static_cast<std::int64_t>(joins_))
                             .number("runs", static_cast<std::int64_t>(counts.runs))
                             .number("running", static_cast<std::int64_t>(counts.running))
                             .number("queued", static_cast<std::int64_t>(counts.queued))
                             .number("waiting", static_cast<std::int64_t>(waiting_))
                             .number("clients", static_cast<std::int64_t>(clients_.size()))
                             .seconds("saved", duration<double>(saved_).count())
                             .line());
}

void Server::cancel(Client& client, const Request& request) {
    std::vector<FlightId> found;
    for (const auto& [id, key] : keys_)
        if (!request.flight.empty() && key.starts_with(request.flight)) found.push_back(id);
    if (found.size() != 1)
        return refuse(client, request.id, found.empty() ? "no_such_flight" : "ambiguous",
                      (found.empty() ? "there is no flight " : "more than one flight begins with ") + request.flight);
    log_.info("flight {} cancelled by uid {} (pid {})", request.flight, client.uid, client.pid);
    executor_.cancel(found.front(), options_.grace);
    client.session->send(message_to(request.id).text("event", "cancelled").line());
}

// The client's own request of that id stops waiting; its answer says so.
void Server::leave(Client& client, const Request& request) {
    for (Asked& asked : client.asked) {
        if (asked.id != request.id || !asked.ticket || asked.result) continue;
        --waiting_;
        stop_awaiting_start(asked);
        asked.ticket = {};
        client.session->send(message_to(request.id).text("event", "left").line());
        return bury(asked);
    }
    refuse(client, request.id, "no_such_request", "no request of this id is waiting");
}

void Server::signal(Client& client, const Request& request) {
    for (Asked& asked : client.asked) {
        if (asked.id != request.id || !asked.ticket || asked.result) continue;
        std::size_t waiters = 0;
        executor_.flights().for_each([&](const Key&, const auto& view) {
            if (view.id == asked.ticket.id()) waiters = view.waiters;
        });
        if (waiters > 1 || asked.ticket.state().pid <= 0)
            client.session->send(message_to(request.id).text("event", "left").line());
        else
            executor_.signal(asked.ticket.id(), request.signal);
        return;
    }
    refuse(client, request.id, "no_such_request", "no request of this id is waiting");
}

// Running flights finish; what has not started never will.
void Server::stop(int number) {
    if (std::exchange(stopping_, true)) return executor_.cancel_all(options_.grace);
    log_.info("{}: running flights have {} to finish", number == SIGTERM ? "SIGTERM" : "SIGINT",
              format_duration(options_.drain));
    notify_service_manager("STOPPING=1");
    listener_.reset();
    socket_.close();
    executor_.cancel_queued();
    drain_.emplace(loop_);
    drain_->start(options_.drain, [this] {
        log_.warn("flights still run; they are ended");
        executor_.cancel_all(options_.grace);
    });
    stop_if_idle();
}

void Server::stop_if_idle() {
    if (!stopping_ || !executor_.flights().empty()) return;
    drain_.reset();
    accept_again_.reset();
    loop_.post([this] {  // after the landings that are being delivered
        for (const auto& [client, owned] : clients_) client->session->finish();
    });
}

}  // namespace

Result<int> serve(ServerOptions options) {
    auto own = own_surroundings();
    if (!own) return own.error();
    auto socket = ServerSocket::open(options.socket);
    if (!socket) return socket.error();
    Server server(std::move(options), std::move(*socket), std::move(*own));
    return server.run();
}

}  // namespace coalesce
