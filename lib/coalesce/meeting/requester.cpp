// SPDX-License-Identifier: MIT
#include <coalesce/meeting/requester.h>

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <utility>

#include <coalesce/command/ancestry.h>
#include <coalesce/command/outcome.h>
#include <coalesce/io/unix_socket.h>
#include <coalesce/meeting/attention.h>
#include <coalesce/meeting/connection.h>
#include <coalesce/meeting/flights_above.h>
#include <coalesce/meeting/interruptions.h>
#include <coalesce/meeting/kept_answer.h>
#include <coalesce/meeting/output_relay.h>
#include <coalesce/meeting/refresh.h>
#include <coalesce/meeting/request_lines.h>
#include <coalesce/meeting/result_words.h>
#include <coalesce/meeting/supervisor_process.h>
#include <coalesce/meeting/tail.h>
#include <coalesce/meeting/wait_words.h>
#include <coalesce/protocol/message.h>

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

// A flight's socket is its leader's, as far as the kernel knows.
bool in_session_of_peer(int connection) {
    ucred peer{};
    socklen_t length = sizeof peer;
    return ::getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid > 0 &&
           ::getsid(peer.pid) == ::getsid(0);
}

WaitWords::Now this_moment() { return {.steady = steady_clock::now(), .wall = system_clock::now()}; }

class RunRequester {
  public:
    RunRequester(RunOptions options, std::optional<MeetingPlaces> places)
        : options_(std::move(options)),
          places_(std::move(places)),
          quiet_(!options_.verbose && options_.orders.ancestry.empty() && ::isatty(STDERR_FILENO) == 0),
          wait_(options_.verbose) {}

    Result<RunEnd> run();

  private:
    enum class Next { ended, again, supervisor_died };

    Result<Descriptor> get_connection();
    bool rest(milliseconds pause);
    Result<Descriptor> lead(Descriptor listener);
    bool serve_kept(Descriptor& listener);
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
    void leave_unheard(Connection& connection);
    bool asks_for_itself(const Connection& connection);
    [[nodiscard]] bool knows_ancestry() const { return looked_above_ || !options_.orders.ancestry.empty(); }
    void refuse_to_wait();
    bool refuse_to_wait_for_itself();
    [[nodiscard]] int poll_timeout() const;
    void on_time();
    void end_with(int status, int die_of = 0) {
        end_ = {status, die_of};
        ended_ = true;
    }
    void end_of_signal(int number) { end_with(128 + number, number); }
    void say(const std::string& sentence) {
        if (!sentence.empty()) relay_.say("coalesce: " + sentence + "\n");
    }
    void fail(const std::string& sentence) {
        say(sentence);
        end_with(125);
    }

    RunOptions options_;
    std::optional<MeetingPlaces> places_;  // none: a server is asked
    bool quiet_;  // no use for word of the start: it is shown, after a second on a terminal, or looked at for a ring
    OutputRelay relay_;
    std::optional<Tail> tail_;  // of the run that we are at
    RunEnd end_;
    bool ended_ = false;
    bool led_ = false;
    bool looked_above_ = false;
    OwnSupervisor supervisor_;         // if we led
    milliseconds supervisors_end_{0};  // for how long it is waited for
    bool kept_ = false;                // it is answered without a run
    bool output_hung_up_ = false;
    Interruptions interruptions_;
    std::deque<std::string> deferred_;  // lines that came while we could not move output
    int bereavements_ = 0;              // supervisors that died before they gave us anything
    WaitWords wait_;  // begun where it matters: a program's first look at the clock takes as long as 40 system calls
};

Result<RunEnd> RunRequester::run() {
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
            connection.send(places_ ? joining_line(options_, {.quiet = quiet_, .knows_ancestry = knows_ancestry()})
                                    : for_a_server);  // ready, so that it is there when we are accepted
        const Next next = converse(connection);
        if (next != Next::ended && (interruptions_.passed_on() || Attention::take_signal())) {
            end_of_signal(Attention::last_signal());  // told to end, we begin nothing anew
            break;
        }
        switch (next) {
            case Next::ended:
                break;
            case Next::again:
                options_.fresh = options_.fresh && options_.orders.circle;
                break;  // what starts now is fresh for us, unless it is followed from elsewhere
            case Next::supervisor_died:
                on_supervisors_death();
        }
    }
    if (supervisors_end_.count() > 0) supervisor_.reap(supervisors_end_);
    return end_;
}

void RunRequester::on_supervisors_death() {
    supervisor_.reap(end_of_supervisor_alone);
    if (!places_) {
        fail("the server at " + options_.socket + " went away");
    } else if (relay_.passed() > 0) {
        fail("the process that supervised " + options_.orders.title +
             " died, and part of its output has been passed on");
    } else if (++bereavements_ == bereavements_max) {
        fail("the processes that supervised " + options_.orders.title + " died, " + std::to_string(bereavements_) +
             " in a row");
    } else {
        options_.orders.heir = true;
        options_.fresh = options_.fresh && options_.orders.circle;  // what starts here now is fresh for us
    }
}

// Nobody has our request yet: a signal, or the end of our patience, is the end.
bool RunRequester::rest(milliseconds pause) {
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
Result<Descriptor> RunRequester::get_connection() {
    using Busy = MeetingPlaces::Busy;
    LeftoversPatience leftovers;
    for (milliseconds pause(1); !ended_; pause = std::min(pause * 2, milliseconds(16))) {
        if (!places_) {
            auto connected = connect_to(options_.socket);
            if (connected) return connected;
            if (connected.error().code != std::errc::resource_unavailable_try_again)
                return Error{connected.error().code, "reach the server at " + options_.socket};
        } else {
            auto way = places_->join_or_lead(options_.orders.key, leftovers.over());
            if (!way) return way.error();
            led_ = std::holds_alternative<MeetingPlaces::Leading>(*way);
            if (led_) {
                Descriptor& listener = std::get<MeetingPlaces::Leading>(*way).listener;
                if (serve_kept(listener)) break;  // it was made since we looked (SPEC T13)
                return lead(std::move(listener));
            }
            if (auto* joined = std::get_if<MeetingPlaces::Joined>(&*way)) return std::move(joined->connection);
            if (std::get<Busy>(*way) == Busy::leftovers && leftovers.ends_now())
                say("what an earlier run of " + options_.orders.title +
                    " left behind does not end; a new one is started beside it");
        }
        if (!rest(pause)) break;
    }
    return Descriptor();
}

Result<Descriptor> RunRequester::lead(Descriptor listener) {
    options_.orders.fresh = options_.fresh;
    auto connected = supervisor_.start(options_.orders, *places_, listener);
    if (!connected) places_->own().leave(options_.orders.key);  // while it listens: then it is still ours
    return connected;
}

// True: we have ended with what was kept. Our place is given back before we tell anybody, and those who wait there look
// for another: our reader may be slow.
bool RunRequester::serve_kept(Descriptor& listener) {
    if (!options_.orders.kept) return false;
    auto found = find_kept(options_.orders);
    if (!found) return false;
    places_->own().leave(options_.orders.key);
    listener.reset();
    end_ = pass_on_kept(options_, *found, relay_);
    if (found->hit.verdict.refresh)
        static_cast<void>(
            start_refresh(options_.orders, options_.orders.command.surroundings->env, options_.place).ok());
    return ended_ = true;
}

// Our reader is gone; the run is to go on for the store (SPEC T8).
void RunRequester::keep_without_us(Connection& connection) {
    if (places_ && options_.orders.kept && options_.orders.kept->wish.keeps())
        connection.send(Message().text("op", "keep").line());
}

int RunRequester::poll_timeout() const {
    const auto tells = relay_.passed() == 0 ? wait_.due() : std::nullopt;
    const auto heard_by = interruptions_.heard_by();
    if (!heard_by && !tells) return -1;
    auto until = heard_by.value_or(steady_clock::time_point::max());
    if (tells) until = std::min(until, *tells);
    const auto left = duration_cast<milliseconds>(until - steady_clock::now()) + milliseconds(1);
    return static_cast<int>(std::max(left, milliseconds(0)).count());
}

std::optional<std::string> RunRequester::next_line(Connection& connection) {
    if (deferred_.empty()) return connection.next_line();
    std::string line = std::move(deferred_.front());
    deferred_.pop_front();
    return line;
}

RunRequester::Next RunRequester::converse(Connection& connection) {
    bool heard = false;
    interruptions_.ask_anew();
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
        // Before it has written there it knows nothing of that, and neither do we.
        const bool watch_reader = relay_.passed(STDOUT_FILENO) > 0 && !output_hung_up_;
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

void RunRequester::on_time() {
    if (relay_.passed() > 0) return;
    const std::string words = wait_.say_due(this_moment());
    if (options_.verbose || ::isatty(STDERR_FILENO) != 0) say(words);
}

RunRequester::Next RunRequester::on_message(Connection& connection, const Fields& message) {
    const std::string event = message.text("event");
    if (event == "stdout" || event == "stderr") {
        if (!pass_on(connection, message, event == "stdout" ? STDOUT_FILENO : STDERR_FILENO)) return Next::ended;
        connection.send("\n");
    } else if (event == "started") {
        if (message.flag("joined") && refuse_to_wait_for_itself()) return Next::ended;
        kept_ = message.has("kept");
        if (!kept_)
            say(wait_.started(message, options_.orders.title, this_moment()));
        else if (options_.verbose)
            say(kept_words(message, options_.orders.title));
    } else if (event == "notice") {
        say(message.text("message"));
    } else if (event == "waiting") {
        if (refuse_to_wait_for_itself()) return Next::ended;
        say(wait_.waiting(message, options_.orders.title, this_moment()));
    } else if (event == "again") {
        return Next::again;
    } else if (message.has("error")) {
        const auto error = Fields::parse(message.raw("error"));
        fail(error ? error->text("message") : "the server refused");
        supervisors_end_ = end_of_supervisor;
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
        say(keeping_words(message, options_.verbose));
        const bool has_more_to_do = message.number("requesters") > 1 || message.has("keeping");
        supervisors_end_ = has_more_to_do ? end_of_supervisor : end_of_supervisor_alone;
        if (options_.verbose && !kept_) say(shared_words(message));
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

bool RunRequester::pass_on(Connection& connection, const Fields& message, int to) {
    if (connection.file() < 0) {  // it came, and there was no room for it
        fail("cannot take the output of " + options_.orders.title + ": " + std::strerror(EMFILE));
        return false;
    }
    Stretch stretch{.offset = static_cast<std::uint64_t>(message.number("offset")),
                    .length = static_cast<std::uint64_t>(message.number("bytes"))};
    if (tail_) return take_for_tail(connection.file(), to == STDOUT_FILENO ? Stream::out : Stream::err, stretch);
    std::optional<Attention::Restless> restless;
    while (true) {
        if (interruptions_.passed_on() && !restless)
            restless.emplace();  // the answer comes while our reader may be stalled
        switch (relay_.pass(to, connection.file(), stretch)) {
            case OutputRelay::End::done:
                return true;
            case OutputRelay::End::reader_gone:
                keep_without_us(connection);
                end_of_signal(SIGPIPE);
                return false;
            case OutputRelay::End::refused:
                fail(relay_.refusal());
                return false;
            case OutputRelay::End::interrupted:
                if (on_call(connection) || is_to_leave(connection)) return false;
        }
    }
}

bool RunRequester::take_for_tail(int file, Stream stream, const Stretch& stretch) {
    const auto taken =
        tail_->take(stream, {.bytes = {}, .file = file, .offset = stretch.offset, .length = stretch.length});
    if (!taken) fail("cannot " + taken.error().message());
    return taken.ok();
}

// Looks at what has come while output cannot be moved: only that we are to leave matters now.
bool RunRequester::is_to_leave(Connection& connection) {
    if (!interruptions_.passed_on()) return false;
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
void RunRequester::leave_server(Connection& connection) {
    if (!places_) connection.send(Message().text("op", "leave").line());
}

void RunRequester::give_up() {
    say("gave up waiting for " + options_.orders.title);
    end_with(gave_up_status);
}

// Signals, and the end of our patience. True: it ends us now.
bool RunRequester::on_call(Connection& connection) {
    if (Attention::out_of_time()) {
        leave_server(connection);
        give_up();
        return true;
    }
    const auto ends_by = interruptions_.pass_on(connection);
    if (!ends_by) return false;
    leave_server(connection);
    end_of_signal(*ends_by);
    return true;
}

// A supervisor or server that was stopped passes nothing on.
void RunRequester::leave_unheard(Connection& connection) {
    if (!interruptions_.unheard(connection)) return;
    leave_server(connection);
    end_of_signal(Attention::last_signal());
}

// What it joins is what it runs under (SPEC F11). Where the environment does not say, the
// processes above do; they are looked at only here, since who leads waits for nobody. Nor
// does it matter to who is in the leader's session: it does not run under what that leads,
// and waits on behalf of whom that does, which the supervisor can see for itself.
bool RunRequester::asks_for_itself(const Connection& connection) {
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

bool RunRequester::refuse_to_wait_for_itself() {
    const FlightOrders& orders = options_.orders;
    if (!places_ || orders.ancestry.empty() || !waits_for(*places_, orders.key, nearest_flight(orders.ancestry)))
        return false;
    refuse_to_wait();
    return true;
}

void RunRequester::refuse_to_wait() { fail(options_.orders.title + " would wait for itself"); }

}  // namespace

Result<RunEnd> request_run(RunOptions options) {
    if (!options.socket.empty()) return RunRequester(std::move(options), std::nullopt).run();
    if (options.orders.kept) {
        // Before anything else is opened: most who ask for what is kept are served by it.
        const auto found = find_kept(options.orders);
        if (found || options.orders.kept->wish.warm) {
            OutputRelay relay;
            const RunEnd end = found ? pass_on_kept(options, *found, relay) : RunEnd{};
            if (found && !found->hit.verdict.refresh) return end;
            auto started = start_refresh(options.orders, options.orders.command.surroundings->env, options.place);
            if (!started && options.orders.kept->wish.warm) return started.error();
            return end;
        }
    }
    auto places = MeetingPlaces::open(options.orders.command.surroundings->env, options.place);
    if (!places) return places.error();
    return RunRequester(std::move(options), std::move(*places)).run();
}

}  // namespace coalesce
