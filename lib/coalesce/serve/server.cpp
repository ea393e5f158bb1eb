// SPDX-License-Identifier: MIT
#include <coalesce/serve/server.h>

#include <malloc.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <memory>
#include <utility>

#include <coalesce/command/duration.h>
#include <coalesce/command/insistence.h>
#include <coalesce/command/text.h>
#include <coalesce/io/guard.h>
#include <coalesce/io/loop.h>
#include <coalesce/io/reaper.h>
#include <coalesce/kept/remembered_times.h>
#include <coalesce/protocol/answer.h>
#include <coalesce/reception/entrance.h>
#include <coalesce/reception/operations.h>
#include <coalesce/serve/flight_watchers.h>
#include <coalesce/serve/log.h>
#include <coalesce/serve/peer.h>
#include <coalesce/serve/request_desk.h>
#include <coalesce/serve/run_statistics.h>
#include <coalesce/serve/server_socket.h>
#include <coalesce/serve/service_manager.h>

namespace coalesce {
namespace {

using namespace std::chrono;

constexpr int ending_signals[] = {SIGTERM, SIGINT, SIGHUP};
constexpr std::size_t refused_users_max = 16;  // at a time: each stays for a moment

Peer& peer_of(Client& client) { return static_cast<Peer&>(client); }

// What is told to whom there is no room for.
void tell_and_close(Descriptor connection, const std::string& why) {
    const std::string line = error_line({}, "too_many_files", why);
    (void)::send(connection.get(), line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    // With a request unread it would be reset, which hides the answer from some clients.
    char unread[4096];
    for (int i = 0; i < 16 && ::recv(connection.get(), unread, sizeof unread, MSG_DONTWAIT) > 0;) ++i;
}

class Server {
  public:
    Server(ServerOptions options, ServerSocket socket, Surroundings own, StorePlace store);
    int run();

  private:
    void receive(Descriptor connection, const ucred& credentials);
    void turn_away(Descriptor connection, int error);
    [[nodiscard]] CommandExecutor::Options executor_options() const;
    void log_end(const RunResult& result);
    [[nodiscard]] bool admits(uid_t uid) const;
    void on_line(Peer& peer, std::string_view line, bool too_long);
    void on_command(Peer& peer, std::string_view line);
    void on_request(Peer& peer, std::string_view line);
    void operate(Peer& peer, const Request& request);
    void cancel(Peer& peer, const Request& request);
    void leave(Peer& peer, const Request& request);
    void tell_stats(Peer& peer, const std::string& id);
    void finish_if_told(Client& client);

    void stop(int number);
    void stop_if_idle();
    void end_drain();

    const ServerOptions options_;
    const uid_t own_uid_ = ::geteuid();
    ServerSocket socket_;
    Log log_;

    Loop loop_;
    RememberedTimes times_{loop_};
    const std::unique_ptr<Cluster> cluster_;  // null: nothing is shared with other machines
    CommandExecutor executor_;
    Guard::Watched guarded_;
    Reception reception_;
    FlightWatchers watchers_{reception_};
    RequestDesk desk_;
    Reaper orphans_;
    Entrance entrance_;
    ServiceManager service_manager_{loop_};
    std::vector<std::unique_ptr<SignalWatch>> signals_;
    std::optional<Timer> drain_;
    std::size_t refused_users_ = 0;
    Repeated refusals_;
    Repeated http_requests_;
    std::uint64_t refused_connections_ = 0;  // since that was logged
    RunStatistics statistics_;
    bool stopping_ = false;
    bool ending_ = false;
    Insistence insistence_;
};

Server::Server(ServerOptions options, ServerSocket socket, Surroundings own, StorePlace store)
    : options_(std::move(options)),
      socket_(std::move(socket)),
      log_(options_.log_level),
      cluster_(options_.circle ? std::make_unique<Cluster>(loop_, *options_.circle, *options_.executor.guard,
                                                           options_.circle->access.url.lease)
                               : nullptr),
      executor_(loop_, executor_options()),
      guarded_(loop_, *options_.executor.guard),
      reception_(loop_, executor_, {.stall = options_.stall},
                 {.on_line = [this](Client& client, std::string_view line,
                                    bool too_long) { on_line(peer_of(client), line, too_long); },
                  .on_served = [this](Client& client) { finish_if_told(client); },
                  .on_gone =
                      [this](Client& client) {
                          if (peer_of(client).refused) --refused_users_;
                          watchers_.remove(client);
                          desk_.go_on_for_the_store();
                      },
                  .on_started =
                      [this](LiveFlight& flight) {
                          if (flight.run->pid > 0) desk_.began(flight);  // nothing asks from a run elsewhere
                          watchers_.started(flight);
                      },
                  .on_over =
                      [this](FlightId id) {
                          if (const LiveFlight* const flight = reception_.find(id)) desk_.over(*flight);
                          stop_if_idle();
                      },
                  .on_dropped =
                      [this](LiveFlight& flight) {
                          log_.info("a requester of flight {} is dropped, since it reads nothing and others wait",
                                    short_name(reception_.name_of(flight)));
                      }}),
      desk_(options_,
            {.loop = loop_,
             .executor = executor_,
             .reception = reception_,
             .watchers = watchers_,
             .log = log_,
             .cluster = cluster_.get()},
            std::move(own), std::move(store)),
      orphans_(loop_, [this](pid_t pid) { return executor_.is_own(pid) || desk_.kept().is_own(pid); }),
      entrance_(
          loop_,
          {.has_room = [this] { return reception_.clients().size() - refused_users_ < options_.clients_max; },
           .on_arrival = [this](Descriptor connection, const ucred& peer) { receive(std::move(connection), peer); },
           .turn_away = [this](Descriptor connection, int error) { turn_away(std::move(connection), error); }}) {
    if (options_.remembers) executor_.remember_in(times_);
    executor_.on_over([this](FlightId, const std::shared_ptr<const RunResult>& result) { log_end(*result); });
    if (cluster_)
        cluster_->on_notice([this](FlightId id, const std::string& sentence) {
            LiveFlight* const flight = reception_.find(id);
            log_.warn("flight {}: {}", flight == nullptr ? "(new)" : short_name(reception_.name_of(*flight)), sentence);
            reception_.notice(id, sentence);
        });
    for (const int number : ending_signals) {
        struct sigaction action {};
        if (::sigaction(number, nullptr, &action) == 0 && action.sa_handler == SIG_IGN) continue;  // nohup
        signals_.push_back(std::make_unique<SignalWatch>(loop_, number, [this, number] { stop(number); }));
    }
}

CommandExecutor::Options Server::executor_options() const {
    CommandExecutor::Options options = options_.executor;
    options.sharing = cluster_.get();
    return options;
}

int Server::run() {
    for (const Descriptor& listener : socket_.listeners())
        if (auto open = entrance_.open(listener.get()); !open) {
            log_.critical("cannot {}", open.error().message());
            return 125;
        }
    log_.info("listening on {}", socket_.path());
    service_manager_.ready();
    loop_.run();
    log_.info("ended");
    return 0;
}

void Server::turn_away(Descriptor connection, int error) {
    if (refused_connections_++ == 0) {
        if (error != 0)
            log_.warn("cannot accept connections: {}", std::strerror(error));
        else
            log_.warn("there are {} connections: more are refused", options_.clients_max);
    }
    if (connection)
        tell_and_close(std::move(connection), error != 0
                                                  ? "the server has no descriptor left for a connection"
                                                  : "the server has as many connections as it has descriptors for");
}

bool Server::admits(uid_t uid) const {
    return uid == own_uid_ || uid == 0 ||
           std::find(options_.allowed_users.begin(), options_.allowed_users.end(), uid) != options_.allowed_users.end();
}

void Server::receive(Descriptor connection, const ucred& credentials) {
    if (refused_connections_ > 0)
        log_.info("connections are accepted again, {} were refused", std::exchange(refused_connections_, 0));
    auto owned = std::make_unique<Peer>(credentials.uid, credentials.pid);
    Peer& peer = *owned;
    reception_.receive(std::move(owned), std::move(connection));
    if (admits(peer.uid)) return;
    if (refusals_.worth_a_line()) log_.warn("uid {} (pid {}) was refused{}", peer.uid, peer.pid, refusals_.so_far());
    reception_.refuse(peer, {}, "not_allowed", "this server does not serve uid " + std::to_string(peer.uid));
    ++refused_users_;
    peer.refused.emplace(loop_);
    if (refused_users_ > refused_users_max) return peer.session->finish();
    // Closed with a request unread, the connection would be reset and the answer lost.
    constexpr seconds to_ask_in_vain{1};
    peer.refused->start(to_ask_in_vain, [&peer] { peer.session->finish(); });
}

void Server::on_line(Peer& peer, std::string_view line, bool too_long) {
    if (peer.refused) return peer.session->finish();
    if (too_long) return refuse_too_long(reception_, peer);
    if (line.empty()) return peer.pace.acknowledge();
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) return;
    switch (peer.dialect.hear(line)) {
        case Dialect::Line::request:
            return on_request(peer, line);
        case Dialect::Line::command:
            return on_command(peer, line);
        case Dialect::Line::foreign:
            return reception_.refuse(peer, {}, "bad_json",
                                     line.starts_with('{')
                                         ? "this connection takes command lines, as its first line was one"
                                         : "this connection takes JSON objects, one a line, as its first line was one");
        case Dialect::Line::http:
            if (http_requests_.worth_a_line())
                log_.warn("uid {} (pid {}) sent an HTTP request; the connection is closed{}", peer.uid, peer.pid,
                          http_requests_.so_far());
            reception_.refuse(peer, {}, "bad_request", "this is not an HTTP server");
            return peer.session->finish();
    }
}

void Server::on_command(Peer& peer, std::string_view line) {
    if (line.find('\0') != std::string_view::npos)
        return reception_.refuse(peer, {}, "bad_request", "the line has a NUL byte");
    Request request;
    request.line = std::string(line);
    desk_.take(peer, request);
}

void Server::on_request(Peer& peer, std::string_view line) {
    auto parsed = parse_request(line);
    if (const auto* error = std::get_if<RequestError>(&parsed))
        return reception_.refuse(peer, error->id, error->code, error->message);
    auto& request = std::get<Request>(parsed);
    if (request.op.empty())
        desk_.take(peer, request);
    else
        operate(peer, request);
}

// One line for each run, whatever became of it (SPEC S10).
void Server::log_end(const RunResult& result) {
    if (result.run == 0) return log_.debug("answered without a run: {}", for_the_log(result.title));
    LiveFlight* const flight = reception_.find(result.run);
    log_.info("flight {} ended{} after {}, for {}: {}: {}",
              flight == nullptr ? std::string_view("(new)") : short_name(reception_.name_of(*flight)),
              result.host.empty() ? std::string() : " on " + visible(result.host), format_duration(result.duration),
              flight == nullptr ? 1 : flight->waiting, visible(result.outcome.describe()), for_the_log(result.title));
    statistics_.add(result, reception_.joiners_of(result.run));
    if (flight != nullptr) watchers_.ended(*flight, result);
}

// A half-closed connection is closed when it has had its answers; when the server
// is about to end, so is any other.
void Server::finish_if_told(Client& client) {
    if ((client.session->input_ended() && !watchers_.watches(client)) || (stopping_ && executor_.flights().empty()))
        client.session->finish();
}

void Server::operate(Peer& peer, const Request& request) {
    if (request.op == "ping")
        peer.session->send(message_to(request.id).number("protocol", protocol_version).line());
    else if (request.op == "status")
        tell_status(reception_, peer, request.id);
    else if (request.op == "stats")
        tell_stats(peer, request.id);
    else if (request.op == "watch")
        watchers_.add(peer, request.id);
    else if (request.op == "cancel")
        cancel(peer, request);
    else if (request.op == "leave")
        leave(peer, request);
    else if (request.op == "signal")
        signal_request(reception_, peer, request.id, request.signal);
    else if (request.op == "forget")
        desk_.forget(peer, request);
    else
        reception_.refuse(
            peer, request.id, "unknown_op",
            "\"op\" must be ping, status, stats, watch, cancel, leave, signal or forget, not \"" + request.op + "\"");
}

void Server::cancel(Peer& peer, const Request& request) {
    const std::string name = cancel_flight(reception_, peer, request.id, request.flight);
    if (!name.empty()) log_.info("flight {} cancelled by uid {} (pid {})", short_name(name), peer.uid, peer.pid);
}

// A watch is left as a request is; whoever asked for one under the id of a request leaves that first.
void Server::leave(Peer& peer, const Request& request) {
    if (peer.request_of(request.id) != nullptr || !watchers_.remove(peer, request.id))
        return leave_request(reception_, peer, request.id);
    peer.session->send(message_to(request.id).text("event", "left").line());
    reception_.look_for_served();
}

void Server::tell_stats(Peer& peer, const std::string& id) {
    const auto counts = executor_.counts();
    Message message = message_to(id);
    message.number("requests", static_cast<std::int64_t>(desk_.requests()))
        .number("joins", static_cast<std::int64_t>(desk_.joins()))
        .number("runs", static_cast<std::int64_t>(counts.runs))
        .number("running", static_cast<std::int64_t>(counts.running))
        .number("queued", static_cast<std::int64_t>(counts.queued))
        .number("waiting", static_cast<std::int64_t>(reception_.waiting()))
        .number("clients", static_cast<std::int64_t>(reception_.clients().size()));
    statistics_.tell(message);
    message.number("hits", static_cast<std::int64_t>(desk_.kept().hits().joins))
        .number("refreshes", static_cast<std::int64_t>(desk_.kept().refreshes()))
        .seconds("spared", desk_.kept().hits().time);
    peer.session->send(message.line());
}

// Running flights finish; what has not started never will.
void Server::stop(int number) {
    switch (insistence_.told(number)) {
        case Insistence::Is::echo:
            return;
        case Insistence::Is::second:
            return end_drain();
        case Insistence::Is::first:
            break;
    }
    stopping_ = true;
    desk_.close();
    log_.info("{}: running flights have {} to finish", signal_name(number), format_duration(options_.drain));
    service_manager_.stopping();
    // Those who have connected already are answered.
    socket_.unlink();
    entrance_.close();
    socket_.close();
    executor_.start_no_more();
    drain_.emplace(loop_);
    drain_->in_background();  // whatever ends first, the loop does not wait for it
    drain_->start(options_.drain, [this] { end_drain(); });
    stop_if_idle();
}

void Server::stop_if_idle() {
    if (!stopping_) return;
    loop_.post([this] {
        executor_.cancel_queued();
        if (!executor_.flights().empty()) return;
        // Closed with a request unread, a connection would be reset, and nobody told why.
        reception_.hear_all();
        reception_.look_for_served();
    });
}

// Who has not read its answers by then is not waited for.
void Server::end_drain() {
    constexpr seconds to_read_the_end{1};
    if (executor_.flights().empty()) return reception_.drop_clients();
    if (std::exchange(ending_, true)) return;  // told again, it puts nothing off
    log_.warn("flights still run; they are ended");
    executor_.cancel_all(options_.grace);
    drain_->start(options_.grace + to_read_the_end, [this] { reception_.drop_clients(); });
}

// Runs get half of the descriptors and connections the other half, so that neither takes
// what those inside need to be served (SPEC F14, S9). Where they are few, fewer commands
// run at a time.
void share_out_descriptors(ServerOptions& options) {
    constexpr std::uint64_t for_ourselves = 24;  // and for what a start needs for a moment
    constexpr std::uint64_t of_a_run = 8;        // pipes, pidfd, input, two files of output, one handed over
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur = 1024;
    const std::uint64_t to_share = limit.rlim_cur > for_ourselves ? limit.rlim_cur - for_ourselves : 0;
    const std::uint64_t runs = std::max<std::uint64_t>(to_share / 2 / of_a_run, 1);
    const std::uint64_t connections = to_share - std::min(to_share, std::max(to_share / 2, of_a_run));
    options.clients_max = static_cast<std::size_t>(std::max<std::uint64_t>(connections, 1));
    if (options.executor.jobs == 0 || options.executor.jobs > runs)
        options.executor.jobs = static_cast<unsigned>(std::min<std::uint64_t>(runs, 1u << 30));
}

}  // namespace

Result<int> serve(ServerOptions options) {
    auto own = own_surroundings();
    if (!own) return own.error();
    own->identity = own_identity();
    // What the service manager tells us is not for the commands.
    std::erase_if(own->env, [](const std::string& entry) {
        static constexpr std::string_view ours[] = {"LISTEN_PID",   "LISTEN_FDS",    "LISTEN_FDNAMES", "NOTIFY_SOCKET",
                                                    "WATCHDOG_PID", "WATCHDOG_USEC", "JOURNAL_STREAM", "INVOCATION_ID"};
        return std::find(std::begin(ours), std::end(ours), env_name(entry)) != std::end(ours);
    });
    // A request may have many megabytes. With bounds of our own what it took goes back to the
    // system with it; glibc's rise with the largest that was freed.
    ::mallopt(M_MMAP_THRESHOLD, 256 * 1024);
    ::mallopt(M_TRIM_THRESHOLD, 1 << 20);
    share_out_descriptors(options);
    auto guard = Guard::start();  // before there is anything else that it would hold as well
    if (!guard) return guard.error();
    options.executor.guard = guard->get();
    auto socket = ServerSocket::open(options.socket, options.allowed_users.empty() ? 0600 : 0666);
    if (!socket) return socket.error();
    StorePlace store = store_place(options.cache_directory, own->env, namespaces_in(own->identity));
    store.bounds = options.cache_bounds;
    Server server(std::move(options), std::move(*socket), std::move(*own), std::move(store));
    const int status = server.run();
    // Told once more while it goes, it has ended well all the same.
    sigset_t ending;
    ::sigemptyset(&ending);
    for (const int number : ending_signals) ::sigaddset(&ending, number);
    ::pthread_sigmask(SIG_BLOCK, &ending, nullptr);
    return status;
}

}  // namespace coalesce
