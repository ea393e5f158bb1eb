// SPDX-License-Identifier: MIT
#include <coalesce/meeting/attention.h>

#include <signal.h>
#include <sys/time.h>

#include <algorithm>
#include <array>

#include <coalesce/io/watch.h>

namespace coalesce {
namespace {

using namespace std::chrono;

constexpr std::array ending_signals{SIGINT, SIGTERM, SIGHUP, SIGQUIT};
constexpr std::array user_signals{SIGUSR1, SIGUSR2};
constexpr suseconds_t first_tick_us = 1000;
constexpr suseconds_t tick_us = 20'000;

// What handlers write.
volatile sig_atomic_t ending_signal = 0;
volatile sig_atomic_t ending_count = 0;
std::array<volatile sig_atomic_t, 2> user_came{};
volatile sig_atomic_t ticked = 0;

int ending_taken = 0;
bool restless = false;
std::optional<Attention::Clock::time_point> deadline;

void arm(timeval first) noexcept {
    itimerval timer{};
    timer.it_value = first;
    timer.it_interval.tv_usec = tick_us;
    ::setitimer(ITIMER_REAL, &timer, nullptr);
}

void tick_soon() noexcept { arm({.tv_sec = 0, .tv_usec = first_tick_us}); }

void on_ending_signal(int number) {
    ending_signal = number;
    ending_count = ending_count + 1;
    tick_soon();
}

void on_user_signal(int number) {
    user_came[number == user_signals[0] ? 0 : 1] = 1;
    tick_soon();
}

void handle(int number, void (*handler)(int)) {
    if (number != SIGALRM && SignalWatch::told_to_ignore(number)) return;
    struct sigaction action {};
    action.sa_handler = handler;
    ::sigaction(number, &action, nullptr);
}

// All has been dealt with: the next tick is at the deadline, if there is one.
void calm_down() {
    if (Attention::called() || restless) return;
    ticked = 0;
    if (!deadline) return arm({});
    const auto left =
        std::max(microseconds(first_tick_us), duration_cast<microseconds>(*deadline - Attention::Clock::now()));
    arm({.tv_sec = left.count() / 1'000'000, .tv_usec = left.count() % 1'000'000});
}

}  // namespace

void Attention::begin() {
    sigset_t all;
    ::sigemptyset(&all);
    ::sigaddset(&all, SIGALRM);
    handle(SIGALRM, [](int) { ticked = 1; });
    for (const int number : ending_signals) {
        handle(number, on_ending_signal);
        ::sigaddset(&all, number);
    }
    for (const int number : user_signals) {
        handle(number, on_user_signal);
        ::sigaddset(&all, number);
    }
    ::sigprocmask(SIG_UNBLOCK, &all, nullptr);
}

void Attention::forget() noexcept {
    for (const int number : ending_signals) ::signal(number, SIG_DFL);
    for (const int number : user_signals) ::signal(number, SIG_DFL);
    arm({});  // a handler may have run here
    ::signal(SIGALRM, SIG_DFL);
    deadline.reset();
    ending_taken = ending_count;
    for (volatile sig_atomic_t& came : user_came) came = 0;
}

void Attention::until(Clock::time_point time) {
    deadline = time;
    calm_down();
}

bool Attention::out_of_time() { return deadline && Clock::now() >= *deadline; }

bool Attention::called() {
    return told_to_end() || user_came[0] != 0 || user_came[1] != 0 || (restless && ticked != 0);
}

bool Attention::told_to_end() { return ending_count != ending_taken || out_of_time(); }

std::optional<int> Attention::take_signal() {
    ticked = 0;
    if (ending_count == ending_taken) return std::nullopt;
    ending_taken = ending_count;
    const int number = ending_signal;
    calm_down();
    return number;
}

std::optional<int> Attention::take_user_signal() {
    for (std::size_t i = 0; i < user_signals.size(); ++i) {
        if (user_came[i] == 0) continue;
        user_came[i] = 0;
        calm_down();
        return user_signals[i];
    }
    return std::nullopt;
}

int Attention::last_signal() noexcept { return ending_signal; }

Attention::Restless::Restless(milliseconds first) {
    restless = true;
    ticked = 0;
    arm({.tv_sec = first.count() / 1000, .tv_usec = first.count() % 1000 * 1000});
}

Attention::Restless::~Restless() {
    restless = false;
    calm_down();
}

int Attention::wait(std::span<pollfd> watched, int timeout) {
    if (called()) return 0;
    const int ready = ::poll(watched.data(), watched.size(), timeout);
    return std::max(ready, 0);
}

}  // namespace coalesce
