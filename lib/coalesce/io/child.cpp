// SPDX-License-Identifier: MIT
#include <coalesce/io/child.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include <coalesce/io/loop.h>

namespace coalesce {
namespace {

constexpr std::chrono::milliseconds drain_after_exit{200};  // SPEC F8

// Most commands that matter for speed have ended by then. Their pipes are read once,
// at the end: watched, they would wake us for what was written, for the end of file,
// and then for the exit. Others wait for as long, if they have filled a pipe so soon.
constexpr std::chrono::milliseconds unwatched_at_first{3};

// Shared by all children and never closed. Opened on first use.
int dev_null() {
    static const int fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    return fd;
}

Outcome outcome_of(const siginfo_t& info) {
    return info.si_code == CLD_EXITED ? Outcome::exited(info.si_status)
                                      : Outcome::signalled(info.si_status, info.si_code == CLD_DUMPED);
}

}  // namespace

Child::Child(Loop& loop, Started started, Events events)
    : loop_(loop), pid_(started.pid), pidfd_(std::move(started.pidfd)), timer_(loop), events_(std::move(events)) {}

// Whoever drops a live child wants it gone now.
Child::~Child() {
    if (reaped_) return;
    signal(SIGKILL);
    exit_watch_.reset();
    waitpid(pid_, nullptr, 0);
}

Child::Start Child::start(Loop& loop, Program program, const Descriptor& standard_input, Events events) {
    return adopt(loop, launch(program, standard_input), std::move(events));
}

Child::Launched Child::launch(Program program, const Descriptor& standard_input) {
    Launched launched;
    std::array<Descriptor, 2> write_ends;
    for (std::size_t i = 0; i < write_ends.size(); ++i) {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) {
            launched.started.failed = Started::Step::spawn;
            launched.started.error = errno;
            return launched;
        }
        ::fcntl(ends[0], F_SETFL, O_NONBLOCK);  // of the read end alone
        launched.outputs[i] = Descriptor(ends[0]);
        write_ends[i] = Descriptor(ends[1]);
    }
    program.standard_input = standard_input ? standard_input.get() : dev_null();
    program.standard_output = write_ends[0].get();
    program.standard_error = write_ends[1].get();
    launched.started = spawn(program);
    return launched;
}

Child::Start Child::adopt(Loop& loop, Launched launched, Events events) {
    if (launched.started.failed != Started::Step::none)
        return {nullptr, launched.started.failed, launched.started.error};
    std::unique_ptr<Child> child(new Child(loop, std::move(launched.started), std::move(events)));
    Child* const self = child.get();
    for (std::size_t i = 0; i < launched.outputs.size(); ++i) self->pipes_[i].read_end = std::move(launched.outputs[i]);
    auto exit_watch = Watch::start(loop, self->pidfd_.get(), Readiness::readable, [self] { self->on_exit(); });
    if (!exit_watch)
        return {nullptr, Started::Step::spawn, exit_watch.error().code.value()};  // the destructor kills and reaps it
    self->exit_watch_ = std::move(*exit_watch);
    self->timer_.start(unwatched_at_first, [self] { self->watch_pipes(); });
    return {std::move(child)};
}

void Child::watch_pipes() {
    if (paused_) return;
    for (const Stream stream : {Stream::out, Stream::err}) {
        Pipe& pipe = pipes_[index_of(stream)];
        if (!pipe.open()) continue;
        if (pipe.watch) {
            pipe.watch.resume(Readiness::readable);
        } else if (auto watch = Watch::start(loop_, pipe.read_end.get(), Readiness::readable,
                                             [this, stream] { read(stream); })) {
            pipe.watch = std::move(*watch);
        } else {  // no memory for it, at present
            timer_.start(unwatched_at_first, [this] { watch_pipes(); });
        }
    }
}

// One read a turn: a child that never stops writing must not starve the others.
void Child::read(Stream stream) {
    Pipe& pipe = pipes_[index_of(stream)];
    if (!pipe.open() || paused_) return;
    const auto buffer = loop_.read_buffer();
    const ssize_t got = ::read(pipe.read_end.get(), buffer.data(), buffer.size());
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got > 0) {
        // Not idle: settle() below starts it anew. But after a KILL only a stranger still
        // writes, from a session of its own, and could hold the run for ever.
        if (outcome_ && !killed_) timer_.stop();
        events_.on_output(stream, buffer.first(static_cast<std::size_t>(got)));
    } else {
        pipe.close();
    }
    settle();
}

// What a process that is over has left in its pipes, at most what a pipe holds.
void Child::read_rest() {
    for (const Stream stream : {Stream::out, Stream::err})
        for (int reads = 0; reads < 2; ++reads) read(stream);
    watch_pipes();
}

void Child::on_exit() {
    read_rest();
    siginfo_t info{};
    // Left a zombie while its pipes are open: as long as it is one, its number, and
    // so its process group, cannot be anyone else's.
    const bool keep = pipes_open() || terminating_;
    const int told = waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG | (keep ? WNOWAIT : 0));
    if (told != 0 && errno == ECHILD) {  // somebody else has reaped it: SIGCHLD is ignored, or a stray wait()
        exit_watch_.reset();
        reaped_ = true;
        outcome_ = Outcome::lost("the exit status of process " + std::to_string(pid_) + " was taken by somebody else");
        return settle();
    }
    if (told != 0 || info.si_pid == 0) return;
    exit_watch_.reset();
    reaped_ = !keep;
    outcome_ = outcome_of(info);
    settle();
}

// Exit and the two ends of file arrive in any order, so each calls here and the
// last one lands the child.
void Child::settle() {
    if (!outcome_) return;
    if (!pipes_open()) return land();
    // A grandchild holds a pipe. While it is being terminated the grace period
    // bounds the wait; otherwise silence does.
    if (paused_ || (terminating_ && !killed_)) return;
    if (killed_ && std::exchange(draining_killed_, true)) return;
    timer_.start(drain_after_exit, [this] {
        for (Pipe& pipe : pipes_) pipe.close();
        land();
    });
}

void Child::land() {
    if (terminating_ && !reaped_) signal(SIGKILL);
    if (!reaped_) {
        waitpid(pid_, nullptr, 0);
        reaped_ = true;
    }
    if (grace_) grace_->stop();
    timer_.stop();
    auto on_ended = std::move(events_.on_ended);
    on_ended(std::move(*outcome_));  // may destroy this
}

void Child::signal(int number) noexcept {
    if (reaped_) return;
    ::kill(-pid_, number);
    // As timeout(1) does.
    if (number == SIGTERM || number == SIGINT || number == SIGHUP) ::kill(-pid_, SIGCONT);
}

void Child::terminate(std::chrono::milliseconds grace) {
    if (!terminating_) {
        terminating_ = true;
        if (outcome_) timer_.stop();
        signal(SIGTERM);
    }
    if (!grace_) grace_.emplace(loop_);
    grace_->start(grace, [this] {
        killed_ = true;
        signal(SIGKILL);
        resume();  // what it wrote is still to be read
        settle();
    });
}

void Child::pause() noexcept {
    if (killed_) return;  // what is left in its pipes is little, and the last there is
    paused_ = true;
    for (Pipe& pipe : pipes_) pipe.watch.stop();
    if (outcome_) timer_.stop();
}

void Child::resume() {
    if (!paused_) return;
    paused_ = false;
    watch_pipes();
    settle();
}

bool Child::pipes_open() const noexcept { return pipes_[0].open() || pipes_[1].open(); }

}  // namespace coalesce
