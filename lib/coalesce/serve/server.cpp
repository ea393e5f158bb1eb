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
#include <unordered_map>
#include <utility>

#include <coalesce/command/ancestry.h>
#include <coalesce/command/duration.h>
#include <coalesce/command/insistence.h>
#include <coalesce/command/text.h>
#include <coalesce/engine/key_hash.h>
#include <coalesce/io/guard.h>
#include <coalesce/io/loop.h>
#include <coalesce/io/reaper.h>
#include <coalesce/kept/kept_desk.h>
#include <coalesce/kept/remembered_times.h>
#include <coalesce/protocol/answer.h>
#include <coalesce/protocol/resolved_request.h>
#include <coalesce/reception/entrance.h>
#include <coalesce/reception/operations.h>
#include <coalesce/serve/flight_index.h>
#include <coalesce/serve/flight_watchers.h>
#include <coalesce/serve/log.h>
#include <coalesce/serve/run_statistics.h>
#include <coalesce/serve/server_socket.h>
#include <coalesce/serve/service_manager.h>

namespace coalesce {
namespace {

using namespace std::chrono;

constexpr std::size_t refused_users_max = 16;  // at a time: each stays for a moment

// A program that is connected.
struct Peer final : Client {
    using Client::Client;
    std::optional<std::vector<ProcessFacts>> sessions;  // the leaders of those that it runs in
    std::optional<Timer> refused;                       // until it is closed
    // The first line decides. Who sends one kind is not to run what it meant as another: a
    // page's HTTP request, the second line of a pretty-printed object.
    enum class Speaks { nothing_yet, json, lines } speaks = Speaks::nothing_yet;
};

Peer& peer_of(Client& client) { return static_cast<Peer&>(client); }

// A flight's name as a log shows it.
std::string_view short_name(std::string_view name) { return name.substr(0, 12); }

// What is told to whom there is no room for.
void tell_and_close(Descriptor connection, const std::string& why) {
    const std::string line = error_line({}, "too_many_files", why);
    (void)::send(connection.get(), line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    // With a request unread it would be reset, which hides the answer from some clients.
    char unread[4096];
    for (int i = 0; i < 16 && ::recv(connection.get(), unread, sizeof unread, MSG_DONTWAIT) > 0;) ++i;
}

// "GET / HTTP/1.1", "Host: …": a browser, or curl, that was led here.
bool looks_like_http(std::string_view line) {
    const auto same_letter = [](char a, char b) { return (a | 0x20) == b; };
    constexpr std::string_view host = "host:";
    if (line.size() >= host.size() && std::equal(host.begin(), host.end(), line.begin(), [&](char wanted, char byte) {
            return wanted == ':' ? byte == ':' : same_letter(byte, wanted);
        }))
        return true;
    const std::size_t method = line.find(' ');
    if (method == std::string_view::npos || method == 0 ||
        !std::all_of(line.begin(), line.begin() + static_cast<std::ptrdiff_t>(method),
                     [](char byte) { return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z'); }))
        return false;
    const std::size_t target = line.find(' ', method + 1);
    return target != std::string_view::npos && target > method + 1 && line.substr(target).starts_with(" HTTP/");
}

// A request for a command, while it is seen what it comes to.
struct Asked {
    ResolvedRequest resolved;
    std::shared_ptr<const CanonicalSurroundings> canonical;
    RequestTerms terms;
    Wish wish;
    FlightRef asking;  // on whose behalf

    [[nodiscard]] RequestKey key() const { return {canonical, resolved.canonical_words}; }
    [[nodiscard]] KeptQuestion question() const {
        return {.job = resolved.job, .surroundings = canonical, .words = resolved.canonical_words, .wish = wish};
    }
};

// What a flight lands with that was not run.
class Found final : public Retention {
  public:
    explicit Found(std::shared_ptr<const RunResult> result) : result_(std::move(result)) {}
    std::shared_ptr<const RunResult> find() override { return result_; }
    void keep(const std::shared_ptr<const RunResult>& /*result*/, UniqueFunction<void()> done) override { done(); }

  private:
    std::shared_ptr<const RunResult> result_;
};

class Server {
  public:
    Server(ServerOptions options, ServerSocket socket, Surroundings own, StorePlace store);
    int run();

  private:
    void receive(Descriptor connection, const ucred& credentials);
    void turn_away(Descriptor connection, int error);
    void log_end(const RunResult& result);
    [[nodiscard]] const std::shared_ptr<const CanonicalSurroundings>& own_canonical_surroundings(uid_t uid);
    [[nodiscard]] bool admits(uid_t uid) const;
    void on_line(Peer& peer, std::string_view line, bool too_long);
    [[nodiscard]] bool understands(Peer& peer, std::string_view line);
    void take(Peer& peer, Request& request);
    [[nodiscard]] KeyRules rules_for(uid_t uid) const;
    [[nodiscard]] std::shared_ptr<const CanonicalSurroundings> canonical_of(ResolvedRequest& resolved, uid_t uid);
    void admit(Peer& peer, Request& request, ResolvedRequest resolved);
    void looked(const Reception::Expected& expected, Asked& asked, std::shared_ptr<const RunResult> result);
    RunTicket submit(Asked& asked);
    void started_for(Peer& peer, const Requester& requester);
    void forget(Peer& peer, Request request);
    void go_on_for_the_store();
    void keep_no_longer_than(std::uint64_t bytes);
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
    const std::shared_ptr<const Surroundings> surroundings_;
    SurroundingsTable interned_;
    std::unordered_map<uid_t, std::shared_ptr<const CanonicalSurroundings>> own_canonical_;
    Log log_;

    Loop loop_;
    RememberedTimes times_{loop_};
    CommandExecutor executor_;
    Guard::Watched guarded_;
    Reaper orphans_;
    FlightIndex running_;
    Reception reception_;
    FlightWatchers watchers_{reception_};
    Entrance entrance_;
    ServiceManager service_manager_{loop_};
    std::vector<std::unique_ptr<SignalWatch>> signals_;
    std::optional<Timer> drain_;
    KeptDesk desk_;
    std::string not_written_;           // what was said of it
    std::optional<Timer> store_watch_;  // while runs go on for the store
    std::size_t refused_users_ = 0;
    std::uint64_t refused_connections_ = 0;  // since that was logged
    std::uint64_t requests_ = 0;
    std::uint64_t joins_ = 0;
    RunStatistics statistics_;
    bool stopping_ = false;
    Insistence insistence_;
};

Server::Server(ServerOptions options, ServerSocket socket, Surroundings own, StorePlace store)
    : options_(std::move(options)),
      socket_(std::move(socket)),
      surroundings_(std::make_shared<const Surroundings>(std::move(own))),
      log_(options_.log_level),
      executor_(loop_, options_.executor),
      guarded_(loop_, *options_.executor.guard),
      orphans_(loop_, [this](pid_t pid) { return executor_.is_own(pid); }),
      reception_(loop_, executor_, {.stall = options_.stall, .grace = options_.grace},
                 {.on_line = [this](Client& client, std::string_view line,
                                    bool too_long) { on_line(peer_of(client), line, too_long); },
                  .on_served = [this](Client& client) { finish_if_told(client); },
                  .on_gone =
                      [this](Client& client) {
                          if (peer_of(client).refused) --refused_users_;
                          watchers_.remove(client);
                          if (!executor_.flights().empty()) go_on_for_the_store();
                      },
                  .on_started =
                      [this](LiveFlight& flight) {
                          running_.add(flight);
                          watchers_.started(flight);
                      },
                  .on_over =
                      [this](FlightId id) {
                          if (const LiveFlight* const flight = reception_.find(id)) running_.remove(*flight);
                          stop_if_idle();
                      },
                  .on_dropped =
                      [this](LiveFlight& flight) {
                          log_.info("a requester of flight {} is dropped, since it reads nothing and others wait",
                                    short_name(reception_.name_of(flight)));
                      }}),
      entrance_(
          loop_,
          {.has_room = [this] { return reception_.clients().size() - refused_users_ < options_.clients_max; },
           .on_arrival = [this](Descriptor connection, const ucred& peer) { receive(std::move(connection), peer); },
           .turn_away = [this](Descriptor connection, int error) { turn_away(std::move(connection), error); }}),
      desk_(loop_, executor_.spool_limits(),
            {.place = std::move(store),
             .make_refresh_program = options_.make_refresh_program,
             .in_child = options_.executor.in_child},
            {.on_not_written = [this](const std::string& words) {
                if (std::exchange(not_written_, words) != words) log_.warn("{}", words);
            }}) {
    if (options_.remembers) executor_.remember_in(times_);
    executor_.on_over([this](const std::shared_ptr<const RunResult>& result) { log_end(*result); });
    for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
        struct sigaction action {};
        if (::sigaction(number, nullptr, &action) == 0 && action.sa_handler == SIG_IGN) continue;  // nohup
        signals_.push_back(std::make_unique<SignalWatch>(loop_, number, [this, number] { stop(number); }));
    }
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
    log_.warn("uid {} (pid {}) was refused", peer.uid, peer.pid);
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
    if (line.find_first_not_of(" \t\r") == std::string_view::npos || !understands(peer, line)) return;
    if (peer.speaks == Peer::Speaks::lines) {
        if (line.find('\0') != std::string_view::npos)
            return reception_.refuse(peer, {}, "bad_request", "the line has a NUL byte");
        Request request;
        request.line = std::string(line);
        return take(peer, request);
    }
    auto parsed = parse_request(line);
    if (const auto* error = std::get_if<RequestError>(&parsed))
        return reception_.refuse(peer, error->id, error->code, error->message);
    auto& request = std::get<Request>(parsed);
    if (request.op.empty())
        take(peer, request);
    else
        operate(peer, request);
}

// A connection's first line decides which kind it sends; the other is refused from then on.
bool Server::understands(Peer& peer, std::string_view line) {
    const bool json = line.starts_with('{');
    if (!json && looks_like_http(line)) {
        log_.warn("uid {} (pid {}) sent an HTTP request; the connection is closed", peer.uid, peer.pid);
        reception_.refuse(peer, {}, "bad_request", "this is not an HTTP server");
        peer.session->finish();
        return false;
    }
    if (peer.speaks == Peer::Speaks::nothing_yet) peer.speaks = json ? Peer::Speaks::json : Peer::Speaks::lines;
    if (json == (peer.speaks == Peer::Speaks::json)) return true;
    reception_.refuse(peer, {}, "bad_json",
                      json ? "this connection takes command lines, as its first line was one"
                           : "this connection takes JSON objects, one a line, as its first line was one");
    return false;
}

void Server::take(Peer& peer, Request& request) {
    ++requests_;
    if (stopping_) return reception_.refuse(peer, request.id, "shutting_down", "the server is about to end");
    if (reception_.waiting() >= options_.requesters_max)
        return reception_.refuse(peer, request.id, "too_many_requesters",
                                 std::to_string(options_.requesters_max) + " requesters wait already");
    ResolvedRequest resolved = resolve(request, surroundings_, rules_for(peer.uid), options_.executor.shell,
                                       Job{.grace = options_.grace, .asker = peer.pid});
    admit(peer, request, std::move(resolved));
}

// Our own user's keys are those of its wrappers and batches, and mean the same kept results; others' name them.
KeyRules Server::rules_for(uid_t uid) const {
    KeyRules rules;
    if (uid != own_uid_) rules.user = uid;
    return rules;
}

std::shared_ptr<const CanonicalSurroundings> Server::canonical_of(ResolvedRequest& resolved, uid_t uid) {
    return resolved.canonical_surroundings ? interned_.intern(std::move(*resolved.canonical_surroundings))
                                           : own_canonical_surroundings(uid);
}

void Server::admit(Peer& peer, Request& request, ResolvedRequest resolved) {
    Asked asked{.resolved = std::move(resolved), .canonical = {}, .terms = {}, .wish = request.wish, .asking = {}};
    asked.canonical = canonical_of(asked.resolved, peer.uid);
    if (executor_.counts().queued >= options_.queue_max &&
        executor_.flights().find_state(KeyView(asked.key())) == nullptr)
        return reception_.refuse(peer, request.id, "queue_full",
                                 std::to_string(options_.queue_max) + " flights wait already");
    asked.wish.fresh = request.fresh;
    if (request.no_share) asked.wish = {.fresh = request.fresh};  // nor with who comes later
    asked.terms = {.id = std::move(request.id),
                   .title = asked.resolved.job.title,
                   .output = request.output,
                   .keep_running = request.keep_running,
                   .worth_keeping = asked.wish.keeps(),
                   .quiet = request.quiet,
                   .wait = request.wait};
    asked.asking = running_.above(peer, ancestry_in(asked.resolved.job.command.surroundings->env), peer.sessions);
    if (asked.wish.reads() || asked.wish.warm) {
        auto expected = reception_.expect(peer, asked.terms);
        const auto owned = std::make_shared<Asked>(std::move(asked));
        return desk_.look(owned->question(),
                          [this, expected = std::move(expected), owned](std::shared_ptr<const RunResult> result) {
                              looked(expected, *owned, std::move(result));
                          });
    }
    RunTicket ticket = submit(asked);
    started_for(peer, reception_.enter(peer, std::move(asked.terms), std::move(ticket)));
}

// The store has been asked: what it has is for this request alone, so it lands a flight of its own.
void Server::looked(const Reception::Expected& expected, Asked& asked, std::shared_ptr<const RunResult> result) {
    Requester* const requester = *expected;
    if (result) {
        if (requester == nullptr) return;
        std::string words = asked.resolved.canonical_words;
        append_unshared(words);
        RunTicket ticket = executor_.submit(RequestKey{asked.canonical, words}, [&] {
            return Job{.title = asked.terms.title, .retention = std::make_shared<Found>(std::move(result))};
        });
        return reception_.admit(*requester, std::move(asked.terms), std::move(ticket));
    }
    if (requester == nullptr) {
        if (!asked.terms.keep_running || stopping_) return;
        return std::move(submit(asked)).detach();
    }
    if (stopping_) {
        reception_.refuse(*requester->client, requester->id, "shutting_down", "the server is about to end");
        return reception_.part(*requester);
    }
    RunTicket ticket = submit(asked);
    reception_.admit(*requester, std::move(asked.terms), std::move(ticket));
    if (*expected != nullptr && requester->client != nullptr) started_for(peer_of(*requester->client), *requester);
}

RunTicket Server::submit(Asked& asked) {
    const auto keeper = desk_.keeper(asked.question());
    const bool fresh =
        asked.wish.fresh ||
        (asked.wish.max_age && !may_join(asked.wish, executor_.flights().find_state(KeyView(asked.key())), now()));
    RunTicket ticket =
        executor_.submit(asked.key(),
                         [job = std::move(asked.resolved.job), canonical = asked.canonical,
                          words = asked.resolved.canonical_words]() mutable {
                             const std::string hash =
                                 key_hash({canonical, words});  // not for those who join: it costs more than joining
                             auto own = std::make_shared<Surroundings>(*job.command.surroundings);
                             enter_flight(own->env, hash);
                             job.command.surroundings = std::move(own);
                             return std::move(job);
                         },
                         {.fresh = fresh, .on_behalf_of = asked.asking});
    if (ticket.leader()) asked.terms.hash = key_hash(asked.key());
    if (ticket.landed()) return ticket;
    KeptDesk::share(ticket.state().retention, keeper);
    if (asked.asking) asked.terms.loan = executor_.lend_place_of(asked.asking.id());
    return ticket;
}

void Server::started_for(Peer& peer, const Requester& requester) {
    if (requester.joined) {
        ++joins_;
        if (requester.flight != nullptr) watchers_.joined(*requester.flight);
    }
    const Run* const run = requester.flight != nullptr ? requester.flight->run : nullptr;
    if (run != nullptr && requester.wants_output_as_it_comes() && !requester.quiet && !requester.following() &&
        !run->run_class.empty())
        peer.session->send(waiting_line(
            requester.id, *run, run->others > 0 ? executor_.turn_in_class(requester.flight->id) : Turns::Time()));
    if (!requester.joined && requester.flight != nullptr)
        log_.debug("flight {} of uid {} (pid {}): {}", short_name(reception_.name_of(*requester.flight)), peer.uid,
                   peer.pid, for_the_log(requester.title()));
}

void Server::forget(Peer& peer, Request request) {
    if (stopping_) return reception_.refuse(peer, request.id, "shutting_down", "the server is about to end");
    const std::string id = request.id;
    ResolvedRequest resolved = resolve(request, surroundings_, rules_for(peer.uid), options_.executor.shell, Job{});
    const Key key{canonical_of(resolved, peer.uid), resolved.canonical_words};
    auto expected = reception_.expect(peer, {.id = id, .title = resolved.job.title});
    desk_.forget(key, [this, expected = std::move(expected)](const Result<>& forgotten) {
        Requester* const requester = *expected;
        if (requester == nullptr) return;
        if (forgotten)
            requester->client->session->send(message_to(requester->id).text("event", "forgotten").line());
        else
            reception_.refuse(*requester->client, requester->id, "no_store", "cannot " + forgotten.error().message());
        reception_.part(*requester);
    });
}

// Whoever wished that something be kept has gone: its run goes on for as long as that can be (SPEC T8).
void Server::go_on_for_the_store() {
    if (store_watch_) return;
    constexpr milliseconds each{200};
    store_watch_.emplace(loop_);
    store_watch_->in_background();
    store_watch_->start(each, each, [this] {
        if (executor_.flights().empty()) return loop_.post([this] { store_watch_.reset(); });
        desk_.ask_entry_limit([this](std::uint64_t bytes) { keep_no_longer_than(bytes); });
    });
}

void Server::keep_no_longer_than(std::uint64_t bytes) {
    std::vector<FlightId> in_vain;
    for (const auto& [id, flight] : reception_.flights())
        if (flight.keeper != nullptr && flight.run->spool && flight.run->spool->size() > bytes) in_vain.push_back(id);
    for (const FlightId id : in_vain) reception_.keep_no_more_for_the_store(id);
}

// What decides about sharing in a request that says nothing of its surroundings.
const std::shared_ptr<const CanonicalSurroundings>& Server::own_canonical_surroundings(uid_t uid) {
    auto& canonical = own_canonical_[uid];
    if (!canonical) {
        canonical = interned_.intern(canonical_surroundings(*surroundings_, rules_for(uid)));
    }
    return canonical;
}

// One line for each run, whatever became of it (SPEC S10).
void Server::log_end(const RunResult& result) {
    if (result.run == 0) return log_.debug("answered without a run: {}", for_the_log(result.title));
    LiveFlight* const flight = reception_.find(result.run);
    log_.info("flight {} ended after {}, for {}: {}: {}",
              flight == nullptr ? std::string_view("(new)") : short_name(reception_.name_of(*flight)),
              format_duration(result.duration), flight == nullptr ? 1 : flight->waiting,
              visible(result.outcome.describe()), for_the_log(result.title));
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
        forget(peer, request);
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
    message.number("requests", static_cast<std::int64_t>(requests_))
        .number("joins", static_cast<std::int64_t>(joins_))
        .number("runs", static_cast<std::int64_t>(counts.runs))
        .number("running", static_cast<std::int64_t>(counts.running))
        .number("queued", static_cast<std::int64_t>(counts.queued))
        .number("waiting", static_cast<std::int64_t>(reception_.waiting()))
        .number("clients", static_cast<std::int64_t>(reception_.clients().size()));
    statistics_.tell(message);
    message.number("hits", static_cast<std::int64_t>(desk_.hits().joins))
        .number("refreshes", static_cast<std::int64_t>(desk_.refreshes()))
        .seconds("spared", desk_.hits().time);
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
    log_.info("{}: running flights have {} to finish", signal_name(number), format_duration(options_.drain));
    service_manager_.stopping();
    // Those who have connected already are answered.
    socket_.unlink();
    entrance_.close();
    socket_.close();
    executor_.hold(true);  // a run that waits behind another is queued when that one lands
    executor_.cancel_queued();
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
        reception_.look_for_served();
    });
}

// Who has not read its answers by then is not waited for.
void Server::end_drain() {
    constexpr seconds to_read_the_end{1};
    if (executor_.flights().empty()) return reception_.drop_clients();
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
    return server.run();
}

}  // namespace coalesce
