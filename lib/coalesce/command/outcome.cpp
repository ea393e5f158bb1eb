// SPDX-License-Identifier: MIT
// The one place where an outcome becomes a number (R2), and the names of signals.
#include <coalesce/command/outcome.h>

#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <string_view>
#include <utility>

namespace coalesce {
namespace {

struct NamedSignal {
    int number;
    std::string_view name;
};

constexpr auto kSignals = std::to_array<NamedSignal>({
    {SIGHUP, "HUP"},       {SIGINT, "INT"},     {SIGQUIT, "QUIT"}, {SIGILL, "ILL"},   {SIGTRAP, "TRAP"},
    {SIGABRT, "ABRT"},     {SIGBUS, "BUS"},     {SIGFPE, "FPE"},   {SIGKILL, "KILL"}, {SIGUSR1, "USR1"},
    {SIGSEGV, "SEGV"},     {SIGUSR2, "USR2"},   {SIGPIPE, "PIPE"}, {SIGALRM, "ALRM"}, {SIGTERM, "TERM"},
    {SIGCHLD, "CHLD"},     {SIGCONT, "CONT"},   {SIGSTOP, "STOP"}, {SIGTSTP, "TSTP"}, {SIGTTIN, "TTIN"},
    {SIGTTOU, "TTOU"},     {SIGURG, "URG"},     {SIGXCPU, "XCPU"}, {SIGXFSZ, "XFSZ"}, {SIGVTALRM, "VTALRM"},
    {SIGPROF, "PROF"},     {SIGSYS, "SYS"},
#ifdef __linux__
    {SIGSTKFLT, "STKFLT"}, {SIGWINCH, "WINCH"}, {SIGPOLL, "POLL"}, {SIGPWR, "PWR"},
#endif
});

}  // namespace

Outcome Outcome::exited(int exit_status) { return {Kind::exited, exit_status}; }
Outcome Outcome::signalled(int signal_number, bool core_dumped) {
    return {Kind::signalled, signal_number, {}, core_dumped};
}
Outcome Outcome::timed_out() { return {Kind::timed_out}; }
Outcome Outcome::not_started(int errno_value, std::string reason) {
    return {Kind::not_started, errno_value, std::move(reason)};
}
Outcome Outcome::refused(int errno_value, std::string reason) {
    return {Kind::refused, errno_value, std::move(reason)};
}
Outcome Outcome::cancelled() { return {Kind::cancelled}; }
Outcome Outcome::cancelled_for_everyone() { return {Kind::cancelled, 0, "cancelled for everyone"}; }
Outcome Outcome::lost(std::string reason) { return {Kind::lost, 0, std::move(reason)}; }
Outcome Outcome::engine_down(std::string reason) { return {Kind::engine_down, 0, std::move(reason)}; }

int Outcome::status() const {
    switch (kind) {
        case Kind::exited:
            return code;
        case Kind::signalled:
            return 128 + code;
        case Kind::timed_out:
            return 124;
        case Kind::not_started:
            return code == ENOENT ? 127 : 126;
        case Kind::refused:
        case Kind::cancelled:
        case Kind::lost:
        case Kind::engine_down:
            break;
    }
    return 125;
}

bool Outcome::success() const { return kind == Kind::exited && code == 0; }

bool Outcome::withdrawn() const { return kind == Kind::cancelled && reason.empty(); }

std::string Outcome::describe() const {
    switch (kind) {
        case Kind::exited:
            return "exit " + std::to_string(code);
        case Kind::signalled:
            return "killed by " + signal_name(code);
        case Kind::timed_out:
            return "timed out";
        case Kind::cancelled:
            return reason.empty() ? "cancelled" : reason;
        case Kind::not_started:
            return reason.empty() ? "could not be started" : reason;
        case Kind::refused:
            return reason.empty() ? "could not be prepared" : reason;
        case Kind::engine_down:
            return reason.empty() ? "the engine is not there" : reason;
        case Kind::lost:
            break;
    }
    return reason.empty() ? "lost" : reason;
}

std::string signal_name(int signal_number) {
    for (const NamedSignal& signal : kSignals)
        if (signal.number == signal_number) return std::string(signal.name);
    if (signal_number == SIGRTMIN) return "RTMIN";
    if (signal_number > SIGRTMIN && signal_number <= SIGRTMAX)
        return "RTMIN+" + std::to_string(signal_number - SIGRTMIN);
    return std::to_string(signal_number);
}

}  // namespace coalesce
