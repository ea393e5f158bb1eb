// SPDX-License-Identifier: MIT
#include <coalesce/meeting/requester.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <set>
#include <utility>
#include <vector>

#include <coalesce/command/ancestry.h>
#include <coalesce/command/duration.h>
#include <coalesce/command/insistence.h>
#include <coalesce/command/outcome.h>
#include <coalesce/command/title.h>
#include <coalesce/io/unix_socket.h>
#include <coalesce/meeting/ask.h>
#include <coalesce/meeting/attention.h>
#include <coalesce/meeting/connection.h>
#include <coalesce/meeting/flights_above.h>
#include <coalesce/meeting/kept_answer.h>
#include <coalesce/meeting/output_relay.h>
#include <coalesce/meeting/refresh.h>
#include <coalesce/meeting/supervisor_process.h>
#include <coalesce/meeting/tail.h>
#include <coalesce/meeting/wait_words.h>
#include <coalesce/protocol/base64.h>
#include <coalesce/protocol/message.h>
#include <coalesce/protocol/request_line.h>

namespace coalesce {
namespace {

using namespace std::chrono;

// A command that kills its supervisor, or takes all its memory, would be run again
// for ever.
constexpr int bereavements_max = 3;

// A supervisor that has served everybody ends at once; one that still serves others, syncs
// what it keeps, or was stopped, is not waited for.
constexpr milliseconds end_of_supervisor_alone{1000};
constexpr milliseconds end_of_supervisor{20};

// Whoever has not read by then that we were told to end does not read at all.
constexpr milliseconds hearing{1000};

// What was killed is gone in no time, unless it is frozen, or waits for a disk.
constexpr seconds end_of_leftovers{10};

// Itself and one that asks. Without, it would start the command only to die.
bool supervisor_has_descriptors() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_max > supervisors_descriptors) return true;
    errno = EMFILE;
    return false;
}

std::string counted_others(std::int64_t count) { return std::to_string(count) + (count == 1 ? " other" : " others"); }

// The whole request, for a server that knows nothing of us.
std::string server_request(const RunOptions& options, bool quiet) {
    const FlightOrders& orders = options.orders;
    Request request;
    request.line = orders.line;
    if (!orders.line) request.argv = orders.command.argv;
    request.cwd = orders.command.surroundings->cwd;
    request.env = orders.command.surroundings->env;
    request.umask = orders.command.surroundings->umask;
    request.terminal = orders.command.surroundings->terminal;
    request.run_class = orders.run_class;
    request.stdin_bytes = orders.command.stdin_bytes;
    request.key = options.rules.key;
    request.scope = options.rules.scope;
    request.ignore_env = options.rules.ignore_env;
    request.only_env = options.rules.only_env;
    request.ignore_cwd = options.rules.ignore_cwd;
    request.ignore_namespaces = options.rules.ignore_namespaces;
    request.no_share = options.rules.no_share;
    request.fresh = options.fresh;
    request.wish = options.wish;
    request.timeout = orders.timeout;
    if (options.own_grace) request.grace = orders.grace;
    request.keep_running = orders.keep_running;
    request.output = Request::Output::fd;
    request.quiet = quiet;
    return request_line(request);
}

// A flight's socket is its leader's, as far as the kernel knows.
bool in_session_of_peer(int connection) {
    ucred peer{};
    socklen_t length = sizeof peer;
    return ::getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid > 0 &&
           ::getsid(peer.pid) == ::getsid(0);
}

WaitWords::Now this_moment() { return {.steady = steady_clock::now(), .wall = system_clock::now()}; }

class Requester {
  public:
    Requester(RunOptions options, std::optional<MeetingPlaces> places)
        : options_(std::move(options)),
          places_(std::move(places)),
          quiet_(!options_.verbose && options_.orders.ancestry.empty() && ::isatty(STDERR_FILENO) == 0),
          wait_(options_.verbose) {}

    Result<RunEnd> run();

  private:
    enum class Next { ended, again, supervisor_died };

    Result<Descriptor> get_connection();
    bool rest(milliseconds pause);
    [[nodiscard]] std::string joining_line() const;
    Result<Descriptor> lead(Descriptor listener);
    bool serve_kept();
    void tell_of_keeping(const Fields& message);
    void keep_without_us(Connection& connection);
    Next converse(Connection& connection);
    std::optional<std::string> next_line(Connection& connection);
    Next on_message(Connection& connection, const Fields& message);
    void on_supervisors_death();
    bool pass_on(Connection& connection, const Fields& message, int to);
    bool take_for_tail(int file, Stream stream, const Stretch& stretch);
    bool is_to_leave(Connection& connection);
    bool on_call(Connection& connection);
    void give_up();
    void leave_server(Connection& connection);
    void tell_of_kept(const Fields& message);
    void leave_unheard(const Connection& connection);
    bool asks_for_itself(const Connection& connection);
    bool waits_for_itself();
    void refuse_to_wait();
    bool refuse_to_wait_for_itself();
    [[nodiscard]] int poll_timeout() const;
    void on_time();
    void reap(milliseconds patience);
    void end_with(int status, int die_of = 0) {
        end_ = {status, die_of};
        ended_ = true;
    }
    void end_of_signal(int number) { end_with(128 + number, number); }
    void say(const std::string& sentence) { relay_.say("coalesce: " + sentence + "\n"); }

    RunOptions options_;
    std::optional<MeetingPlaces> places_;  // none: a server is asked
    bool quiet_;  // no use for word of the start: it is shown, after a second on a terminal, or looked at for a ring
    OutputRelay relay_;
    std::optional<Tail> tail_;  // of the run that we are at
    RunEnd end_;
    bool ended_ = false;
    bool led_ = false;
    bool looked_above_ = false;
    pid_t supervisor_ = -1;            // our child, if we led, until it is reaped
    milliseconds supervisors_end_{0};  // for how long it is waited for
    bool kept_ = false;                // it is answered without a run
    bool output_hung_up_ = false;
    Insistence insistence_;
    bool signal_passed_on_ = false;
    std::optional<steady_clock::time_point> heard_by_;  // when what we passed on should have been read
    std::deque<std::string> deferred_;                  // lines that came while we could not move output
    int bereavements_ = 0;                              // supervisors that died before they gave us anything
    WaitWords wait_;  // begun where it matters: a program's first look at the clock takes as long as 40 system calls
};

Result<RunEnd> Requester::run() {
    Attention::begin();
    // As PID 1 we are given every process whose parent has gone. Ignored like this, the kernel reaps them (SPEC F13).
    if (::getpid() == 1) ::signal(SIGCHLD, SIG_IGN);
    if (!quiet_) wait_.begin(steady_clock::now());
    if (options_.wait) Attention::until(steady_clock::now() + *options_.wait);
    if (options_.verbose && places_ && !places_->passed_over().empty())
        say("there is no " + places_->passed_over() + ", which XDG_RUNTIME_DIR names; the meeting place is " +
            places_->own().path());
    const std::string for_a_server = places_ ? std::string() : server_request(options_, quiet_);
    while (!ended_) {
        auto connected = get_connection();
        if (!connected) return connected.error();
        if (ended_) break;
        Connection connection(std::move(*connected));
        if (!led_ && asks_for_itself(connection)) break;
        if (!led_)
            connection.send(places_ ? joining_line()
                                    : for_a_server);  // ready, so that it is there when we are accepted
        switch (converse(connection)) {
            case Next::ended:
                break;
            case Next::again:
                options_.fresh = options_.fresh && options_.orders.cluster;
                break;  // what starts now is fresh for us, unless it is followed from elsewhere
            case Next::supervisor_died:
                on_supervisors_death();
        }
    }
    if (supervisors_end_.count() > 0) reap(supervisors_end_);
    return end_;
}

void Requester::on_supervisors_death() {
    reap(end_of_supervisor_alone);
    if (!places_) {
        say("the server at " + options_.socket + " went away");
        end_with(125);
    } else if (relay_.passed() > 0) {
        say("the process that supervised " + options_.orders.title +
            " died, and part of its output has been passed on");
        end_with(125);
    } else if (++bereavements_ == bereavements_max) {
        say("the processes that supervised " + options_.orders.title + " died, " + std::to_string(bereavements_) +
            " in a row");
        end_with(125);
    } else {
        options_.orders.heir = true;
        options_.fresh = options_.fresh && options_.orders.cluster;  // what starts here now is fresh for us
    }
}

// Where nobody else reaps orphans, as under many a container's first process, it would stay
// a zombie for ever.
void Requester::reap(milliseconds patience) {
    if (supervisor_ < 0) return;
    const Attention::Restless bounded(patience);
    while (::waitpid(supervisor_, nullptr, 0) < 0 && errno == EINTR)
        if (Attention::called()) return;
    supervisor_ = -1;
}

std::string Requester::joining_line() const {
    Message message;
    message.text("op", "join")
        .flag("fresh", options_.fresh)
        .flag("keep_running", options_.orders.keep_running)
        .flag("quiet", quiet_)
        .flag("heir", options_.orders.heir);
    if (options_.orders.kept) add_kept_orders(message, *options_.orders.kept);
    const std::string& ancestry = options_.orders.ancestry;
    if (looked_above_ || !ancestry.empty()) message.text("on_behalf_of", std::string(nearest_flight(ancestry)));
    return message.line();
}

// Nobody has our request yet: a signal, or the end of our patience, is the end.
bool Requester::rest(milliseconds pause) {
    Attention::wait({}, static_cast<int>(pause.count()));
    while (Attention::take_user_signal()) {
    }
    if (Attention::out_of_time())
        give_up();
    else if (const auto number = Attention::take_signal())
        end_of_signal(*number);
    return !ended_;
}

// Empty when we have ended instead.
Result<Descriptor> Requester::get_connection() {
    using Busy = MeetingPlaces::Busy;
    std::optional<steady_clock::time_point> leftovers_until;
    bool over_leftovers = false;
    for (milliseconds pause(1); !ended_; pause = std::min(pause * 2, milliseconds(16))) {
        if (!places_) {
            auto connected = connect_to(options_.socket);
            if (connected) return connected;
            if (connected.error().code != std::errc::resource_unavailable_try_again)
                return Error{connected.error().code, "reach the server at " + options_.socket};
        } else {
            auto way = places_->join_or_lead(options_.orders.key, over_leftovers);
            if (!way) return way.error();
            led_ = std::holds_alternative<MeetingPlaces::Leading>(*way);
            if (led_ && serve_kept()) break;  // it was made since we looked (SPEC T13)
            if (led_) return lead(std::move(std::get<MeetingPlaces::Leading>(*way).listener));
            if (auto* joined = std::get_if<MeetingPlaces::Joined>(&*way)) return std::move(joined->connection);
            if (std::get<Busy>(*way) == Busy::leftovers) {
                if (!leftovers_until) leftovers_until = steady_clock::now() + end_of_leftovers;
                over_leftovers = steady_clock::now() >= *leftovers_until;
                if (over_leftovers)
                    say("what an earlier run of " + options_.orders.title +
                        " left behind does not end; a new one is started beside it");
            }
        }
        if (!rest(pause)) break;
    }
    return Descriptor();
}

Result<Descriptor> Requester::lead(Descriptor listener) {
    const pid_t leader = ::getpid();
    options_.orders.fresh = options_.fresh;
    auto ends = connected_pair();
    supervisor_ = ends && supervisor_has_descriptors() ? ::fork() : -1;
    if (supervisor_ < 0) {
        const Error refused = system_error_now("start a supervisor");
        places_->own().leave(options_.orders.key);
        return refused;
    }
    if (supervisor_ > 0) return std::move(ends->one);
    become_supervisor(std::move(options_.orders), std::move(*places_), std::move(listener), std::move(ends->other),
                      leader);
}

// True: we have ended with what was kept. Our place is given back before we tell anybody.
bool Requester::serve_kept() {
    if (!options_.orders.kept) return false;
    auto found = find_kept(options_.orders);
    if (!found) return false;
    places_->own().leave(options_.orders.key);
    end_ = pass_on_kept(options_, *found, relay_);
    if (found->hit.verdict.refresh)
        start_refresh(options_.orders, options_.orders.command.surroundings->env, options_.place);
    return ended_ = true;
}

// Our reader is gone; the run is to go on for the store (SPEC T8).
void Requester::keep_without_us(Connection& connection) {
    if (places_ && options_.orders.kept && options_.orders.kept->wish.keeps())
        connection.send(Message().text("op", "keep").line());
}

// It is from the server's store: nothing runs.
void Requester::tell_of_kept(const Fields& message) {
    kept_ = true;
    const auto kept = Fields::parse(message.raw("kept"));
    if (!options_.verbose || !kept) return;
    const std::string made_in = kept->has("directory_base64") ? from_base64(kept->text("directory_base64")).value_or("")
                                                              : kept->text("directory");
    const auto duration_of = [](const Fields& fields, std::string_view name) {
        return format_duration(milliseconds(static_cast<std::int64_t>(fields.seconds(name) * 1000)));
    };
    say("kept result of " + options_.orders.title + ", " + duration_of(*kept, "age") + " old, made in " +
        title(std::string_view(made_in)) + " (ran " + duration_of(message, "duration") + ")" +
        (kept->flag("refreshing") ? ", refreshing" : ""));
}

// What came of the wish to keep: with -v, and always where the store could not be written (SPEC T15, T24).
void Requester::tell_of_keeping(const Fields& message) {
    const std::string words = message.text("keeping");
    if (!words.empty() && (options_.verbose || message.flag("keeping_failed"))) say(words);
}

int Requester::poll_timeout() const {
    const auto tells = relay_.passed() == 0 ? wait_.due() : std::nullopt;
    if (!heard_by_ && !tells) return -1;
    auto until = steady_clock::time_point::max();
    if (heard_by_) until = *heard_by_;
    if (tells) until = std::min(until, *tells);
    const auto left = duration_cast<milliseconds>(until - steady_clock::now()) + milliseconds(1);
    return static_cast<int>(std::max(left, milliseconds(0)).count());
}

std::optional<std::string> Requester::next_line(Connection& connection) {
    if (deferred_.empty()) return connection.next_line();
    std::string line = std::move(deferred_.front());
    deferred_.pop_front();
    return line;
}

Requester::Next Requester::converse(Connection& connection) {
    bool heard = false;
    heard_by_.reset();
    if (options_.tail) tail_.emplace(*options_.tail, options_.orders.spool_directory);
    while (true) {
        while (auto line = next_line(connection)) {
            heard = true;
            const auto message = Fields::parse(*line);
            if (!message) continue;
            const Next next = on_message(connection, *message);
            if (next == Next::again || ended_) return next;
        }
        if (Attention::called() && on_call(connection)) return Next::ended;
        // A pipe without a reader shows as an error; the command may not write for long.
        // Before it has written it knows nothing of that, and neither do we.
        const bool watch_reader = relay_.passed() > 0 && !output_hung_up_;
        const short wanted = static_cast<short>(POLLIN | (connection.unsent() ? POLLOUT : 0));
        std::array<pollfd, 2> watched{{{.fd = connection.fd(), .events = wanted, .revents = 0},
                                       {.fd = watch_reader ? STDOUT_FILENO : -1, .events = 0, .revents = 0}}};
        const int timeout = poll_timeout();
        const int ready = Attention::wait(watched, timeout);
        if (timeout >= 0 && poll_timeout() == 0) on_time();  // also while messages keep coming
        leave_unheard(connection);
        if (ended_) return Next::ended;
        if (ready == 0) continue;
        if ((watched[1].revents & POLLERR) != 0 || (watched[1].revents != 0 && ::isatty(STDOUT_FILENO) == 0)) {
            keep_without_us(connection);
            end_of_signal(SIGPIPE);
            return Next::ended;
        }
        if (watched[1].revents != 0) output_hung_up_ = true;  // a terminal that is gone: it would show for ever
        if ((watched[0].revents & POLLOUT) != 0) connection.flush();
        if ((watched[0].revents & ~POLLOUT) == 0 || connection.receive()) continue;
        // Where it did not read what we asked it had gone already, or closes its doors.
        return connection.reset() && !heard && !led_ && places_ ? Next::again : Next::supervisor_died;
    }
}

void Requester::on_time() {
    if (relay_.passed() > 0) return;
    const std::string words = wait_.say_due(this_moment());
    if (!words.empty() && (options_.verbose || ::isatty(STDERR_FILENO) != 0)) say(words);
}

Requester::Next Requester::on_message(Connection& connection, const Fields& message) {
    const std::string event = message.text("event");
    if (event == "stdout" || event == "stderr") {
        if (!pass_on(connection, message, event == "stdout" ? STDOUT_FILENO : STDERR_FILENO)) return Next::ended;
        connection.send("\n");
    } else if (event == "started") {
        if (message.flag("joined") && refuse_to_wait_for_itself()) return Next::ended;
        if (message.has("kept"))
            tell_of_kept(message);
        else if (const std::string words = wait_.started(message, options_.orders.title, this_moment()); !words.empty())
            say(words);
    } else if (event == "notice") {
        say(message.text("message"));
    } else if (event == "waiting") {
        if (refuse_to_wait_for_itself()) return Next::ended;
        if (const std::string words = wait_.waiting(message, options_.orders.title, this_moment()); !words.empty())
            say(words);
    } else if (event == "again") {
        return Next::again;
    } else if (message.has("error")) {
        const auto error = Fields::parse(message.raw("error"));
        say(error ? error->text("message") : "the server refused");
        supervisors_end_ = end_of_supervisor;
        end_with(125);
    } else if (event == "left") {
        end_of_signal(Attention::last_signal());
    } else if (event == "exit") {
        if (tail_)
            if (const auto end = tail_->pass_on(options_.orders.title, relay_)) {
                end_with(end->status, end->die_of);
                return Next::ended;
            }
        const std::string words = message.text("message");
        if (!words.empty()) relay_.say(words);
        tell_of_keeping(message);
        const bool has_more_to_do = message.number("requesters") > 1 || message.has("keeping");
        supervisors_end_ = has_more_to_do ? end_of_supervisor : end_of_supervisor_alone;
        if (options_.verbose && !kept_)
            say("shared with " + counted_others(message.number("requesters") - 1) + ", ran for " +
                format_duration(milliseconds(static_cast<std::int64_t>(message.seconds("duration") * 1000))));
        const int signal = static_cast<int>(message.number("signal"));
        // Interrupted by the user together with its command: die as it did, so that
        // a script around us ends too.
        if (signal > 0)
            end_with(128 + signal, signal == Attention::last_signal() ? signal : 0);
        else
            end_with(static_cast<int>(message.number("exit")));
    }
    return Next::ended;
}

bool Requester::pass_on(Connection& connection, const Fields& message, int to) {
    if (connection.file() < 0) {  // it came, and there was no room for it
        say("cannot take the output of " + options_.orders.title + ": " + std::strerror(EMFILE));
        end_with(125);
        return false;
    }
    Stretch stretch{.offset = static_cast<std::uint64_t>(message.number("offset")),
                    .length = static_cast<std::uint64_t>(message.number("bytes"))};
    if (tail_) return take_for_tail(connection.file(), to == STDOUT_FILENO ? Stream::out : Stream::err, stretch);
    std::optional<Attention::Restless> restless;
    while (true) {
        if (signal_passed_on_ && !restless) restless.emplace();  // the answer comes while our reader may be stalled
        switch (relay_.pass(to, connection.file(), stretch)) {
            case OutputRelay::End::done:
                return true;
            case OutputRelay::End::reader_gone:
                keep_without_us(connection);
                end_of_signal(SIGPIPE);
                return false;
            case OutputRelay::End::refused:
                say("cannot write to " + std::string(to == STDOUT_FILENO ? "standard output" : "standard error") +
                    ": " + std::strerror(relay_.error()));
                end_with(125);
                return false;
            case OutputRelay::End::interrupted:
                if (on_call(connection) || is_to_leave(connection)) return false;
        }
    }
}

bool Requester::take_for_tail(int file, Stream stream, const Stretch& stretch) {
    const auto taken =
        tail_->take(stream, {.bytes = {}, .file = file, .offset = stretch.offset, .length = stretch.length});
    if (taken) return true;
    say("cannot " + taken.error().message());
    end_with(125);
    return false;
}

// Looks at what has come while output cannot be moved: only that we are to leave matters now.
bool Requester::is_to_leave(Connection& connection) {
    if (!signal_passed_on_) return false;
    connection.flush();
    connection.receive();
    leave_unheard(connection);
    while (auto line = connection.next_line()) {
        const auto message = Fields::parse(*line);
        if (message && message->text("event") == "left") end_of_signal(Attention::last_signal());
        deferred_.push_back(std::move(*line));
    }
    return ended_;
}

// What is worth keeping goes on without a reader, but not without anybody who waits (SPEC T8): a server is told
// which it is.
void Requester::leave_server(Connection& connection) {
    if (!places_) connection.send(Message().text("op", "leave").line());
}

void Requester::give_up() {
    say("gave up waiting for " + options_.orders.title);
    end_with(gave_up_status);
}

// Signals, and the end of our patience. True: it ends us now.
bool Requester::on_call(Connection& connection) {
    if (Attention::out_of_time()) {
        leave_server(connection);
        give_up();
        return true;
    }
    const auto pass_on = [&](int number) {
        connection.send(Message().text("op", "signal").number("signal", number).line());
    };
    while (const auto number = Attention::take_user_signal()) pass_on(*number);
    const auto number = Attention::take_signal();
    if (!number) return false;
    const bool unasked = connection.unsent();  // whoever is there does not read: nobody has our request
    switch (insistence_.told(*number)) {
        case Insistence::Is::echo:
            return false;
        case Insistence::Is::first:
            if (unasked) break;
            pass_on(*number);
            signal_passed_on_ = true;
            heard_by_ = steady_clock::now() + hearing;
            return false;
        case Insistence::Is::second:
            pass_on(SIGKILL);
            break;
    }
    leave_server(connection);
    end_of_signal(*number);
    return true;
}

// A supervisor or server that was stopped passes nothing on.
void Requester::leave_unheard(const Connection& connection) {
    if (!heard_by_ || steady_clock::now() < *heard_by_) return;
    heard_by_.reset();
    if (connection.unread()) end_of_signal(Attention::last_signal());
}

// What it joins is what it runs under (SPEC F11). Where the environment does not say, the
// processes above do; they are looked at only here, since who leads waits for nobody. Nor
// does it matter to who is in the leader's session: it does not run under what that leads,
// and waits on behalf of whom that does, which the supervisor can see for itself.
bool Requester::asks_for_itself(const Connection& connection) {
    std::string& ancestry = options_.orders.ancestry;
    if (!places_ || !ancestry.empty() || looked_above_ || in_session_of_peer(connection.fd())) return false;
    looked_above_ = true;
    ancestry = ancestry_of_process(*places_, ::getpid());
    if (ancestry.empty()) return false;
    quiet_ = false;
    if (!wait_.begun()) wait_.begin(steady_clock::now());
    if (!runs_under(ancestry, options_.orders.key)) return false;
    refuse_to_wait();
    return true;
}

bool Requester::refuse_to_wait_for_itself() {
    if (!places_ || options_.orders.ancestry.empty() || !waits_for_itself()) return false;
    refuse_to_wait();
    return true;
}

void Requester::refuse_to_wait() {
    say(options_.orders.title + " would wait for itself");
    end_with(125);
}

// Joined on behalf of a command that runs under coalesce itself: does what we have
// just joined wait, through whatever others, for that command? Asked after joining,
// so that of two requests that close a ring at once, at least one sees the other.
bool Requester::waits_for_itself() {
    std::set<std::string> seen;
    std::vector<std::string> to_ask{std::string(nearest_flight(options_.orders.ancestry))};
    while (!to_ask.empty()) {
        const std::string key = to_ask.back();
        to_ask.pop_back();
        if (key == options_.orders.key) return true;
        if (!seen.insert(key).second) continue;
        const auto answer = ask_flight(places_->connect(key), Message().text("op", "waiters").line());
        const auto fields = answer ? Fields::parse(*answer) : std::nullopt;
        if (!fields) continue;
        for (const std::string_view waiter : json_elements(fields->raw("waiters")))
            to_ask.push_back(json_string_value(waiter));
    }
    return false;
}

}  // namespace

Result<RunEnd> request_run(RunOptions options) {
    if (!options.socket.empty()) return Requester(std::move(options), std::nullopt).run();
    if (options.orders.kept) {
        // Before anything else is opened: most who ask for what is kept are served by it.
        const auto found = find_kept(options.orders);
        if (found || options.orders.kept->wish.warm) {
            OutputRelay relay;
            const RunEnd end = found ? pass_on_kept(options, *found, relay) : RunEnd{};
            if (!found || found->hit.verdict.refresh)
                start_refresh(options.orders, options.orders.command.surroundings->env, options.place);
            return end;
        }
    }
    auto places = MeetingPlaces::open(options.orders.command.surroundings->env, options.place);
    if (!places) return places.error();
    return Requester(std::move(options), std::move(*places)).run();
}

}  // namespace coalesce
