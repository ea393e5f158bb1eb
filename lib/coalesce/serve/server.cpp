// SPDX-License-Identifier: MIT
#include <coalesce/serve/server.h>

#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <list>
#include <map>
#include <memory>
#include <unordered_map>
#include <utility>

// spdlog with Debian's own fmt, both header-only: no static archive of either exists.
#define SPDLOG_HEADER_ONLY
#define SPDLOG_FMT_EXTERNAL_HO
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <coalesce/command/ancestry.h>
#include <coalesce/command/duration.h>
#include <coalesce/io/guard.h>
#include <coalesce/io/loop.h>
#include <coalesce/io/process_facts.h>
#include <coalesce/io/reaper.h>
#include <coalesce/reception/descriptor_relay.h>
#include <coalesce/command/insistence.h>
#include <coalesce/engine/key_hash.h>
#include <coalesce/protocol/message.h>
#include <coalesce/protocol/resolved_request.h>
#include <coalesce/serve/server_socket.h>
#include <coalesce/reception/run_names.h>
#include <coalesce/reception/session.h>

namespace coalesce {
namespace {

using namespace std::chrono;

constexpr std::size_t refused_users_max = 16;  // at a time: each stays for a moment
constexpr std::size_t shown_of_an_id = 12;
constexpr std::size_t shown_of_a_title = 200;
constexpr std::uint64_t shared_answer_bytes = 64 * 1024;  // answers up to this are worth keeping for the next requester

// A log's line is one line, and not a page.
std::string for_the_log(const std::string& title) {
    return title.size() <= shown_of_a_title ? title : title.substr(0, shown_of_a_title) + "...";
}

struct Asked;
struct Client;

// What only some requests have.
struct AskedExtras {
    CommandExecutor::Loan loan;
    std::optional<Timer> patience;
    std::unique_ptr<DescriptorRelay> relay;  // fd
    Landing<RunResult> landing;              // fd: until the relay has finished
    StreamRendering* stream = nullptr;       // stream: owned by the session
    std::uint64_t read_before = 0;           // stream, fd: when its run was last seen stalled
    std::unique_ptr<SpoolReader> sink;       // none: output past the replay limit that nobody reads
    std::optional<std::multimap<FlightId, Asked*>::iterator> awaits_start;         // stream, fd
    std::optional<std::multimap<std::string_view, Asked*>::iterator> place_by_id;  // in its client's
};

// One request that waits on a flight. Small, since the fresh memory that it takes is
// most of what a join costs.
struct Asked {
    Client* client = nullptr;                  // none: it has left, and keeps the run going
    std::string id;                            // as JSON text
    std::shared_ptr<const std::string> title;  // as it was asked for; mostly its flight's
    RunTicket ticket;
    std::list<Asked>::iterator place;  // in its client's list
    std::unique_ptr<AskedExtras> extras;
    Request::Output output = Request::Output::whole;
    bool joined = false;
    bool waiting = false;
    bool keep_running = false;
    bool quiet = false;
    bool over = false;  // to be buried

    AskedExtras& need_extras() {
        if (!extras) extras = std::make_unique<AskedExtras>();
        return *extras;
    }
};

struct Client {
    std::unique_ptr<Session> session;
    RelayPace pace;  // fd
    std::list<Asked> asked;
    // Those that wait, once somebody has asked for one of them by its id.
    std::optional<std::multimap<std::string_view, Asked*>> by_id;
    uid_t uid = 0;
    pid_t pid = 0;
    std::optional<std::vector<ProcessFacts>> sessions;  // the leaders of those that it runs in
    std::optional<Timer> refused;                       // until it is closed
    // The first line decides. Who sends one kind is not to run what it meant as another: a
    // page's HTTP request, the second line of a pretty-printed object.
    enum class Speaks { nothing_yet, json, lines } speaks = Speaks::nothing_yet;
};

// What people and commands know a flight by, while it is in the table.
struct LiveFlight {
    std::string id;                            // names this run and no other
    std::string hash;                          // its key's
    std::shared_ptr<const std::string> title;  // the leader's
    uid_t uid = 0;
    FlightRef ref;
    const Run* run = nullptr;  // valid as long as ref
    pid_t pid = 0;             // once it runs
    std::size_t waiting = 0;
    bool kept = false;                // somebody who has left wanted it to go on
    bool stalled = false;             // its output went past the replay limit: those who want the whole have been told
    std::unique_ptr<Timer> progress;  // then: until it is looked who has read nothing
};

// Why a run did not end by itself, in the protocol's word.
std::string_view code_of(const Outcome& outcome) {
    switch (outcome.kind) {
        case Outcome::Kind::timed_out:
            return "timed_out";
        case Outcome::Kind::not_started:
            return "not_started";
        case Outcome::Kind::refused:
            return "refused";
        case Outcome::Kind::cancelled:
            return "cancelled";
        default:
            return "lost";
    }
}

// What is told to whom there is no room for.
void tell_and_close(Descriptor connection, const std::string& why) {
    const std::string line = Message().error("too_many_files", why).line();
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

class Server {
  public:
    Server(ServerOptions options, ServerSocket socket, Surroundings own);
    int run();

  private:
    void say_ready();
    void accept_all(int listener);
    void accept_one_to_refuse(int listener, int error);
    void accept_again_later();
    void receive(Descriptor connection, const ucred& peer);
    void log_end(const RunResult& result);
    [[nodiscard]] const std::shared_ptr<const CanonicalSurroundings>& own_canonical_surroundings(uid_t uid);
    [[nodiscard]] static Delivered delivered(const Asked& asked, const Landing<RunResult>& landing, bool with_output);
    [[nodiscard]] const std::string* shared_answer(const Asked& asked, const Landing<RunResult>& landing,
                                                   bool with_output);
    [[nodiscard]] bool admits(uid_t uid) const;
    void on_line(Client& client, std::string_view line, bool too_long);
    [[nodiscard]] bool understands(Client& client, std::string_view line);
    void on_gone(Client& client);

    void take(Client& client, Request request);
    void operate(Client& client, const Request& request);
    void admit(Client& client, Request& request, ResolvedRequest resolved);
    void follow(Asked& asked);
    void started(FlightId id);
    void know_by_process(FlightId id);
    void stalled(FlightId id);
    void forget(FlightId id);
    void forget_unstarted(FlightId id);
    void stop_waiting(Asked& asked);
    void part(Asked& asked);
    [[nodiscard]] bool keep(Asked& asked);
    void await_no_start(Asked& asked);
    static void stop_output(Asked& asked);
    void drain_or_refuse(Asked& asked);
    [[nodiscard]] std::vector<Asked*> followers(FlightId id) const;
    void look_for_progress(FlightId id);
    void drop_the_stalled(FlightId id);
    [[nodiscard]] bool another_waits_for(const LiveFlight& live) const;
    void landed(Asked& asked, const Landing<RunResult>& landing);
    void end(Asked& asked, const Landing<RunResult>& landing);
    void refuse_landing(Asked& asked, const Landing<RunResult>& landing);
    void give_up(Asked& asked);
    void bury(Asked& asked);

    void leave(Client& client, const Request& request);
    void signal(Client& client, const Request& request);
    void cancel(Client& client, const Request& request);
    void tell_status(Client& client, const Request& request);
    void tell_stats(Client& client, const Request& request);
    [[nodiscard]] static Asked* waiting_request(Client& client, const std::string& id);
    [[nodiscard]] static std::multimap<std::string_view, Asked*>::iterator know_by_id(Client& client, Asked& asked);
    [[nodiscard]] static bool may_see(const Client& client, uid_t owner) noexcept;
    [[nodiscard]] FlightRef asking_flight(Client& client, const std::vector<std::string>& env) const;
    [[nodiscard]] Message message_to(const std::string& id) const;
    void refuse(Client& client, const std::string& id, std::string_view code, const std::string& why);
    void finish_if_served(Client& client);

    void stop(int number);
    void stop_if_idle();
    void end_drain();
    void drop_clients();

    const ServerOptions options_;
    ServerSocket socket_;
    const std::shared_ptr<const Surroundings> surroundings_;
    SurroundingsTable interned_;
    struct SharedAnswer {
        std::weak_ptr<const RunResult> result;  // its spool may go
        bool joined = false;
        bool with_output = false;
        std::string command;
        std::string text;
    } shared_answer_;
    std::unordered_map<uid_t, std::shared_ptr<const CanonicalSurroundings>> own_canonical_;
    const RunNames names_;
    spdlog::logger log_;

    Loop loop_;
    std::vector<Watch> listeners_;
    Descriptor spare_{
        ::open("/dev/null", O_RDONLY | O_CLOEXEC)};  // closed to accept, where no other is left, whoever is told so
    std::size_t refused_users_ = 0;
    std::uint64_t refused_connections_ = 0;  // since that was logged
    CommandExecutor executor_;
    Guard::Watched guarded_;
    Reaper orphans_;
    std::unordered_map<Client*, std::unique_ptr<Client>> clients_;
    std::list<Asked> kept_;  // whoever asked is gone, and wanted the run to go on
    std::unordered_map<FlightId, LiveFlight> live_;
    std::unordered_map<std::string, FlightId> running_by_hash_;  // both for requests that a flight's command makes
    std::unordered_map<pid_t, FlightId> running_by_process_;
    std::map<std::string, FlightId> by_id_;
    std::multimap<FlightId, Asked*> await_start_;  // those who follow live, until the run starts
    std::vector<std::unique_ptr<SignalWatch>> signals_;
    std::optional<Timer> drain_;
    std::optional<Timer> watchdog_;
    std::optional<Timer> ready_again_;
    std::optional<Timer> accept_again_;
    std::uint64_t requests_ = 0;
    std::uint64_t joins_ = 0;
    nanoseconds saved_{0};
    std::size_t waiting_ = 0;
    bool stopping_ = false;
    Insistence insistence_;
};

// journald keeps its own time, and takes the level from a <N> in front (sd-daemon(3)).
class JournalLevel final : public spdlog::custom_flag_formatter {
  public:
    void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
        static constexpr std::string_view prefixes[] = {"<7>", "<7>", "<6>", "<4>", "<3>", "<2>", "<6>"};
        const std::string_view prefix = prefixes[std::min<std::size_t>(message.level, std::size(prefixes) - 1)];
        out.append(prefix.data(), prefix.data() + prefix.size());
    }
    std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<JournalLevel>(); }
};

// The variable alone proves nothing: every shell below a unit inherits it.
bool stderr_is_the_journal() {
    const char* const named = std::getenv("JOURNAL_STREAM");
    struct stat info {};
    return named != nullptr && ::fstat(STDERR_FILENO, &info) == 0 &&
           std::to_string(info.st_dev) + ":" + std::to_string(info.st_ino) == named;
}

spdlog::logger make_log(const std::string& level) {
    spdlog::logger log("coalesce", std::make_shared<spdlog::sinks::stderr_sink_st>());
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    if (stderr_is_the_journal())
        formatter->add_flag<JournalLevel>('*').set_pattern("%*%v");
    else
        formatter->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
    log.set_formatter(std::move(formatter));
    log.set_level(spdlog::level::from_str(level));
    log.flush_on(spdlog::level::trace);
    return log;
}

Server::Server(ServerOptions options, ServerSocket socket, Surroundings own)
    : options_(std::move(options)),
      socket_(std::move(socket)),
      surroundings_(std::make_shared<const Surroundings>(std::move(own))),
      log_(make_log(options_.log_level)),
      executor_(loop_, options_.executor),
      guarded_(loop_, *options_.executor.guard),
      orphans_(loop_, [this](pid_t pid) { return executor_.is_own(pid); }) {
    executor_.on_started([this](FlightId id) { started(id); });
    executor_.on_over([this](const std::shared_ptr<const RunResult>& result) { log_end(*result); });
    executor_.on_landed([this](FlightId id) { forget(id); });
    executor_.on_stalled([this](FlightId id) { stalled(id); });
    for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
        struct sigaction action {};
        if (::sigaction(number, nullptr, &action) == 0 && action.sa_handler == SIG_IGN) continue;  // nohup
        signals_.push_back(std::make_unique<SignalWatch>(loop_, number, [this, number] { stop(number); }));
    }
}

int Server::run() {
    for (const Descriptor& listener : socket_.listeners()) {
        auto watch =
            Watch::start(loop_, listener.get(), Readiness::readable, [this, fd = listener.get()] { accept_all(fd); });
        if (!watch) {
            log_.critical("cannot {}", watch.error().message());
            return 125;
        }
        listeners_.push_back(std::move(*watch));
    }
    if (const char* const text = std::getenv("WATCHDOG_USEC")) {
        const auto interval = duration_cast<milliseconds>(microseconds(std::atoll(text))) / 2;
        if (interval.count() > 0) {
            watchdog_.emplace(loop_);
            watchdog_->in_background();
            watchdog_->start(interval, interval, [] { notify_service_manager("WATCHDOG=1"); });
        }
    }
    log_.info("listening on {}", socket_.path());
    say_ready();
    loop_.run();
    clients_.clear();
    // Whatever clients did, no table has grown by it.
    assert(live_.empty() && by_id_.empty() && running_by_hash_.empty() && running_by_process_.empty() &&
           await_start_.empty() && kept_.empty() && waiting_ == 0);
    log_.info("ended");
    return 0;
}

// A service manager that does not hear it would end us in the end.
void Server::say_ready() {
    if (stopping_ || notify_service_manager("READY=1")) return;
    constexpr milliseconds until_there_is_room{100};
    if (!ready_again_) ready_again_.emplace(loop_);
    ready_again_->start(until_there_is_room, [this] { say_ready(); });
}

// A few at a time, so that a flood of connections leaves those inside their turn.
void Server::accept_all(int listener) {
    constexpr int at_a_time = 64;
    for (int i = 0; i < at_a_time; ++i) {
        Descriptor connection(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (!connection) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
                accept_one_to_refuse(listener, errno);
            else if (errno != EINTR && errno != ECONNABORTED)
                return;
            if (accept_again_) return;
            continue;
        }
        if (clients_.size() - refused_users_ >= options_.clients_max) {
            tell_and_close(std::move(connection), "the server has as many connections as it has descriptors for");
            if (refused_connections_++ == 0)
                log_.warn("there are {} connections: more are refused", options_.clients_max);
            continue;
        }
        if (refused_connections_ > 0)
            log_.info("connections are accepted again, {} were refused", std::exchange(refused_connections_, 0));
        ucred peer{};
        socklen_t length = sizeof peer;
        if (::getsockopt(connection.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0)
            receive(std::move(connection), peer);
    }
}

// With the spare descriptor, so that whoever cannot be served hears why.
void Server::accept_one_to_refuse(int listener, int error) {
    if (refused_connections_++ == 0) log_.warn("cannot accept connections: {}", std::strerror(error));
    spare_.reset();
    if (Descriptor connection(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)); connection)
        tell_and_close(std::move(connection), "the server has no descriptor left for a connection");
    else
        accept_again_later();
    spare_ = Descriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC));
}

// Whoever waits in the socket's queue is served when something is free again.
void Server::accept_again_later() {
    for (Watch& listener : listeners_) listener.stop();
    accept_again_.emplace(loop_);
    accept_again_->start(milliseconds(100), [this] {
        accept_again_.reset();
        for (Watch& listener : listeners_) listener.resume(Readiness::readable);
    });
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
                        [this, &client] { finish_if_served(client); }, [this, &client] { on_gone(client); },
                        [&client] { client.pace.room(); }});
    if (admits(peer.uid)) return;
    log_.warn("uid {} (pid {}) was refused", peer.uid, peer.pid);
    refuse(client, {}, "not_allowed", "this server does not serve uid " + std::to_string(peer.uid));
    ++refused_users_;
    if (refused_users_ > refused_users_max) return client.refused.emplace(loop_), client.session->finish();
    // Closed with a request unread, the connection would be reset and the answer lost.
    constexpr seconds to_ask_in_vain{1};
    client.refused.emplace(loop_);
    client.refused->start(to_ask_in_vain, [&client] { client.session->finish(); });
}

void Server::on_line(Client& client, std::string_view line, bool too_long) {
    if (client.refused) return client.session->finish();
    if (too_long)
        return refuse(client, {}, "too_long",
                      "a request is at most " + std::to_string(request_bytes_max >> 20) + " MiB long");
    if (line.empty()) return client.pace.acknowledge();
    if (line.find_first_not_of(" \t\r") == std::string_view::npos || !understands(client, line)) return;
    if (client.speaks == Client::Speaks::lines) {
        if (line.find('\0') != std::string_view::npos)
            return refuse(client, {}, "bad_request", "the line has a NUL byte");
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

// A connection's first line decides which kind it sends; the other is refused from then on.
bool Server::understands(Client& client, std::string_view line) {
    const bool json = line.starts_with('{');
    if (!json && looks_like_http(line)) {
        log_.warn("uid {} (pid {}) sent an HTTP request; the connection is closed", client.uid, client.pid);
        refuse(client, {}, "bad_request", "this is not an HTTP server");
        client.session->finish();
        return false;
    }
    if (client.speaks == Client::Speaks::nothing_yet)
        client.speaks = json ? Client::Speaks::json : Client::Speaks::lines;
    if (json == (client.speaks == Client::Speaks::json)) return true;
    refuse(client, {}, "bad_json",
           json ? "this connection takes command lines, as its first line was one"
                : "this connection takes JSON objects, one a line, as its first line was one");
    return false;
}

void Server::take(Client& client, Request request) {
    ++requests_;
    if (stopping_) return refuse(client, request.id, "shutting_down", "the server is about to end");
    if (waiting_ >= options_.requesters_max)
        return refuse(client, request.id, "too_many_requesters",
                      std::to_string(options_.requesters_max) + " requesters wait already");
    KeyRules rules;
    rules.user = client.uid;
    ResolvedRequest resolved =
        resolve(request, surroundings_, std::move(rules), options_.executor.shell, Job{.grace = options_.grace});
    admit(client, request, std::move(resolved));
}

void Server::admit(Client& client, Request& request, ResolvedRequest resolved) {
    const auto canonical = resolved.canonical_surroundings
                               ? interned_.intern(std::move(*resolved.canonical_surroundings))
                               : own_canonical_surroundings(client.uid);
    const RequestKey key{canonical, resolved.canonical_words};
    if (executor_.counts().queued >= options_.queue_max && executor_.flights().find_state(KeyView(key)) == nullptr)
        return refuse(client, request.id, "queue_full", std::to_string(options_.queue_max) + " flights wait already");

    Asked& asked = client.asked.emplace_back();
    asked.client = &client;
    asked.place = std::prev(client.asked.end());
    asked.id = std::move(request.id);
    asked.output = request.output;
    asked.keep_running = request.keep_running;
    asked.quiet = request.quiet;
    std::string title = resolved.job.title;
    const FlightRef asking = asking_flight(client, resolved.job.command.surroundings->env);
    asked.ticket =
        executor_.submit(key,
                         [job = std::move(resolved.job), canonical, words = resolved.canonical_words]() mutable {
                             const std::string hash =
                                 key_hash({canonical, words});  // not for those who join: it costs more than joining
                             auto own = std::make_shared<Surroundings>(*job.command.surroundings);
                             enter_flight(own->env, hash);
                             job.command.surroundings = std::move(own);
                             return std::move(job);
                         },
                         {.fresh = request.fresh, .on_behalf_of = asking});
    asked.joined = !asked.ticket.leader();
    if (asked.joined) ++joins_;
    auto live = live_.find(asked.ticket.id());
    asked.title = live != live_.end() && *live->second.title == title
                      ? live->second.title
                      : std::make_shared<const std::string>(std::move(title));
    if (!asked.joined && !asked.ticket.landed()) {
        live = live_
                   .try_emplace(asked.ticket.id(), LiveFlight{.id = {},
                                                              .hash = key_hash(key),
                                                              .title = asked.title,
                                                              .uid = client.uid,
                                                              .ref = asked.ticket.ref(),
                                                              .run = &asked.ticket.state()})
                   .first;
        live->second.id = names_.name_of(live->second.hash, live->first);
        by_id_.emplace(live->second.id, live->first);
        if (asked.ticket.state().phase == Run::Phase::running) know_by_process(asked.ticket.id());
        log_.debug("flight {} of uid {} (pid {}): {}", live->second.id.substr(0, shown_of_an_id), client.uid,
                   client.pid, for_the_log(*asked.title));
    }
    if (asking && !asked.ticket.landed()) asked.need_extras().loan = executor_.lend_place_of(asking.id());
    asked.waiting = true;
    if (client.by_id) asked.need_extras().place_by_id = know_by_id(client, asked);
    ++waiting_;
    if (live != live_.end()) ++live->second.waiting;
    if (request.wait) {
        auto& patience = asked.need_extras().patience.emplace(loop_);
        patience.start(*request.wait, [this, &asked] { give_up(asked); });
    }
    asked.ticket.then([this, &asked](const Landing<RunResult>& landing) { landed(asked, landing); });
    if (asked.output == Request::Output::whole || asked.output == Request::Output::none || asked.ticket.landed())
        return;
    if (asked.ticket.state().spool)
        follow(asked);
    else
        asked.need_extras().awaits_start = await_start_.emplace(asked.ticket.id(), &asked);
}

// What decides about sharing in a request that says nothing of its surroundings.
const std::shared_ptr<const CanonicalSurroundings>& Server::own_canonical_surroundings(uid_t uid) {
    auto& canonical = own_canonical_[uid];
    if (!canonical) {
        KeyRules rules;
        rules.user = uid;
        canonical = interned_.intern(canonical_surroundings(*surroundings_, rules));
    }
    return canonical;
}

// One line for each run, whatever became of it (SPEC S10).
void Server::log_end(const RunResult& result) {
    const auto live = live_.find(result.run);
    log_.info("flight {} ended after {}, for {}: {}: {}",
              live == live_.end() ? "(new)" : live->second.id.substr(0, shown_of_an_id),
              format_duration(duration_cast<milliseconds>(result.duration)),
              live == live_.end() ? 1 : live->second.waiting, result.outcome.describe(), for_the_log(result.title));
}

void Server::started(FlightId id) {
    know_by_process(id);
    std::vector<Asked*> waiting;
    const auto [first, last] = await_start_.equal_range(id);
    for (auto it = first; it != last; ++it) {
        it->second->extras->awaits_start.reset();
        waiting.push_back(it->second);
    }
    await_start_.erase(first, last);
    for (Asked* asked : waiting) follow(*asked);
}

// Each command leads a session of its own, so that whatever it starts can be told
// by that, even with an environment that does not say so.
void Server::know_by_process(FlightId id) {
    const auto found = live_.find(id);
    if (found == live_.end()) return;  // its leader is being admitted, and calls here
    LiveFlight& live = found->second;
    live.pid = live.run->pid;
    running_by_hash_[live.hash] = id;
    running_by_process_[live.pid] = id;
}

// Its output is past the replay limit, and nobody reads it. From here on nobody joins, so
// that this is done once for a flight.
void Server::stalled(FlightId id) {
    const auto live = live_.find(id);
    if (live == live_.end()) return;
    if (!live->second.progress) look_for_progress(id);
    if (std::exchange(live->second.stalled, true)) return;
    loop_.post([this, id] {
        const auto waits_for_it = [id](const Asked& asked) {
            return asked.ticket && !asked.ticket.landed() && asked.ticket.id() == id;
        };
        for (Asked& asked : kept_)
            if (waits_for_it(asked)) drain_or_refuse(asked);
        for (const auto& [key, client] : clients_)
            for (auto next = client->asked.begin(); next != client->asked.end();)
                if (Asked& asked = *next++; waits_for_it(asked)) drain_or_refuse(asked);
    });
}

std::vector<Asked*> Server::followers(FlightId id) const {
    std::vector<Asked*> all;
    for (const auto& [key, client] : clients_)
        for (Asked& asked : client->asked)
            if (asked.waiting && asked.extras && (asked.extras->stream != nullptr || asked.extras->relay) &&
                asked.ticket.id() == id)
                all.push_back(&asked);
    return all;
}

std::uint64_t read_so_far(const Asked& asked) {
    return asked.extras->stream != nullptr ? asked.extras->stream->position() : asked.extras->relay->position();
}

// One who reads nothing paces the run, which nobody can join any more: others who ask for
// the same would wait for as long as it likes (SPEC F9).
void Server::look_for_progress(FlightId id) {
    LiveFlight& live = live_.at(id);
    for (Asked* const asked : followers(id)) asked->extras->read_before = read_so_far(*asked);
    if (!live.progress) live.progress = std::make_unique<Timer>(loop_);
    live.progress->in_background();
    live.progress->start(options_.stall, [this, id] { loop_.post([this, id] { drop_the_stalled(id); }); });
}

void Server::drop_the_stalled(FlightId id) {
    const auto live = live_.find(id);
    if (live == live_.end()) return;
    std::vector<Asked*> stalled = followers(id);
    std::erase_if(stalled, [](const Asked* asked) {
        return asked->ticket.landed() || read_so_far(*asked) != asked->extras->read_before ||
               asked->extras->read_before == asked->ticket.state().spool->size();
    });
    if (live->second.waiting > stalled.size() || another_waits_for(live->second))
        for (Asked* const asked : stalled) {
            log_.info("a requester of flight {} is dropped, since it reads nothing and others wait",
                      live->second.id.substr(0, shown_of_an_id));
            if (asked->extras->relay) asked->extras->relay->leave_to_requester();
            refuse(*asked->client, asked->id, "stalled",
                   "nothing was read for " + format_duration(options_.stall) + ", and others wait for this command");
            part(*asked);
        }
    if (live_.contains(id)) look_for_progress(id);
}

bool Server::another_waits_for(const LiveFlight& live) const {
    return std::any_of(live_.begin(), live_.end(), [&live](const auto& other) {
        return &other.second != &live && other.second.hash == live.hash && other.second.waiting > 0;
    });
}

// Who wanted the whole cannot get it any more; who wanted none of it needs none of it kept.
void Server::drain_or_refuse(Asked& asked) {
    if (asked.output == Request::Output::whole) {
        refuse(*asked.client, asked.id, "output_too_long",
               "the output is longer than the replay limit; ask for a stream");
        part(asked);  // which may then want none of it
    }
    if (asked.output != Request::Output::none || !asked.ticket) return;
    auto& sink = asked.need_extras().sink;
    if (sink) return;
    const auto read_all = [&sink] {
        while (const auto piece = sink->next()) sink->advance(piece->extent.length);
    };
    sink = std::make_unique<SpoolReader>(*asked.ticket.state().spool, SpoolReader::AtTheEnd{}, read_all);
    read_all();
}

// Called before the requesters are told, and also when there are none.
void Server::forget(FlightId id) {
    if (const auto found = live_.find(id); found != live_.end()) {
        const LiveFlight& live = found->second;
        if (const auto it = running_by_hash_.find(live.hash); it != running_by_hash_.end() && it->second == id)
            running_by_hash_.erase(it);
        if (const auto it = running_by_process_.find(live.pid); it != running_by_process_.end() && it->second == id)
            running_by_process_.erase(it);
        by_id_.erase(live.id);
        live_.erase(found);
    }
    stop_if_idle();
}

// One that waited behind another run, and that nobody is left to start it for, lands
// without a word.
void Server::forget_unstarted(FlightId id) {
    if (const auto live = live_.find(id); live != live_.end() && live->second.ref.landed()) forget(id);
}

// Whatever comes of it, the request waits no more.
void Server::stop_waiting(Asked& asked) {
    if (!std::exchange(asked.waiting, false)) return;
    --waiting_;
    if (asked.extras) {
        asked.extras->patience.reset();
        asked.extras->loan = {};
        if (const auto place = std::exchange(asked.extras->place_by_id, std::nullopt))
            asked.client->by_id->erase(*place);
    }
    if (const auto live = live_.find(asked.ticket.id()); live != live_.end()) --live->second.waiting;
    await_no_start(asked);
}

void Server::await_no_start(Asked& asked) {
    if (!asked.extras) return;
    if (const auto place = std::exchange(asked.extras->awaits_start, std::nullopt)) await_start_.erase(*place);
}

// The final message is the last.
void Server::stop_output(Asked& asked) {
    if (!asked.extras) return;
    if (asked.extras->relay) asked.extras->relay->stop();
    if (StreamRendering* const stream = std::exchange(asked.extras->stream, nullptr)) {
        stream->stop();
        asked.client->session->wake();
    }
}

// Leaves the flight before it has landed. May be asked for twice: who gave up waiting may
// turn out to have gone as it is told so.
void Server::part(Asked& asked) {
    if (asked.over || asked.client == nullptr) return;
    const bool keeps_it = asked.keep_running && asked.waiting && !asked.ticket.landed();
    stop_waiting(asked);
    if (keeps_it && keep(asked)) return;
    const FlightId id = asked.ticket ? asked.ticket.id() : 0;
    asked.ticket = {};
    forget_unstarted(id);
    bury(asked);
}

// Leaves without leaving: nobody is told how the run ends, which goes on for it. False:
// somebody keeps it already, and one is enough.
bool Server::keep(Asked& asked) {
    const auto live = live_.find(asked.ticket.id());
    if (live == live_.end() || std::exchange(live->second.kept, true)) return false;
    stop_output(asked);
    Client& client = *std::exchange(asked.client, nullptr);
    kept_.splice(kept_.end(), client.asked, asked.place);
    asked.output = Request::Output::none;
    if (live->second.stalled) drain_or_refuse(asked);  // while its own reader is still there
    if (asked.extras) {
        loop_.post([relay = std::move(asked.extras->relay)] {});  // it may be on the stack
    }
    loop_.post([this, &client] {
        if (clients_.contains(&client)) finish_if_served(client);
    });
    return true;
}

// The server's flight whose command makes this request: known by the ancestry in its
// environment, or by the sessions that the client runs in, where that got lost.
FlightRef Server::asking_flight(Client& client, const std::vector<std::string>& env) const {
    for (std::string_view ancestry = ancestry_in(env); !ancestry.empty(); ancestry = above_nearest(ancestry)) {
        const auto found = running_by_hash_.find(std::string(nearest_flight(ancestry)));
        if (found == running_by_hash_.end()) continue;
        const LiveFlight& live = live_.at(found->second);
        if (may_see(client, live.uid)) return live.ref;
    }
    // Read once, and with nothing running not even that: what starts later is not above the client.
    if (!client.sessions)
        client.sessions = running_by_process_.empty() ? std::vector<ProcessFacts>() : session_leaders_above(client.pid);
    for (const ProcessFacts& leader : *client.sessions)
        if (const auto found = running_by_process_.find(leader.pid); found != running_by_process_.end())
            return live_.at(found->second).ref;
    return {};
}

// Commands of other users are nobody's business, but for the server's own and root.
bool Server::may_see(const Client& client, uid_t owner) noexcept {
    return client.uid == owner || client.uid == 0 || client.uid == ::geteuid();
}

Message Server::message_to(const std::string& id) const {
    Message message;
    if (!id.empty()) message.raw("id", id);
    return message;
}

void Server::follow(Asked& asked) {
    const Run& run = asked.ticket.state();
    Session& session = *asked.client->session;
    if (session.gone()) return;  // and it will part as soon as that is told
    const auto live = live_.find(asked.ticket.id());
    if (!asked.quiet) {
        session.send(
            message_to(asked.id)
                .text("event", "started")
                .flag("joined", asked.joined)
                .number("pid", run.pid)
                .seconds("started", run.started.time_since_epoch())
                .number("requesters", live == live_.end() ? 1 : static_cast<std::int64_t>(live->second.waiting))
                .line());
        if (session.gone()) return;
    }
    if (asked.output == Request::Output::stream) {
        auto rendering = std::make_unique<StreamRendering>(run.spool, asked.id, [&session] { session.wake(); });
        asked.need_extras().stream = rendering.get();
        return session.send(std::move(rendering));
    }
    const auto all_is_sent = [this, &asked] {
        if (asked.client == nullptr) return;
        if (asked.extras->relay->failed())
            part(asked);
        else if (asked.extras->landing.value)
            end(asked, asked.extras->landing);  // else the landing is on its way
    };
    asked.need_extras().relay =
        std::make_unique<DescriptorRelay>(loop_, session, asked.client->pace, run.spool, asked.id, all_is_sent);
    asked.extras->relay->pump();
}

void Server::landed(Asked& asked, const Landing<RunResult>& landing) {
    stop_waiting(asked);
    if (asked.client == nullptr) return loop_.post([this, &asked] { kept_.erase(asked.place); });
    if (!landing.value) return refuse_landing(asked, landing);
    if (asked.joined) saved_ += landing.value->duration;
    if (asked.extras && asked.extras->relay && !asked.extras->relay->finished())
        asked.extras->landing = landing;
    else
        end(asked, landing);
}

void Server::refuse_landing(Asked& asked, const Landing<RunResult>& landing) {
    try {
        std::rethrow_exception(landing.error);
    } catch (const std::system_error& error) {
        const bool deadlock = error.code() == std::errc::resource_deadlock_would_occur;
        refuse(*asked.client, asked.id, deadlock ? "would_wait_for_itself" : "cancelled",
               deadlock ? *asked.title + " would wait for itself" : "the request was cancelled");
    } catch (const std::exception& error) {
        refuse(*asked.client, asked.id, "lost", error.what());
    }
    bury(asked);
}

void Server::end(Asked& asked, const Landing<RunResult>& landing) {
    const RunResult& result = *landing.value;
    Session& session = *asked.client->session;
    if (asked.output == Request::Output::stream || asked.output == Request::Output::fd) {
        Message message = message_to(asked.id).text("event", "exit");
        if (result.outcome.kind == Outcome::Kind::signalled)
            message.number("signal", result.outcome.code);
        else
            message.number("exit", result.outcome.status());
        const std::string words = last_words(result.outcome, *asked.title);
        if (!words.empty()) message.text("code", code_of(result.outcome)).text("message", words);
        message.flag("joined", asked.joined)
            .number("requesters", static_cast<std::int64_t>(landing.requesters))
            .seconds("duration", duration<double>(result.duration).count());
        if (StreamRendering* const stream = asked.extras ? std::exchange(asked.extras->stream, nullptr) : nullptr) {
            stream->end(message.line());
            session.wake();
        } else {
            session.send(message.line());
        }
    } else if (asked.output == Request::Output::whole && result.spool && !result.spool->whole()) {
        refuse(*asked.client, asked.id, "output_too_long",
               "the output is longer than the replay limit; ask for a stream");
    } else if (const bool with_output = asked.output == Request::Output::whole;
               session.idle() && (!with_output || !result.spool || result.spool->size() <= shared_answer_bytes)) {
        const std::string* const shared = shared_answer(asked, landing, with_output);
        if (shared == nullptr)
            refuse(*asked.client, asked.id, "lost", "the kept output cannot be read back");
        else
            session.send(asked.id.empty() ? *shared : "{\"id\":" + asked.id + "," + shared->substr(1));
    } else {  // rendered as it is read, so that what waits to be sent takes no memory
        session.send(render(Format::json, landing.value, delivered(asked, landing, with_output)));
    }
    bury(asked);
}

Delivered Server::delivered(const Asked& asked, const Landing<RunResult>& landing, bool with_output) {
    return {.id = asked.id,
            .command = *asked.title,
            .joined = asked.joined,
            .requesters = landing.requesters,
            .with_output = with_output};
}

// The answer without an id. Thousands who waited for one run get the same bytes, so
// they are kept until another answer is wanted. Null: the output cannot be read back.
const std::string* Server::shared_answer(const Asked& asked, const Landing<RunResult>& landing, bool with_output) {
    SharedAnswer& last = shared_answer_;
    if (last.result.lock() == landing.value && last.joined == asked.joined && last.with_output == with_output &&
        last.command == *asked.title)
        return &last.text;
    last = {landing.value, asked.joined, with_output, *asked.title, {}};
    Delivered anybody = delivered(asked, landing, with_output);
    anybody.id.clear();
    const auto rendering = render(Format::json, landing.value, anybody);
    while (const auto piece = rendering->next()) {
        if (piece->extent.file >= 0) {  // what cannot be read; else JSON is always in memory
            last = {};
            return nullptr;
        }
        last.text += piece->extent.bytes;
        rendering->advance(piece->extent.length);
    }
    return &last.text;
}

void Server::give_up(Asked& asked) {
    refuse(*asked.client, asked.id, "gave_up", "gave up waiting for " + *asked.title);
    part(asked);
}

// Whoever is over may still be on the stack.
void Server::bury(Asked& asked) {
    if (std::exchange(asked.over, true)) return;
    stop_output(asked);
    loop_.post([this, client = asked.client, place = asked.place] {
        if (!clients_.contains(client)) return;
        client->asked.erase(place);
        finish_if_served(*client);
    });
}

// A half-closed connection is closed when it has had its answers; when the server
// is about to end, so is any other.
void Server::finish_if_served(Client& client) {
    if (client.session->gone() || !client.asked.empty()) return;
    if (client.session->input_ended() || (stopping_ && executor_.flights().empty())) client.session->finish();
}

void Server::on_gone(Client& client) {
    if (client.refused) --refused_users_;
    for (auto next = client.asked.begin(); next != client.asked.end();) part(*next++);
    loop_.post([this, &client] { clients_.erase(&client); });
}

void Server::refuse(Client& client, const std::string& id, std::string_view code, const std::string& why) {
    client.session->send(message_to(id).error(code, why).line());
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
        const auto live = live_.find(view.id);
        if (live == live_.end() || !may_see(client, live->second.uid)) return;
        const char* const state = run.phase == Run::Phase::running  ? "running"
                                  : run.phase == Run::Phase::ending ? "ending"
                                                                    : "queued";
        const std::string line = Message()
                                     .text("id", live->second.id)
                                     .text("key", live->second.hash)
                                     .text("state", state)
                                     .seconds("started", (run.spool ? run.started : run.requested).time_since_epoch())
                                     .number("requesters", static_cast<std::int64_t>(live->second.waiting))
                                     .number("output", run.spool ? static_cast<std::int64_t>(run.spool->size()) : 0)
                                     .number("pid", run.pid)
                                     .number("supervisor", ::getpid())
                                     .text("command", *live->second.title)
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
    FlightId chosen = 0;
    for (auto it = by_id_.lower_bound(request.flight); it != by_id_.end() && it->first.starts_with(request.flight);
         ++it) {
        if (!may_see(client, live_.at(it->second).uid)) continue;
        if (chosen != 0)
            return refuse(client, request.id, "ambiguous", "more than one flight's id begins with " + request.flight);
        chosen = it->second;
    }
    if (chosen == 0) return refuse(client, request.id, "no_such_flight", "there is no flight " + request.flight);
    log_.info("flight {} cancelled by uid {} (pid {})", live_.at(chosen).id.substr(0, shown_of_an_id), client.uid,
              client.pid);
    client.session->send(message_to(request.id).text("event", "cancelled").line());
    executor_.cancel(chosen, options_.grace);
    forget_unstarted(chosen);
}

// Of several with the same id the first. Looked up, since a client may leave all of its
// hundred thousand requests one by one.
Asked* Server::waiting_request(Client& client, const std::string& id) {
    if (!client.by_id) {
        client.by_id.emplace();
        for (Asked& asked : client.asked)
            if (asked.waiting) asked.need_extras().place_by_id = know_by_id(client, asked);
    }
    const auto found = client.by_id->lower_bound(id);
    return found == client.by_id->end() || found->first != id ? nullptr : found->second;
}

std::multimap<std::string_view, Asked*>::iterator Server::know_by_id(Client& client, Asked& asked) {
    return client.by_id->emplace(asked.id, &asked);
}

// The client's own request of that id stops waiting; its answer says so.
void Server::leave(Client& client, const Request& request) {
    Asked* const asked = waiting_request(client, request.id);
    if (asked == nullptr) return refuse(client, request.id, "no_such_request", "no request of this id is waiting");
    client.session->send(message_to(request.id).text("event", "left").line());
    part(*asked);
}

// With others waiting, or nothing running yet, a signal means that this requester
// leaves; alone, it is for the command (SPEC R5).
void Server::signal(Client& client, const Request& request) {
    Asked* const asked = waiting_request(client, request.id);
    if (asked == nullptr) return refuse(client, request.id, "no_such_request", "no request of this id is waiting");
    const auto live = live_.find(asked->ticket.id());
    if (live == live_.end() || live->second.waiting > 1 || live->second.run->pid <= 0) return leave(client, request);
    client.session->send(message_to(request.id).text("event", "signalled").line());
    executor_.signal(live->first, request.signal);
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
    notify_service_manager("STOPPING=1");
    // Those who have connected already are answered.
    socket_.unlink();
    for (const Descriptor& listener : socket_.listeners()) accept_all(listener.get());
    accept_again_.reset();
    listeners_.clear();
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
        std::vector<Client*> served;
        for (const auto& [client, owned] : clients_) served.push_back(client);
        for (Client* const client : served) finish_if_served(*client);
    });
}

// Who has not read its answers by then is not waited for.
void Server::end_drain() {
    constexpr seconds to_read_the_end{1};
    if (executor_.flights().empty()) return drop_clients();
    log_.warn("flights still run; they are ended");
    executor_.cancel_all(options_.grace);
    drain_->start(options_.grace + to_read_the_end, [this] { drop_clients(); });
}

void Server::drop_clients() {
    for (const auto& [client, owned] : clients_) client->session->drop();  // they go on a later turn
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
    Server server(std::move(options), std::move(*socket), std::move(*own));
    return server.run();
}

}  // namespace coalesce
