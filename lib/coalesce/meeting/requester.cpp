// SPDX-License-Identifier: MIT
#include <coalesce/meeting/requester.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <set>
#include <utility>

#include <coalesce/command/ancestry.h>
#include <coalesce/command/duration.h>
#include <coalesce/command/insistence.h>
#include <coalesce/protocol/message.h>

namespace coalesce {
namespace {

using namespace std::chrono;

// A command that kills its supervisor, or takes all its memory, would be run again
// for ever.
constexpr int bereavements_max = 3;

constexpr std::array handled_signals{SIGINT, SIGTERM, SIGHUP};

volatile sig_atomic_t last_signal = 0;
volatile sig_atomic_t signal_count = 0;
volatile sig_atomic_t waited_enough = 0;

void on_signal(int number) {
    last_signal = number;
    signal_count = signal_count + 1;
}

// Those the caller has ignored (nohup, a background job) stay ignored. Without
// SA_RESTART, so that a write that waits for a slow reader is interrupted too.
void handle_signals() {
    for (const int number : handled_signals) {
        struct sigaction action {};
        if (::sigaction(number, nullptr, &action) == 0 && action.sa_handler == SIG_IGN) continue;
        action = {};
        action.sa_handler = on_signal;
        ::sigaction(number, &action, nullptr);
    }
}

// A write that waits for a slow reader ends too. Again and again: the first may
// come just before a write.
void interrupt_after(milliseconds wait) {
    struct sigaction action {};
    action.sa_handler = [](int) { waited_enough = 1; };
    ::sigaction(SIGALRM, &action, nullptr);
    itimerval timer{};
    timer.it_value = {.tv_sec = wait.count() / 1000, .tv_usec = wait.count() % 1000 * 1000};
    timer.it_interval.tv_usec = 20'000;
    ::setitimer(ITIMER_REAL, &timer, nullptr);
}

sigset_t mask_of_handled_signals() {
    sigset_t mask;
    ::sigemptyset(&mask);
    for (const int number : handled_signals) ::sigaddset(&mask, number);
    return mask;
}

// A connection read by lines; keeps a descriptor that came with one.
class Connection {
  public:
    explicit Connection(Descriptor socket) : socket_(std::move(socket)) {}

    [[nodiscard]] int fd() const noexcept { return socket_.get(); }

    void send(const std::string& line) {
        std::string_view rest = line;
        while (!rest.empty()) {
            const ssize_t sent = ::send(socket_.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
            if (sent < 0 && errno == EINTR) continue;
            if (sent < 0) {  // its death shows at the next read
                reset_ = true;
                return;
            }
            rest.remove_prefix(static_cast<std::size_t>(sent));
        }
    }

    /// Reads what is there; false at the end.
    bool receive() {
        char block[1024];  // as the supervisor's messages are short, and more stack would be one more page
        alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
        iovec bytes{.iov_base = block, .iov_len = sizeof block};
        msghdr message{};
        message.msg_iov = &bytes;
        message.msg_iovlen = 1;
        message.msg_control = control;
        message.msg_controllen = sizeof control;
        const ssize_t got = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
        if (got < 0 && errno == EINTR) return true;
        if (got < 0) reset_ = true;
        if (got <= 0) return false;
        if (const cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr && header->cmsg_type == SCM_RIGHTS) {
            int file = -1;
            std::memcpy(&file, CMSG_DATA(header), sizeof file);
            file_ = Descriptor(file);
        }
        text_.append(block, static_cast<std::size_t>(got));
        return true;
    }

    std::optional<std::string> next_line() {
        const std::size_t end = text_.find('\n', scanned_);
        if (end == std::string::npos) {
            text_.erase(0, std::exchange(begin_, 0));
            scanned_ = text_.size();
            return std::nullopt;
        }
        std::string line = text_.substr(begin_, end - begin_);
        begin_ = scanned_ = end + 1;
        return line;
    }

    [[nodiscard]] int file() const noexcept { return file_.get(); }
    /// The other side ended without having read all that was sent to it.
    [[nodiscard]] bool reset() const noexcept { return reset_; }

  private:
    Descriptor socket_;
    Descriptor file_;
    bool reset_ = false;
    std::string text_;
    std::size_t begin_ = 0;
    std::size_t scanned_ = 0;  // what holds no end of a line
};

// Moves recorded output to our own stdout or stderr, which may block: this process
// has nothing else to do, and a signal interrupts it.
class Relay {
  public:
    enum class End { done, reader_gone, interrupted, refused };

    End pass(int to, int file, std::uint64_t offset, std::uint64_t length) {
        if (length >= widen_from) widen(to);
        const int signals_before = signal_count;
        while (length > 0) {
            const ssize_t moved = move(to, file, offset, length);
            if (moved < 0 && errno == EINTR) {
                if (signal_count != signals_before || waited_enough != 0) return End::interrupted;
                continue;
            }
            if (moved < 0 && errno == EAGAIN) {  // somebody made it non-blocking
                pollfd ready{.fd = to, .events = POLLOUT, .revents = 0};
                ::poll(&ready, 1, -1);
                continue;
            }
            if (moved < 0) {
                error_ = errno;
                return errno == EPIPE ? End::reader_gone : End::refused;
            }
            if (moved == 0) {  // the file is shorter than promised: never pass on a gap
                error_ = EIO;
                return End::refused;
            }
            passed_ += static_cast<std::uint64_t>(moved);
            offset += static_cast<std::uint64_t>(moved);
            length -= static_cast<std::uint64_t>(moved);
        }
        return End::done;
    }

    [[nodiscard]] std::uint64_t passed() const noexcept { return passed_; }
    [[nodiscard]] int error() const noexcept { return error_; }

  private:
    static constexpr std::uint64_t widen_from = 256 * 1024;
    static constexpr std::uint64_t most_at_once = 8 << 20;

    ssize_t move(int to, int file, std::uint64_t offset, std::uint64_t length) {
        if (can_send_file_[static_cast<std::size_t>(to)]) {
            off_t at = static_cast<off_t>(offset);
            const ssize_t sent = ::sendfile(to, file, &at, static_cast<std::size_t>(std::min(length, most_at_once)));
            if (sent >= 0 || (errno != EINVAL && errno != ENOSYS && errno != EPERM)) return sent;
            can_send_file_[static_cast<std::size_t>(to)] = false;  // a terminal, or a filter
        }
        char block[65536];
        const ssize_t got = ::pread(file, block, std::min<std::size_t>(sizeof block, static_cast<std::size_t>(length)),
                                    static_cast<off_t>(offset));
        return got <= 0 ? got : ::write(to, block, static_cast<std::size_t>(got));
    }

    void widen(int to) {
        if (std::exchange(widened_[static_cast<std::size_t>(to)], true)) return;
        ::fcntl(to, F_SETPIPE_SZ, 1 << 20);  // refused for what is no pipe, and past the user's quota
    }

    // sendfile moves a file's position without taking its lock: of two requesters that
    // share one `>file`, one would overwrite the other.
    static bool takes_sendfile(int to) {
        struct stat info {};
        return ::fstat(to, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode);
    }

    std::array<bool, 3> can_send_file_{false, takes_sendfile(STDOUT_FILENO), takes_sendfile(STDERR_FILENO)};
    std::array<bool, 3> widened_{};
    std::uint64_t passed_ = 0;
    int error_ = 0;
};

// Only what the supervisor was given stays open in it: holding anything else
// would keep the caller's pipes and locks for as long as the flight lasts.
bool keep_only(std::array<int, 3> kept) {
    std::sort(kept.begin(), kept.end());
    if (!close_all_but(kept)) return false;
    ::open("/dev/null", O_RDWR);  // becomes 0, the lowest free
    ::dup2(0, 1);
    ::dup2(0, 2);
    return true;
}

bool connected_pair(Descriptor& one, Descriptor& other) {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return false;
    one = Descriptor(ends[0]);
    other = Descriptor(ends[1]);
    return true;
}

// Itself and one that asks. Without, it would start the command only to die.
bool supervisor_has_descriptors() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_max > supervisors_descriptors) return true;
    errno = EMFILE;
    return false;
}

Result<Descriptor> connect_to(const std::string& path) {
    Descriptor connection(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (!connection) return system_error_now("make a socket");
    if (path.size() >= sizeof address.sun_path)
        return Error{std::make_error_code(std::errc::filename_too_long), "reach the server at " + path};
    std::memcpy(address.sun_path, path.c_str(), path.size());
    if (::connect(connection.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        return system_error_now("reach the server at " + path);
    return connection;
}

std::string counted_others(std::int64_t count) { return std::to_string(count) + (count == 1 ? " other" : " others"); }

// The whole request, for a server that knows nothing of us.
std::string server_request(const RunOptions& options, bool quiet) {
    const FlightOrders& orders = options.orders;
    Message message;
    if (orders.line)
        message.bytes("line", *orders.line);
    else
        message.bytes("argv", orders.command.argv);
    message.bytes("cwd", orders.command.surroundings->cwd)
        .bytes("env", orders.command.surroundings->env)
        .number("umask", orders.command.surroundings->umask)
        .text("output", "fd")
        .flag("quiet", quiet)
        .flag("fresh", options.fresh);
    if (orders.command.stdin_bytes) message.bytes("stdin", *orders.command.stdin_bytes);
    if (options.rules.key) message.bytes("key", *options.rules.key);
    if (!options.rules.scope.empty()) message.bytes("scope", options.rules.scope);
    if (!options.rules.ignore_env.empty()) message.bytes("ignore_env", options.rules.ignore_env);
    if (options.rules.only_env) message.bytes("only_env", *options.rules.only_env);
    if (options.rules.ignore_cwd) message.flag("ignore_cwd", true);
    if (options.rules.ignore_namespaces) message.flag("ignore_namespaces", true);
    if (options.rules.no_share) message.flag("no_share", true);
    if (orders.timeout) message.seconds("timeout", duration<double>(*orders.timeout).count());
    if (options.own_grace) message.seconds("grace", duration<double>(orders.grace).count());
    if (orders.keep_running) message.flag("keep_running", true);
    return message.line();
}

class Requester {
  public:
    Requester(RunOptions options, std::optional<MeetingPlace> place)
        : options_(std::move(options)),
          place_(std::move(place)),
          quiet_(!options_.verbose && options_.orders.ancestry.empty() && ::isatty(STDERR_FILENO) == 0) {}

    Result<RunEnd> run();

  private:
    enum class Next { ended, again, supervisor_died };

    Result<Descriptor> get_connection();
    [[nodiscard]] std::string joining_line() const;
    Result<Descriptor> lead(Descriptor listener);
    Next converse(Connection& connection);
    Next on_message(Connection& connection, const Fields& message);
    bool pass_on(Connection& connection, const Fields& message, int to);
    bool on_signals(Connection& connection);
    bool waits_for_itself();
    bool refuse_to_wait_for_itself();
    [[nodiscard]] int poll_timeout() const;
    void on_time();
    void end_with(int status, int die_of = 0) {
        end_ = {status, die_of};
        ended_ = true;
    }
    void say(const std::string& sentence) const { std::fprintf(stderr, "coalesce: %s\n", sentence.c_str()); }

    RunOptions options_;
    std::optional<MeetingPlace> place_;  // none: a server is asked
    const bool
        quiet_;  // no use for word of the start: it is shown, after a second on a terminal, or looked at for a ring
    Relay relay_;
    RunEnd end_;
    bool ended_ = false;
    bool led_ = false;
    bool joined_ = false;
    bool queued_ = false;  // behind a run that cannot be joined
    bool told_of_wait_ = false;
    bool output_hung_up_ = false;
    Insistence insistence_;
    int signals_seen_ = 0;
    int bereavements_ = 0;  // supervisors that died before they gave us anything
    std::int64_t run_pid_ = 0;
    double run_started_ = 0;
    std::string run_title_;  // of a joined run it may be another command's, with --key
    steady_clock::time_point
        begun_;  // where it matters: a program's first look at the clock takes as long as 40 system calls
    sigset_t unblocked_{};
};

Result<RunEnd> Requester::run() {
    handle_signals();
    const sigset_t handled = mask_of_handled_signals();
    ::sigprocmask(SIG_UNBLOCK, &handled, &unblocked_);
    ::sigprocmask(SIG_SETMASK, nullptr, &unblocked_);
    if (options_.wait || !quiet_) begun_ = steady_clock::now();
    if (options_.wait && options_.wait->count() > 0) interrupt_after(*options_.wait);
    const std::string for_a_server = place_ ? std::string() : server_request(options_, quiet_);
    while (!ended_) {
        auto connected = get_connection();
        if (!connected) return connected.error();
        Connection connection(std::move(*connected));
        if (!led_)
            connection.send(place_ ? joining_line() : for_a_server);  // ready, so that it is there when we are accepted
        switch (converse(connection)) {
            case Next::ended:
                break;
            case Next::again:
                options_.fresh = false;
                break;  // what starts now is fresh for us
            case Next::supervisor_died:
                if (!place_) {
                    say("the server at " + options_.socket + " went away");
                    end_with(125);
                } else if (relay_.passed() > 0) {
                    say("the process that supervised " + options_.orders.title +
                        " died, and part of its output has been passed on");
                    end_with(125);
                } else if (++bereavements_ == bereavements_max) {
                    say("the processes that supervised " + options_.orders.title + " died, " +
                        std::to_string(bereavements_) + " in a row");
                    end_with(125);
                } else {
                    options_.orders.heir = true;
                    options_.fresh = false;  // as above
                }
        }
    }
    return end_;
}

std::string Requester::joining_line() const {
    return Message()
        .text("op", "join")
        .flag("fresh", options_.fresh)
        .flag("keep_running", options_.orders.keep_running)
        .flag("quiet", quiet_)
        .flag("heir", options_.orders.heir)
        .text("on_behalf_of", std::string(nearest_flight(options_.orders.ancestry)))
        .line();
}

Result<Descriptor> Requester::get_connection() {
    if (!place_) return connect_to(options_.socket);
    auto place = place_->join_or_lead(options_.orders.key);
    if (!place) return place.error();
    led_ = std::holds_alternative<MeetingPlace::Leading>(*place);
    if (led_) return lead(std::move(std::get<MeetingPlace::Leading>(*place).listener));
    return std::move(std::get<MeetingPlace::Joined>(*place).connection);
}

Result<Descriptor> Requester::lead(Descriptor listener) {
    Descriptor ours;
    Descriptor theirs;
    const pid_t leader = ::getpid();
    const pid_t supervisor = connected_pair(ours, theirs) && supervisor_has_descriptors() ? ::fork() : -1;
    if (supervisor < 0) {
        const Error refused = system_error_now("start a supervisor");
        place_->leave(options_.orders.key);
        return refused;
    }
    if (supervisor > 0) return ours;
    ::setsid();
    for (const int number : handled_signals) ::signal(number, SIG_DFL);
    ::signal(SIGHUP, SIG_IGN);
    if (!keep_only({listener.get(), theirs.get(), place_->directory()})) {
        const Error refused = system_error_now("cannot close what the supervisor is not to hold");
        place_->leave(options_.orders.key);
        const std::string told = Message().error("lost", refused.message()).line();
        static_cast<void>(::send(theirs.get(), told.data(), told.size(), MSG_NOSIGNAL));
        ::_exit(125);
    }
    supervise(std::move(options_.orders), std::move(*place_), std::move(listener), std::move(theirs), leader);
    ::_exit(0);
}

int Requester::poll_timeout() const {
    const bool may_tell = (joined_ || queued_) && !told_of_wait_ && relay_.passed() == 0;
    if (!options_.wait && !may_tell) return -1;
    const auto since = duration_cast<milliseconds>(steady_clock::now() - begun_);
    milliseconds until{-1};
    if (options_.wait) until = std::max(milliseconds(0), *options_.wait - since);
    if (may_tell) {
        const auto tell = std::max(milliseconds(0), milliseconds(1000) - since);
        until = until.count() < 0 ? tell : std::min(until, tell);
    }
    return static_cast<int>(std::min<std::int64_t>(until.count(), 1 << 30));
}

Requester::Next Requester::converse(Connection& connection) {
    bool heard = false;
    const sigset_t handled = mask_of_handled_signals();
    while (true) {
        while (auto line = connection.next_line()) {
            heard = true;
            const auto message = Fields::parse(*line);
            if (!message) continue;
            const Next next = on_message(connection, *message);
            if (next == Next::again || ended_) return next;
        }
        // Blocked except while we wait, so that none is missed between looking and waiting.
        ::sigprocmask(SIG_BLOCK, &handled, nullptr);
        if (signal_count != signals_seen_ && on_signals(connection)) return Next::ended;
        // A pipe without a reader shows as an error; the command may not write for long.
        // Before it has written it knows nothing of that, and neither do we.
        const bool watch_reader = relay_.passed() > 0 && !output_hung_up_;
        std::array<pollfd, 2> watched{{{.fd = connection.fd(), .events = POLLIN, .revents = 0},
                                       {.fd = watch_reader ? STDOUT_FILENO : -1, .events = 0, .revents = 0}}};
        const int timeout = poll_timeout();
        const timespec limit{.tv_sec = timeout / 1000, .tv_nsec = timeout % 1000 * 1'000'000L};
        const int ready = ::ppoll(watched.data(), watched.size(), timeout < 0 ? nullptr : &limit, &unblocked_);
        ::sigprocmask(SIG_SETMASK, &unblocked_, nullptr);
        if (ready < 0) continue;
        if (timeout >= 0 && poll_timeout() == 0) on_time();  // also while messages keep coming
        if (ended_) return Next::ended;
        if (ready == 0) continue;
        if ((watched[1].revents & POLLERR) != 0) {
            end_with(128 + SIGPIPE, SIGPIPE);
            return Next::ended;
        }
        if (watched[1].revents != 0) output_hung_up_ = true;  // a terminal that is gone: it would show for ever
        if (watched[0].revents == 0 || connection.receive()) continue;
        // Where it did not read what we asked it had gone already, or closes its doors.
        return connection.reset() && !heard && !led_ && place_ ? Next::again : Next::supervisor_died;
    }
}

void Requester::on_time() {
    const auto since = steady_clock::now() - begun_;
    if (options_.wait && since >= *options_.wait) {
        say("gave up waiting for " + options_.orders.title);
        return end_with(75);
    }
    if (since < seconds(1)) return;
    told_of_wait_ = true;
    if (::isatty(STDERR_FILENO) == 0) return;
    if (queued_) return say("waiting for an earlier run of " + options_.orders.title + " to end");
    const double age = duration<double>(system_clock::now().time_since_epoch()).count() - run_started_;
    say("waiting for " + run_title_ + ", which has run for " +
        format_duration(milliseconds(static_cast<std::int64_t>(age * 1000))) + " (pid " + std::to_string(run_pid_) +
        ")");
}

Requester::Next Requester::on_message(Connection& connection, const Fields& message) {
    const std::string event = message.text("event");
    if (event == "stdout" || event == "stderr") {
        if (!pass_on(connection, message, event == "stdout" ? STDOUT_FILENO : STDERR_FILENO)) return Next::ended;
        connection.send("\n");
    } else if (event == "started") {
        joined_ = message.flag("joined");
        queued_ = false;
        run_pid_ = message.number("pid");
        run_started_ = message.seconds("started");
        run_title_ = message.has("command") ? message.text("command") : options_.orders.title;
        if (joined_ && refuse_to_wait_for_itself()) return Next::ended;
        if (options_.verbose && run_pid_ > 0) {
            const double age = duration<double>(system_clock::now().time_since_epoch()).count() - run_started_;
            say(joined_ ? "joined " + run_title_ + " (pid " + std::to_string(run_pid_) + "), which has run for " +
                              format_duration(milliseconds(static_cast<std::int64_t>(age * 1000))) + "; " +
                              std::to_string(message.number("requesters")) + " wait"
                        : "started " + run_title_ + " (pid " + std::to_string(run_pid_) + ")");
        }
    } else if (event == "waiting") {
        queued_ = true;
        if (refuse_to_wait_for_itself()) return Next::ended;
        if (options_.verbose) say("waiting for an earlier run of " + options_.orders.title + " to end");
    } else if (event == "again") {
        return Next::again;
    } else if (message.has("error")) {
        const auto error = Fields::parse(message.raw("error"));
        say(error ? error->text("message") : "the server refused");
        end_with(125);
    } else if (event == "left") {
        end_with(128 + last_signal, last_signal);
    } else if (event == "exit") {
        const std::string words = message.text("message");
        if (!words.empty()) std::fputs(words.c_str(), stderr);
        if (options_.verbose)
            say("shared with " + counted_others(message.number("requesters") - 1) + ", ran for " +
                format_duration(milliseconds(static_cast<std::int64_t>(message.seconds("duration") * 1000))));
        const int signal = static_cast<int>(message.number("signal"));
        // Interrupted by the user together with its command: die as it did, so that
        // a script around us ends too.
        if (signal > 0)
            end_with(128 + signal, signal_count > 0 && signal == last_signal ? signal : 0);
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
    auto offset = static_cast<std::uint64_t>(message.number("offset"));
    auto length = static_cast<std::uint64_t>(message.number("bytes"));
    while (true) {
        const std::uint64_t before = relay_.passed();
        const Relay::End end = relay_.pass(to, connection.file(), offset, length);
        switch (end) {
            case Relay::End::done:
                return true;
            case Relay::End::reader_gone:
                end_with(128 + SIGPIPE, SIGPIPE);
                return false;
            case Relay::End::refused:
                say("cannot write to " + std::string(to == STDOUT_FILENO ? "standard output" : "standard error") +
                    ": " + std::strerror(relay_.error()));
                end_with(125);
                return false;
            case Relay::End::interrupted:
                if (signal_count != signals_seen_ && on_signals(connection)) return false;
                if (waited_enough != 0) on_time();
                if (ended_) return false;
                offset += relay_.passed() - before;
                length -= relay_.passed() - before;
        }
    }
}

// True: it ends us now.
bool Requester::on_signals(Connection& connection) {
    signals_seen_ = signal_count;
    switch (insistence_.told(last_signal)) {
        case Insistence::Is::echo:
            return false;
        case Insistence::Is::first:
            connection.send(Message().text("op", "signal").number("signal", last_signal).line());
            return false;
        case Insistence::Is::second:
            break;
    }
    connection.send(Message().text("op", "signal").number("signal", SIGKILL).line());
    end_with(128 + last_signal, last_signal);
    return true;
}

bool Requester::refuse_to_wait_for_itself() {
    if (!place_ || options_.orders.ancestry.empty() || !waits_for_itself()) return false;
    say(options_.orders.title + " would wait for itself");
    end_with(125);
    return true;
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
        const auto answer = ask_flight(*place_, key, Message().text("op", "waiters").line());
        const auto fields = answer ? Fields::parse(*answer) : std::nullopt;
        if (!fields) continue;
        for (const std::string_view waiter : json_elements(fields->raw("waiters")))
            to_ask.push_back(json_string_value(waiter));
    }
    return false;
}

}  // namespace

Result<RunEnd> request_run(RunOptions options, std::optional<MeetingPlace> place) {
    return Requester(std::move(options), std::move(place)).run();
}

namespace {

// Whoever only asks is not held up by a supervisor or server that was stopped.
std::optional<std::string> answer_to(const std::string& line, Descriptor connected) {
    constexpr timeval patience{.tv_sec = 5, .tv_usec = 0};
    ::setsockopt(connected.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    Connection connection(std::move(connected));
    connection.send(line);
    while (connection.receive())
        if (auto answer = connection.next_line()) return answer;
    return std::nullopt;
}

}  // namespace

std::optional<std::string> ask_flight(MeetingPlace& place, const std::string& key, const std::string& line) {
    auto connected = place.connect(key);
    if (!connected) return std::nullopt;
    return answer_to(line, std::move(*connected));
}

Result<std::string> ask_server(const std::string& path, const std::string& line) {
    auto connected = connect_to(path);
    if (!connected) return connected.error();
    auto answer = answer_to(line, std::move(*connected));
    if (!answer) return Error{std::make_error_code(std::errc::connection_reset), "hear from the server at " + path};
    return std::move(*answer);
}

}  // namespace coalesce
