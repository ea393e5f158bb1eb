// SPDX-License-Identifier: MIT
#include <coalesce/io/child.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include <coalesce/io/loop.h>
#include <coalesce/io/pseudo_terminal.h>

namespace coalesce {
namespace {

constexpr std::chrono::milliseconds drain_after_exit{200};  // SPEC F8

// Most commands that matter for speed have ended by then. Their pipes are read once,
// at the end: watched, they would wake us for what was written, for the end of file,
// and then for the exit. Others wait for as long, if they have filled a pipe so soon.
constexpr std::chrono::milliseconds unwatched_at_first{3};

// Without a pidfd, or without room to watch one, the process is asked instead.
constexpr std::chrono::milliseconds exit_poll{20};

// One that is dropped is killed, and mostly gone at once. What cannot be ended (frozen,
// another user's by now) is left to whoever inherits it.
constexpr int reaped_within_ms = 1000;

// Shared by all children and never closed. Opened when first needed; what failed is tried again.
int dev_null() {
    static std::atomic<int> shared = -1;
    if (const int fd = shared.load(); fd >= 0) return fd;
    Descriptor opened(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    int none = -1;
    if (opened && shared.compare_exchange_strong(none, opened.get())) return opened.release();
    return shared.load();  // another thread's, or none
}

Outcome outcome_of(const siginfo_t& info) {
    return info.si_code == CLD_EXITED ? Outcome::exited(info.si_status)
                                      : Outcome::signalled(info.si_status, info.si_code == CLD_DUMPED);
}

// The same, as waitpid() tells it of one that has ended.
Outcome outcome_of(int status) {
    return WIFEXITED(status) ? Outcome::exited(WEXITSTATUS(status))
                             : Outcome::signalled(WTERMSIG(status), WCOREDUMP(status) != 0);
}

}  // namespace

Child::Child(Loop& loop, Started started, Events events)
    : loop_(loop), pid_(started.pid), pidfd_(std::move(started.pidfd)), unwatched_(loop), events_(std::move(events)) {}

// Whoever drops a live child wants it gone now.
Child::~Child() {
    if (reaped_) return;
    signal(SIGKILL);
    exit_watch_.reset();
    for (int waited_ms = 0; waited_ms < reaped_within_ms; ++waited_ms) {
        const pid_t gone = ::waitpid(pid_, nullptr, WNOHANG);
        if (gone == pid_ || (gone < 0 && errno != EINTR)) return;
        pollfd exited{.fd = pidfd_.get(), .events = POLLIN, .revents = 0};  // without one, a pause
        ::poll(&exited, 1, 1);
    }
}

Child::Start Child::start(Loop& loop, Program program, const Descriptor& standard_input, Events events) {
    return adopt(loop, launch(program, standard_input), std::move(events));
}

namespace {

// What the program writes to: its ends of the two pipes, or twice one terminal.
struct Outputs {
    std::array<Descriptor, 2> ends;
    [[nodiscard]] int out() const noexcept { return ends[0].get(); }
    [[nodiscard]] int err() const noexcept { return ends[1] ? ends[1].get() : ends[0].get(); }
};

// False, with errno, where they are not to be had; `read_ends` gets ours.
bool make_pipes(std::array<Descriptor, 2>& read_ends, Outputs& outputs) {
    for (std::size_t i = 0; i < read_ends.size(); ++i) {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) return false;
        ::fcntl(ends[0], F_SETFL, O_NONBLOCK);  // of the read end alone
        read_ends[i] = Descriptor(ends[0]);
        outputs.ends[i] = Descriptor(ends[1]);
    }
    return true;
}

bool make_terminal(TerminalSize size, std::array<Descriptor, 2>& read_ends, Outputs& outputs) {
    auto terminal = PseudoTerminal::open(size);
    if (!terminal) {
        errno = terminal.error().code.value();
        return false;
    }
    read_ends[0] = std::move(terminal->ours);
    outputs.ends[0] = std::move(terminal->theirs);
    return true;
}

}  // namespace

Child::Launched Child::launch(Program program, const Descriptor& standard_input) {
    Launched launched;
    const auto refused = [&launched](Started::Step step) {
        launched.started.error = errno;
        launched.started.failed = step;
        return std::move(launched);
    };
    Outputs outputs;
    if (program.terminal && !make_terminal(*program.terminal, launched.outputs, outputs))
        return refused(Started::Step::terminal);
    if (!program.terminal && !make_pipes(launched.outputs, outputs)) return refused(Started::Step::spawn);
    program.standard_input = standard_input ? standard_input.get() : dev_null();
    if (program.standard_input < 0) return refused(Started::Step::input);
    program.standard_output = outputs.out();
    program.standard_error = outputs.err();
    program.leads_session = !program.terminal;
    if (program.guard != nullptr) {
        launched.guarded = program.guard->reserve(program.guard_deadline);
        program.guard_line = launched.guarded.line();
    }
    launched.started = spawn(program);
    return launched;
}

Child::Start Child::adopt(Loop& loop, Launched launched, Events events) {
    if (launched.started.failed != Started::Step::none)
        return {nullptr, launched.started.failed, launched.started.error};
    std::unique_ptr<Child> child(new Child(loop, std::move(launched.started), std::move(events)));
    Child* const self = child.get();
    self->guarded_ = std::move(launched.guarded);
    for (std::size_t i = 0; i < launched.outputs.size(); ++i) self->pipes_[i].read_end = std::move(launched.outputs[i]);
    self->watch_exit();
    self->unwatched_.start(unwatched_at_first, [self] { self->watch_pipes(); });
    return {std::move(child)};
}

// It runs already: where there is nothing to watch it by, it is not ended for that.
void Child::watch_exit() {
    if (pidfd_) {
        auto watch = Watch::start(loop_, pidfd_.get(), Readiness::readable, [this] { on_exit(); });
        if (watch) {
            exit_watch_ = std::move(*watch);
            return;
        }
    }
    exit_poll_.emplace(loop_);
    exit_poll_->start(exit_poll, exit_poll, [this] {
        siginfo_t info{};
        const int told = ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT);
        if (told != 0 || info.si_pid != 0) on_exit();
    });
}

void Child::watch_pipes() {
    if (paused_) return;
    bool all = true;
    for (const Stream stream : {Stream::out, Stream::err}) {
        Pipe& pipe = pipes_[index_of(stream)];
        if (!pipe.open()) continue;
        if (pipe.watch) {
            pipe.watch.resume(Readiness::readable);
        } else if (auto watch = Watch::start(loop_, pipe.read_end.get(), Readiness::readable,
                                             [this, stream] { read(stream); })) {
            pipe.watch = std::move(*watch);
        } else {
            all = false;
        }
    }
    if (all) return;
    // No memory for it, at present. Until there is, the pipes are looked at now and then.
    unwatched_.start(unwatched_at_first, [this] {
        bool news = false;
        for (const Stream stream : {Stream::out, Stream::err})
            if (!pipes_[index_of(stream)].watch && take(stream)) news = true;
        watch_pipes();
        if (news) settle();
    });
}

// One read a turn: a child that never stops writing must not starve the others.
bool Child::take(Stream stream) {
    Pipe& pipe = pipes_[index_of(stream)];
    if (!pipe.open() || paused_) return false;
    const auto buffer = loop_.read_buffer();
    const ssize_t got = ::read(pipe.read_end.get(), buffer.data(), buffer.size());
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (got > 0) {
        pipe.read_bytes += static_cast<std::uint64_t>(got);
        events_.on_output(stream, buffer.first(static_cast<std::size_t>(got)));
    } else {
        pipe.close();
    }
    return true;
}

void Child::read(Stream stream) {
    if (take(stream)) settle();
}

// What a process that is over has left on its way, at most what there is room for: a terminal gives it out in small
// pieces. Whether there was anything.
bool Child::read_rest() {
    bool news = false;
    for (const Stream stream : {Stream::out, Stream::err}) {
        const std::uint64_t all = pipes_[index_of(stream)].read_bytes + pseudo_terminal_bytes_max;
        while (pipes_[index_of(stream)].read_bytes < all && take(stream)) news = true;
    }
    watch_pipes();
    return news;
}

void Child::on_exit() {
    read_rest();
    // Left a zombie while its pipes are open: as long as it is one, its number, and
    // so its process group, cannot be anyone else's.
    outcome_ = outcome_now(pipes_open() || terminating_);
    if (!outcome_) return;
    exit_watch_.reset();
    exit_poll_.reset();
    settle();
}

// How it ended, if it has; it is left a zombie where it is to be kept. Asked by its number,
// which older kernels can do too: as long as it is not reaped that is nobody else's.
std::optional<Outcome> Child::outcome_now(bool keep) {
    siginfo_t info{};
    if (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | (keep ? WNOWAIT : 0)) == 0) {
        if (info.si_pid == 0) return std::nullopt;
        reaped_ = !keep;
        return outcome_of(info);
    }
    int status = 0;
    if (errno != ECHILD) {  // a filter that knows no waitid
        const pid_t gone = ::waitpid(pid_, &status, WNOHANG);
        if (gone == 0) return std::nullopt;
        if (gone == pid_) {
            reaped_ = true;
            return outcome_of(status);
        }
    }
    const int error = errno;
    reaped_ = true;
    if (error == ECHILD)  // SIGCHLD is ignored, or a stray wait()
        return Outcome::lost("the exit status of process " + std::to_string(pid_) + " was taken by somebody else");
    return Outcome::lost("cannot learn how process " + std::to_string(pid_) +
                         " ended: " + std::error_code(error, std::system_category()).message());
}

// Exit and the two ends of file arrive in any order, so each calls here and the
// last one lands the child.
void Child::settle() {
    if (!outcome_) return;
    if (!pipes_open()) return land();
    // A grandchild holds a pipe. While it is being terminated the grace period
    // bounds the wait; otherwise silence does, which each output starts anew. But after a
    // KILL only a stranger still writes, from a session of its own, and could hold the run for ever.
    if (paused_ || (terminating_ && !killed_)) return;
    if (killed_ && std::exchange(draining_killed_, true)) return;
    if (!silence_) silence_.emplace(loop_);
    silence_->start(drain_after_exit, [this] { after_silence(); });
}

// A loop that was busy meanwhile has not looked at the pipes: what is there already is nothing to be cut.
void Child::after_silence() {
    if (read_rest() && !killed_) return settle();
    for (Pipe& pipe : pipes_) pipe.close();
    land();
}

void Child::land() {
    if (terminating_ && !reaped_) signal(SIGKILL);
    if (!reaped_) {
        while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {  // a zombie: it does not wait
        }
        reaped_ = true;
    }
    guarded_.clear();
    if (grace_) grace_->stop();
    if (silence_) silence_->stop();
    unwatched_.stop();
    auto on_ended = std::move(events_.on_ended);
    on_ended(std::move(*outcome_));  // may destroy this
}

void Child::signal(int number) noexcept {
    if (reaped_) return;
    ::kill(-pid_, number);
    // As timeout(1) does: who is told to end has to run for that.
    if (number == SIGTERM || number == SIGINT || number == SIGHUP || number == SIGQUIT) ::kill(-pid_, SIGCONT);
}

void Child::terminate(std::chrono::milliseconds grace) {
    if (killed_) return;
    if (!terminating_) {
        terminating_ = true;
        if (silence_) silence_->stop();
        signal(SIGTERM);
    }
    if (grace_ && grace_->due_in() <= grace) return;  // or who asks again and again would keep it alive
    if (!grace_) grace_.emplace(loop_);
    grace_->start(grace, [this] {
        killed_ = true;
        signal(SIGKILL);
        if (paused_)
            resume();  // what it wrote is still to be read
        else
            settle();
    });
}

void Child::pause() noexcept {
    if (killed_) return;  // what is left in its pipes is little, and the last there is
    paused_ = true;
    for (Pipe& pipe : pipes_) pipe.watch.stop();
    if (silence_) silence_->stop();
}

void Child::resume() {
    if (!paused_) return;
    paused_ = false;
    watch_pipes();
    settle();
}

bool Child::pipes_open() const noexcept { return pipes_[0].open() || pipes_[1].open(); }

}  // namespace coalesce
