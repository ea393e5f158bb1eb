// SPDX-License-Identifier: MIT
// The reception of both doors under many clients that do everything at any moment (SPEC S5).
//
// Clients connect, ask, acknowledge, leave, signal, cancel, give up, say half a line, read
// a byte or a block or nothing, shut one side down and close, in an order that a seed
// decides; the commands end, write much or little, or are never there, and descriptors
// are few. A model knows of each request whether it must be answered. It fails when a
// process that serves dies or reports anything (the sanitizers look on), when a request that was not left
// gets no final answer or two, when a message belongs to no request, and when anything is
// still waited for, or kept, after all have gone.
//
//   reception_model_test [STEPS [SEED]]
//
// A million steps, most of them at the server's door. Timing is the system's, so that a
// seed gives the same clients, not always the same end; a failure names its seed.

#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <list>
#include <map>
#include <random>
#include <set>

#include <coalesce/meeting/supervisor.h>
#include <coalesce/serve/server.h>

#include "client.h"

namespace coalesce::reception_test {
namespace {

using namespace std::chrono;

constexpr seconds patience{120};  // for a machine with other things to do

struct Chance {
    explicit Chance(std::uint64_t seed) : engine(seed) {}
    std::uint64_t below(std::uint64_t bound) { return engine() % bound; }
    bool one_in(std::uint64_t n) { return below(n) == 0; }
    std::mt19937_64 engine;
};

std::string about;  // what runs now, for a failure

[[noreturn]] void fail(const std::string& what) {
    std::fprintf(stderr, "reception: %s (%s)\n", what.c_str(), about.c_str());
    std::exit(1);
}

std::string scratch;

// A server or a supervisor, in a process of its own.
class Door {
  public:
    template <class Serve>
    explicit Door(Serve serve) : pid_(::fork()) {
        if (pid_ < 0) fail("cannot fork");
        if (pid_ > 0) return;
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // a failure leaves nothing behind
        std::exit(serve());
    }
    void tell(int number) const { ::kill(pid_, number); }
    /// How it ended, with nothing to keep it.
    int end() const {
        const auto until = steady_clock::now() + patience;
        int status = 0;
        while (::waitpid(pid_, &status, WNOHANG) == 0) {
            if (steady_clock::now() > until) {
                ::kill(pid_, SIGABRT);
                fail("it did not end");
            }
            ::poll(nullptr, 0, 1);
        }
        return status;
    }
    [[nodiscard]] bool dead() const {
        siginfo_t info{};
        return ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid != 0;
    }

  private:
    pid_t pid_;
};

// --- the server's clients

struct ServerClient {
    struct Asked {
        bool fd = false;
        bool stream = false;
        bool malformed = false;
    };
    explicit ServerClient(Descriptor connection) : wire(std::move(connection)) {}

    Wire wire;
    std::map<std::string, Asked> waiting;   // by id: those who must still be answered
    std::map<std::string, int> operations;  // by id: answers to leave, signal, cancel, ping …
    std::set<std::string> cut;              // asked for in half a line, perhaps
    struct Said {
        std::string id;
        bool operation;
    };
    std::map<std::size_t, Said> lines;  // by where in all that is said they end
    std::size_t said = 0;
    std::uint64_t unacknowledged = 0;
    int anonymous = 0;  // errors without an id that may come
    int next_id = 0;
    bool refused = false;  // for want of descriptors

    void say(const std::string& text, const std::string& id = {}, bool operation = false) {
        wire.say(text);
        said += text.size();
        lines[said] = {id, operation};
    }

    // Of what has not gone out nothing is answered, but for the line that is cut: that with an error, perhaps.
    void say_no_more() {
        const auto first = lines.upper_bound(said - wire.unsaid() + 1);  // a last line needs no newline
        for (auto it = first; it != lines.end(); ++it) {
            const auto& [id, operation] = it->second;
            if (it == first) cut.insert(id);
            if (!operation)
                waiting.erase(id);
            else if (--operations[id] == 0)
                operations.erase(id);
        }
        lines.clear();
        ++anonymous;
        wire.shut_down();
    }

    // Is that the id of the line that was cut, or what is left of it?
    bool takes_back(const std::string& id) {
        const auto found =
            std::find_if(cut.begin(), cut.end(), [&id](const auto& whole) { return whole.starts_with(id); });
        if (found == cut.end()) return false;
        cut.erase(found);
        return true;
    }

    [[nodiscard]] bool content() const { return waiting.empty() && operations.empty(); }
};

void hear(ServerClient& client, const std::string& line) {
    const auto message = Fields::parse(line);
    if (!message) fail("no message: " + line);
    const std::string id(message->raw("id"));
    const std::string event = message->text("event");
    const auto error = message->has("error") ? Fields::parse(message->raw("error")) : std::nullopt;
    const std::string code = error ? error->text("code") : "";
    const auto answer_operation = [&] {
        const auto found = client.operations.find(id);
        if (found == client.operations.end()) fail("answers what was not asked: " + line);
        if (--found->second == 0) client.operations.erase(found);
    };
    const auto end_request = [&] {
        const auto found = client.waiting.find(id);
        const bool malformed = found != client.waiting.end() && found->second.malformed;
        if (code == "bad_json" && !malformed && client.takes_back(id)) return;
        if (client.waiting.erase(id) == 0) fail("not asked, or ended before: " + line);
    };
    if (id.empty()) {
        client.refused = client.refused || code == "too_many_files";
        if (client.refused || client.anonymous-- > 0) return;
        fail("for nobody: " + line);
    }
    if (event == "started" || event == "stdout" || event == "stderr") {
        if (!client.waiting.contains(id)) fail("after its end, or for nobody: " + line);
        if (event == "started") return;
        if (message->has("offset"))
            ++client.unacknowledged;
        else
            client.wire.expect_raw(static_cast<std::uint64_t>(message->number("bytes")));
        return;
    }
    if (event == "left") {
        end_request();
        return answer_operation();
    }
    if (event == "signalled" || event == "ignored" || event == "cancelled" || message->has("protocol") ||
        message->has("flights") || message->has("waiting") || code == "no_such_request" || code == "no_such_flight" ||
        code == "ambiguous")
        return answer_operation();
    end_request();
}

constexpr std::array signals{SIGTERM, 0, SIGUSR1};

// Words of a command, some alike, so that there are those who join.
std::string command(Chance& chance) {
    switch (chance.below(10)) {
        case 0:
            return R"("argv":["true"])";
        case 1:
            return R"("line":"exit 3")";
        case 2:
            return R"("argv":["/nonexistent"])";
        case 3:
            return R"("argv":["head","-c","300000","/dev/zero"])";
        case 4:
            return R"("line":"echo out; echo err >&2; sleep 0.01; echo more")";
        case 5:
            return R"("line":"trap '' TERM; sleep 0.05")";
        default:
            return R"("argv":["sleep","0.0)" + std::to_string(chance.below(6)) + "\"]";
    }
}

void ask_server(ServerClient& client, Chance& chance) {
    static constexpr std::array modes{"whole", "stream", "fd", "none"};
    const std::string id = std::to_string(client.next_id++);
    std::string request = "{\"id\":" + id + "," + command(chance);
    const std::string mode = modes[chance.below(modes.size())];
    request += R"(,"output":")" + mode + R"(","scope":")" + std::to_string(chance.below(6)) + "\"";
    if (chance.one_in(4)) request += R"(,"keep_running":true)";
    if (chance.one_in(4)) request += R"(,"wait":0.0)" + std::to_string(chance.below(50));
    if (chance.one_in(6)) request += R"(,"fresh":true)";
    if (chance.one_in(6)) request += R"(,"timeout":0.0)" + std::to_string(1 + chance.below(9));
    if (chance.one_in(3)) request += R"(,"quiet":true)";
    if (chance.one_in(8)) request += R"(,"stdin":"x")";
    if (chance.one_in(6)) request += R"(,"ttl":0.0)" + std::to_string(1 + chance.below(9));
    if (chance.one_in(30)) request += R"(,"nonsense":1)";
    request += R"(,"grace":0.02})"
               "\n";
    client.waiting[id] = {.fd = mode == "fd", .stream = mode == "stream"};
    client.say(request, id);
}

std::string any_of(const std::map<std::string, ServerClient::Asked>& waiting, Chance& chance) {
    return waiting.empty()
               ? "0"
               : std::next(waiting.begin(), static_cast<std::ptrdiff_t>(chance.below(waiting.size())))->first;
}

void operate(ServerClient& client, Chance& chance) {
    std::string id = std::to_string(client.next_id++);
    std::string rest;
    switch (chance.below(6)) {
        case 0:
            id = any_of(client.waiting, chance);
            rest = R"("op":"leave"})";
            break;
        case 1:
            id = any_of(client.waiting, chance);
            rest = R"("op":"signal","signal":)" + std::to_string(signals[chance.below(signals.size())]) + "}";
            break;
        case 2:
            rest = R"("op":"cancel","flight":")" + std::string(1, "0123456789abcdef"[chance.below(16)]) + "\"}";
            break;
        case 3:
            rest = R"("op":"status"})";
            break;
        case 4:
            rest = R"("op":"stats"})";
            break;
        default:
            rest = R"("op":"ping"})";
    }
    ++client.operations[id];
    client.say("{\"id\":" + id + "," + rest + "\n", id, true);
}

constexpr std::size_t clients_max = 48;

class ServerStorm {
  public:
    ServerStorm(std::uint64_t seed, std::size_t descriptors)
        : chance_(seed),
          path_(scratch + "/server"),
          listener_(listen()),
          door_([this, descriptors] { return serve_here(descriptors); }) {
        listener_.reset();
    }

    void run(std::size_t steps) {
        for (std::size_t i = 0; i < steps; ++i) {
            step();
            if (i % 1024 == 0 && door_.dead()) fail("the server died");
        }
        finish();
    }

  private:
    Descriptor listen() {
        ::unlink(path_.c_str());
        Descriptor listener(::socket(AF_UNIX, SOCK_STREAM, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::memcpy(address.sun_path, path_.c_str(), path_.size());
        if (::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
            ::listen(listener.get(), 4096) != 0)
            fail("cannot listen");
        return listener;
    }

    // As systemd would start it, so that it need not be waited for.
    int serve_here(std::size_t descriptors) {
        ::dup2(listener_.get(), 3);
        ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
        ::setenv("LISTEN_FDS", "1", 1);
        const rlimit few{.rlim_cur = descriptors, .rlim_max = descriptors};
        ::setrlimit(RLIMIT_NOFILE, &few);
        ServerOptions options;
        options.executor.jobs = 4;
        options.executor.spool.replay_bytes = 64 * 1024;
        options.requesters_max = 200;
        options.queue_max = 20;
        options.grace = milliseconds(20);
        options.stall = milliseconds(10);
        options.log_level = "off";
        options.cache_directory = scratch + "/store";
        auto ended = serve(std::move(options));
        if (!ended) std::fprintf(stderr, "cannot %s\n", ended.error().message().c_str());
        return ended ? *ended : 125;
    }

    void step() {
        if (clients_.empty() || (clients_.size() < clients_max && chance_.one_in(60))) {
            if (Descriptor connection = connect_to(path_)) clients_.emplace_back(std::move(connection));
            return;
        }
        const auto at = std::next(clients_.begin(), static_cast<std::ptrdiff_t>(chance_.below(clients_.size())));
        ServerClient& client = *at;
        const auto dice = chance_.below(1000);
        if (dice >= 990) {
            if (chance_.one_in(3)) clients_.erase(at);  // closes, whatever is on its way
        } else if (dice >= 600) {
            if (!read(client, 1 + chance_.below(chance_.one_in(4) ? 9 : 20'000))) clients_.erase(at);
        } else if (dice >= 200) {
            client.wire.push(1 + chance_.below(chance_.one_in(3) ? 7 : 500));
        } else if (!client.wire.sending()) {
            return;
        } else if (dice >= 195) {
            client.say_no_more();
        } else if (dice >= 145) {
            if (client.wire.unsaid() == 0) acknowledge(client);
        } else if (dice >= 140) {
            const std::string id = std::to_string(client.next_id++);
            client.waiting[id] = {.malformed = true};
            client.say("{\"id\":" + id + ",]\n", id);
        } else if (dice >= 110) {
            operate(client, chance_);
        } else if (client.waiting.size() < 20) {
            ask_server(client, chance_);
        }
    }

    static void acknowledge(ServerClient& client) {
        client.say("\n");
        client.unacknowledged -= std::min<std::uint64_t>(client.unacknowledged, 1);
    }

    // False: the connection is over.
    bool read(ServerClient& client, std::size_t most) {
        switch (client.wire.pull(most, [&client](const std::string& line) { hear(client, line); })) {
            case Wire::Came::end:
            case Wire::Came::reset:
                if (!client.content() && !client.refused) fail_unanswered(client);
                return false;
            default:
                return true;
        }
    }

    [[noreturn]] static void fail_unanswered(const ServerClient& client) {
        fail("the connection ended with " + std::to_string(client.waiting.size()) + " requests and " +
             std::to_string(client.operations.size()) + " operations unanswered");
    }

    // All say what they have begun, read on and acknowledge until nobody waits.
    void finish() {
        const auto until = steady_clock::now() + patience;
        while (!clients_.empty()) {
            if (steady_clock::now() > until) fail(state());
            std::array<pollfd, clients_max> ready{};
            std::size_t count = 0;
            for (auto it = clients_.begin(); it != clients_.end();) {
                ServerClient& client = *it;
                client.wire.push(1 << 20);
                while (client.wire.sending() && client.unacknowledged > 0) acknowledge(client);
                bool over = !read(client, 1 << 20);
                if (!over && client.wire.sending() && client.wire.unsaid() == 0 && client.content()) over = true;
                if (!over)
                    ready[count++] = {
                        .fd = client.wire.fd(),
                        .events = static_cast<short>(client.wire.unsaid() > 0 ? POLLIN | POLLOUT : POLLIN),
                        .revents = 0};
                it = over ? clients_.erase(it) : std::next(it);
            }
            if (!clients_.empty()) ::poll(ready.data(), count, 100);
        }
        expect_nothing_left(until);
        door_.tell(SIGTERM);
        if (const int status = door_.end(); status != 0) fail("the server ended with status " + std::to_string(status));
    }

    void expect_nothing_left(steady_clock::time_point until) {
        while (true) {
            if (steady_clock::now() > until) fail("something is left: " + last_stats_);
            Descriptor connection = connect_to(path_);
            if (!connection) fail("cannot connect any more");
            Wire wire(std::move(connection));
            wire.say("{\"op\":\"stats\"}\n");
            wire.push(100);
            std::string answer;
            while (answer.empty()) {
                pollfd ready{.fd = wire.fd(), .events = POLLIN, .revents = 0};
                ::poll(&ready, 1, 1000);
                const auto came = wire.pull(10'000, [&answer](const std::string& line) { answer = line; });
                if (came == Wire::Came::end || came == Wire::Came::reset) break;
                if (steady_clock::now() > until) fail("it answers nobody");
            }
            last_stats_ = answer;
            const auto stats = Fields::parse(answer);
            if (stats && stats->number("clients") == 1 && stats->number("waiting") == 0 &&
                stats->number("running") == 0 && stats->number("queued") == 0)
                return;
            ::poll(nullptr, 0, 5);
        }
    }

    std::string state() const {
        std::string text = std::to_string(clients_.size()) + " clients wait for ever:";
        for (const ServerClient& client : clients_) {
            text += client.wire.sending() ? " [" : " [half-closed ";
            for (const auto& [id, asked] : client.waiting)
                text += id + (asked.fd ? "fd " : asked.stream ? "stream " : " ");
            for (const auto& [id, count] : client.operations) text += "op" + id + " ";
            text += "unsaid " + std::to_string(client.wire.unsaid()) + "]";
        }
        return text;
    }

    Chance chance_;
    const std::string path_;
    Descriptor listener_;
    Door door_;
    std::list<ServerClient> clients_;
    std::string last_stats_;
};

// --- a supervisor's clients: one request a connection, without an id

struct SupervisorClient {
    explicit SupervisorClient(Descriptor connection, bool joined = false)
        : wire(std::move(connection)), asked(joined) {}
    Wire wire;
    bool asked;          // to join
    bool heard = false;  // anything of that
    bool ended = false;  // the final answer
    bool told_to_leave = false;
    bool left = false;  // its request has ended so; the connection takes no other
    std::uint64_t unacknowledged = 0;
};

class SupervisorStorm {
  public:
    explicit SupervisorStorm(std::uint64_t seed)
        : chance_(seed),
          key_(key_of(seed)),
          orders_(orders()),
          path_(scratch + "/place/" + key_ + ".sock"),
          door_(start()) {}

    void run(std::size_t steps) {
        for (std::size_t i = 0; i < steps && !over_; ++i) step();
        finish();
    }

  private:
    static std::string key_of(std::uint64_t seed) {
        char digits[33];
        std::snprintf(digits, sizeof digits, "%032llx", static_cast<unsigned long long>(seed));
        return digits;
    }

    FlightOrders orders() {
        static const std::array<std::vector<std::string>, 7> commands{
            std::vector<std::string>{"true"},
            {"sleep", "0.01"},
            {"sleep", "0.03"},
            {"head", "-c", "300000", "/dev/zero"},
            {"/nonexistent"},
            {"sh", "-c", "echo out; sleep 0.01; echo err >&2; exit 3"},
            {"sh", "-c", "trap '' TERM; echo deaf; sleep 0.05"}};
        FlightOrders orders;
        orders.command.argv = commands[chance_.below(commands.size())];
        orders.command.surroundings = std::make_shared<Surroundings>(
            Surroundings{.cwd = {}, .env = {"PATH=" + std::string(std::getenv("PATH"))}, .umask = 022});
        if (chance_.one_in(6)) orders.command.stdin_bytes = "input";
        orders.title = "a command";
        orders.key = key_;
        orders.canonical_words = "words";
        orders.limits.grace = milliseconds(20);
        orders.stall = milliseconds(10);
        if (chance_.one_in(4)) orders.limits.timeout = milliseconds(1 + chance_.below(40));
        if (chance_.one_in(2)) orders.replay_bytes = 64 * 1024;
        orders.keep_running = chance_.one_in(5);
        orders.verbose = chance_.one_in(2);
        orders.heir = chance_.one_in(8);
        return orders;
    }

    Door start() {
        auto places = MeetingPlaces::open({}, scratch + "/place");
        if (!places) fail(places.error().message());
        auto place = places->join_or_lead(key_, false);
        if (!place || !std::holds_alternative<MeetingPlaces::Leading>(*place)) fail("cannot lead");
        Descriptor listener = std::move(std::get<MeetingPlaces::Leading>(*place).listener);
        int ends[2];
        if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) fail("cannot make a pair");
        Descriptor ours(ends[0]);
        Descriptor theirs(ends[1]);
        const rlim_t most = chance_.one_in(3) ? supervisors_descriptors + 4 : 256;
        Door door([&] {
            ours.reset();
            const rlimit few{.rlim_cur = most, .rlim_max = most};
            ::setrlimit(RLIMIT_NOFILE, &few);
            (void)supervise(orders_, std::move(*places), std::move(listener), std::move(theirs), ::getppid(), nullptr);
            return 0;
        });
        clients_.emplace_back(std::move(ours), true);
        return door;
    }

    void step() {
        if (clients_.empty() || (clients_.size() < clients_max && chance_.one_in(12))) {
            if (Descriptor connection = connect_to(path_))
                clients_.emplace_back(std::move(connection));
            else
                over_ = clients_.empty();
            return;
        }
        const auto at = std::next(clients_.begin(), static_cast<std::ptrdiff_t>(chance_.below(clients_.size())));
        SupervisorClient& client = *at;
        const auto dice = chance_.below(1000);
        if (dice >= 980) {
            if (chance_.one_in(2)) clients_.erase(at);
        } else if (dice >= 550) {
            if (!read(client, 1 + chance_.below(chance_.one_in(4) ? 9 : 5000))) clients_.erase(at);
        } else if (dice >= 250) {
            client.wire.push(1 + chance_.below(chance_.one_in(3) ? 7 : 500));
        } else if (!client.wire.sending()) {
            return;
        } else if (dice >= 243) {
            client.asked = client.asked && client.wire.unsaid() == 0;  // else it was half a question, perhaps
            client.wire.shut_down();
        } else if (dice >= 190) {
            acknowledge(client);
        } else if (dice >= 130) {
            ask(client);
        } else {
            operate(client);
        }
    }

    static void acknowledge(SupervisorClient& client) {
        client.wire.say("\n");
        client.unacknowledged -= std::min<std::uint64_t>(client.unacknowledged, 1);
    }

    void ask(SupervisorClient& client) {
        client.asked = !client.left;  // a second time is not heard
        client.wire.say(Message()
                            .text("op", "join")
                            .flag("fresh", chance_.one_in(4))
                            .flag("keep_running", chance_.one_in(5))
                            .flag("quiet", chance_.one_in(2))
                            .flag("heir", chance_.one_in(8))
                            .text("on_behalf_of", chance_.one_in(2) ? "" : key_)
                            .line());
    }

    void operate(SupervisorClient& client) {
        switch (chance_.below(12)) {
            case 0:
                client.told_to_leave = true;
                return client.wire.say(
                    Message().text("op", "signal").number("signal", chance_.one_in(2) ? 15 : 0).line());
            case 1:
                if (chance_.one_in(4))
                    client.wire.say(Message()
                                        .text("op", "cancel")
                                        .text("flight", std::string(1, "0123456789abcdef"[chance_.below(16)]))
                                        .line());
                return;
            case 2:
                return client.wire.say("{\"op\":\"key\"}\n");
            case 3:
                return client.wire.say("{\"op\":\"waiters\"}\n");
            case 4:
                return client.wire.say("{\"op\":\"status\"}\n");
            case 5:
                return client.wire.say("{\"op\":\"dance\",[[\n");
            default:
                return;
        }
    }

    void hear(SupervisorClient& client, const std::string& line) {
        const auto message = Fields::parse(line);
        if (!message) fail("no message: " + line);
        const std::string event = message->text("event");
        const auto error = message->has("error") ? Fields::parse(message->raw("error")) : std::nullopt;
        const std::string code = error ? error->text("code") : "";
        const bool final_error = code == "cancelled" || code == "too_many_files" || code == "no_space" ||
                                 code == "stalled" || code == "output_too_long";
        if ((event.empty() && !final_error) || event == "cancelled" || event == "signalled" || event == "ignored")
            return;  // of an operation
        if (event == "left") {
            if (!client.told_to_leave) fail("left unasked: " + line);
            client.asked = false;
            client.left = true;
            return;
        }
        if (client.ended) fail("after its end: " + line);
        client.heard = true;
        if (event == "stdout" || event == "stderr") ++client.unacknowledged;
        client.ended = event == "exit" || event == "again" || message->has("error");
    }

    // False: the connection is over.
    bool read(SupervisorClient& client, std::size_t most) {
        switch (client.wire.pull(most, [&](const std::string& line) { hear(client, line); })) {
            case Wire::Came::end:
            case Wire::Came::reset:
                // Who was never let in finds the connection reset, and asks again.
                if (client.asked && client.heard && !client.ended) fail("the connection ended without a final answer");
                return false;
            default:
                return true;
        }
    }

    // Those who have asked read on until they are answered, and all others go.
    void finish() {
        const auto until = steady_clock::now() + patience;
        while (!clients_.empty()) {
            if (steady_clock::now() > until) fail(std::to_string(clients_.size()) + " wait for ever");
            std::array<pollfd, clients_max + 1> ready{};
            std::size_t count = 0;
            for (auto it = clients_.begin(); it != clients_.end();) {
                SupervisorClient& client = *it;
                while (client.wire.sending() && client.unacknowledged > 0) acknowledge(client);
                client.wire.push(1 << 20);
                bool over = !read(client, 1 << 20);
                if (!over && !client.asked) over = true;
                if (!over)
                    ready[count++] = {
                        .fd = client.wire.fd(),
                        .events = static_cast<short>(client.wire.unsaid() > 0 ? POLLIN | POLLOUT : POLLIN),
                        .revents = 0};
                it = over ? clients_.erase(it) : std::next(it);
            }
            if (!clients_.empty()) ::poll(ready.data(), count, 100);
        }
        if (const int status = door_.end(); status != 0)
            fail("the supervisor ended with status " + std::to_string(status));
        struct stat info {};
        if (::stat(path_.c_str(), &info) == 0) fail("it left its socket");
    }

    Chance chance_;
    const std::string key_;
    const FlightOrders orders_;
    const std::string path_;
    std::list<SupervisorClient> clients_;
    bool over_ = false;
    Door door_;
};

int run(std::uint64_t steps, std::uint64_t seed) {
    char directory[] = "/tmp/coalesce-reception-XXXXXX";
    if (::mkdtemp(directory) == nullptr) fail("cannot make a directory");
    scratch = directory;
    ::signal(SIGPIPE, SIG_IGN);
    constexpr std::uint64_t of_a_server = 100'000;
    constexpr std::uint64_t of_a_supervisor = 400;
    std::uint64_t done = 0;
    for (std::uint64_t round = 0; done < steps; ++round) {
        about = "server, seed " + std::to_string(seed) + " round " + std::to_string(round);
        ServerStorm(seed + round, round % 2 == 0 ? 80 : 400).run(of_a_server);
        done += of_a_server;
        for (int i = 0; i < 10; ++i) {
            about = "supervisor, seed " + std::to_string(seed) + " round " + std::to_string(round) + " number " +
                    std::to_string(i);
            SupervisorStorm(seed + round * 1000 + static_cast<std::uint64_t>(i)).run(of_a_supervisor);
            done += of_a_supervisor;
        }
    }
    std::filesystem::remove_all(scratch);
    std::printf("%llu steps, seed %llu\n", static_cast<unsigned long long>(done),
                static_cast<unsigned long long>(seed));
    return 0;
}

}  // namespace
}  // namespace coalesce::reception_test

int main(int argc, char** argv) {
    const std::uint64_t steps = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1'000'000;
    const std::uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : std::random_device{}();
    std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
    std::fflush(stdout);
    return coalesce::reception_test::run(steps, seed);
}
