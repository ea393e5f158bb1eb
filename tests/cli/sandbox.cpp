// SPDX-License-Identifier: MIT
#include "sandbox.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "../catch.h"

namespace coalesce {
namespace {

using Clock = std::chrono::steady_clock;

// Far longer than anything takes, so that it only ever ends what would hang.
constexpr std::chrono::seconds patience{600};

Clock::time_point deadline() { return Clock::now() + patience; }

int left_ms(Clock::time_point until) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count();
    return left > 0 ? static_cast<int>(left) : 0;
}

void await_readable(int fd) {
    pollfd ready{.fd = fd, .events = POLLIN, .revents = 0};
    if (::poll(&ready, 1, left_ms(deadline())) != 1) FAIL("waited in vain for something to be written");
}

std::array<Descriptor, 2> make_pipe() {
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    return {Descriptor(ends[0]), Descriptor(ends[1])};
}

// 0, 1, 2 in the child. Pipes of the test are above 2, since the test has all three.
void place(int fd, int number, bool closed) {
    if (closed)
        ::close(number);
    else
        ::dup2(fd, number);
}

[[noreturn]] void become(const How& how, const std::string& program, std::vector<std::string> args,
                         std::vector<std::string> env, const std::string& directory, const int (&fds)[3]) {
    for (int number = 0; number <= 2; ++number)
        place(fds[number], number, std::find(how.closed.begin(), how.closed.end(), number) != how.closed.end());
    if (::chdir(directory.c_str()) != 0) ::_exit(99);
    ::umask(022);
    for (int number = 1; number < NSIG; ++number) ::signal(number, SIG_DFL);
    for (const int number : how.ignored) ::signal(number, SIG_IGN);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    std::vector<char*> argv{const_cast<char*>(program.c_str())};
    for (std::string& arg : args) argv.push_back(arg.data());
    argv.push_back(nullptr);
    std::vector<char*> envp;
    for (std::string& entry : env) envp.push_back(entry.data());
    envp.push_back(nullptr);
    if (how.in_child) how.in_child();
    ::execve(program.c_str(), argv.data(), envp.data());
    ::_exit(99);
}

// Writes it all, by a process of its own if it is more than the pipe takes at once.
void feed(Descriptor in, std::string_view text) {
    ::fcntl(in.get(), F_SETFL, O_NONBLOCK);
    const ssize_t wrote = text.empty() ? 0 : ::write(in.get(), text.data(), text.size());
    text.remove_prefix(wrote > 0 ? static_cast<std::size_t>(wrote) : 0);
    if (text.empty() || (wrote < 0 && errno != EAGAIN)) return;
    ::fcntl(in.get(), F_SETFL, 0);
    const pid_t feeder = ::fork();
    REQUIRE(feeder >= 0);
    if (feeder > 0) {
        ::waitpid(feeder, nullptr, 0);
        return;
    }
    // Its parent is the test only for a moment, so that nobody has to wait for it.
    if (::fork() != 0) ::_exit(0);
    ::close_range(0, static_cast<unsigned>(in.get()) - 1, 0);
    ::close_range(static_cast<unsigned>(in.get()) + 1, ~0U, 0);
    while (!text.empty()) {
        const ssize_t more = ::write(in.get(), text.data(), text.size());
        if (more <= 0) break;
        text.remove_prefix(static_cast<std::size_t>(more));
    }
    ::_exit(0);
}

// As /proc tells it; 0 if there is no such process.
char state_of(pid_t pid) {
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::string text;
    if (!std::getline(stat, text)) return 0;
    const std::size_t name_end = text.rfind(") ");
    return name_end == std::string::npos ? '\0' : text[name_end + 2];
}

// One read; false at the end.
bool take(Descriptor& from, std::string& into) {
    std::array<char, 65536> buffer;
    const ssize_t got = ::read(from.get(), buffer.data(), buffer.size());
    if (got > 0) into.append(buffer.data(), static_cast<std::size_t>(got));
    if (got < 0 && errno == EINTR) return true;
    if (got <= 0) from.reset();
    return got > 0;
}

}  // namespace

Gate::Gate(std::string path) : path_(std::move(path)) {
    REQUIRE(::mkfifo(path_.c_str(), 0666) == 0);
    both_ends_ = Descriptor(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
    REQUIRE(both_ends_);
}

void Gate::open(int count) {
    const std::string newlines(static_cast<std::size_t>(count), '\n');
    REQUIRE(::write(both_ends_.get(), newlines.data(), newlines.size()) == count);
}

std::string Gate::await() {
    std::string line;
    for (char byte = 0; byte != '\n'; line += byte) {
        await_readable(both_ends_.get());
        REQUIRE(::read(both_ends_.get(), &byte, 1) == 1);
    }
    line.pop_back();
    return line;
}

bool Gate::written() const {
    pollfd ready{.fd = both_ends_.get(), .events = POLLIN, .revents = 0};
    return ::poll(&ready, 1, 0) == 1;
}

Running::Running(pid_t pid, Descriptor in, Descriptor out, Descriptor err)
    : pid_(pid), in_(std::move(in)), out_(std::move(out)), err_(std::move(err)) {}

Running::Running(Running&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      in_(std::move(other.in_)),
      out_(std::move(other.out_)),
      err_(std::move(other.err_)),
      out_rest_(std::move(other.out_rest_)),
      err_rest_(std::move(other.err_rest_)) {}

Running::~Running() {
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
}

void Running::send(std::string_view text) {
    REQUIRE(::write(in_.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size()));
}

std::string Running::read_bytes(std::size_t count) {
    while (out_rest_.size() < count) {
        await_readable(out_.get());
        if (!take(out_, out_rest_)) FAIL("the output ended early: " << out_rest_);
    }
    std::string bytes = out_rest_.substr(0, count);
    out_rest_.erase(0, count);
    return bytes;
}

std::string Running::take_line(Descriptor& from, std::string& rest) {
    while (rest.find('\n') == std::string::npos) {
        await_readable(from.get());
        if (!take(from, rest)) FAIL("the output ended inside a line: " << rest);
    }
    const std::size_t end = rest.find('\n');
    std::string line = rest.substr(0, end);
    rest.erase(0, end + 1);
    return line;
}

std::string Running::read_line() { return take_line(out_, out_rest_); }
std::string Running::read_error_line() { return take_line(err_, err_rest_); }

std::string Running::read_error_until(std::string_view word) {
    while (err_rest_.find(word) == std::string::npos) {
        await_readable(err_.get());
        if (!take(err_, err_rest_)) FAIL("never seen on stderr: " << word << " in " << err_rest_);
    }
    return err_rest_;
}

void Running::signal(int number) const { REQUIRE(::kill(pid_, number) == 0); }

long Running::peak_kib() const {
    std::ifstream status("/proc/" + std::to_string(pid_) + "/status");
    for (std::string line; std::getline(status, line);)
        if (line.starts_with("VmHWM:")) return std::stol(line.substr(6));
    FAIL("it has no memory");
    return 0;
}

Ended Running::wait() {
    const auto until = deadline();
    in_.reset();
    while (out_ || err_) {
        std::array<pollfd, 2> watched{pollfd{.fd = out_.get(), .events = POLLIN, .revents = 0},
                                      pollfd{.fd = err_.get(), .events = POLLIN, .revents = 0}};
        if (::poll(watched.data(), watched.size(), left_ms(until)) <= 0)
            FAIL("it does not end; so far it said: " << out_rest_.substr(0, 1000) << "\n" << err_rest_.substr(0, 1000));
        if (out_ && watched[0].revents != 0) take(out_, out_rest_);
        if (err_ && watched[1].revents != 0) take(err_, err_rest_);
    }
    Ended ended;
    const Descriptor handle(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
    pollfd gone{.fd = handle.get(), .events = POLLIN, .revents = 0};
    if (::poll(&gone, 1, left_ms(until)) != 1) FAIL("it has closed its output but does not end");
    int status = 0;
    REQUIRE(::waitpid(pid_, &status, 0) == pid_);
    pid_ = -1;
    if (WIFEXITED(status)) ended.exit = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) ended.signal = WTERMSIG(status);
    ended.out = std::move(out_rest_);
    ended.err = std::move(err_rest_);
    return ended;
}

Sandbox::Sandbox() {
    const char* const parent = std::getenv("TMPDIR");
    directory_ = std::string(parent != nullptr ? parent : "/tmp") + "/coalesce-test-XXXXXX";
    REQUIRE(::mkdtemp(directory_.data()) != nullptr);
    directory_ = std::filesystem::canonical(directory_);
    ::mkdir(path("runtime").c_str(), 0700);
    ::signal(SIGPIPE, SIG_IGN);
    environment = {"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=" + directory_, "LC_ALL=C",
                   "XDG_RUNTIME_DIR=" + path("runtime"), "PWD=" + directory_};
    // Sanitizers are told through the environment; what they find must fail the test.
    for (const char* name : {"ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS"})
        if (const char* value = std::getenv(name)) environment.push_back(std::string(name) + "=" + value);
}

Sandbox::~Sandbox() {
    for (const std::string& point : mounted_) ::umount2(point.c_str(), MNT_DETACH);
    std::error_code ignored;
    std::filesystem::permissions(directory_, std::filesystem::perms::owner_all, ignored);
    std::filesystem::remove_all(directory_, ignored);
}

void Sandbox::write(const std::string& name, std::string_view text) const {
    std::ofstream file(path(name), std::ios::binary);
    file << text;
    file.close();
    REQUIRE(file.good());
}

std::string Sandbox::script(const std::string& name, std::string_view text) const {
    write(name, text.starts_with("#!") ? std::string(text) : "#!/bin/sh\n" + std::string(text));
    REQUIRE(::chmod(path(name).c_str(), 0755) == 0);
    return path(name);
}

std::string Sandbox::read(const std::string& name) const {
    std::ifstream file(path(name), std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

bool Sandbox::exists(const std::string& name) const { return std::filesystem::exists(path(name)); }

std::size_t Sandbox::lines(const std::string& name) const {
    const std::string text = read(name);
    return static_cast<std::size_t>(std::count(text.begin(), text.end(), '\n'));
}

// In a mount namespace of the test's own, so that nothing is left whatever comes.
bool Sandbox::mount_small_disk(const std::string& name, unsigned kib) {
    static const bool permitted =
        ::unshare(CLONE_NEWNS) == 0 && ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0;
    ::mkdir(path(name).c_str(), 0755);
    const std::string size = "size=" + std::to_string(kib) + "k";
    if (!permitted || ::mount("tmpfs", path(name).c_str(), "tmpfs", 0, size.c_str()) != 0) return false;
    mounted_.push_back(path(name));
    return true;
}

std::string Sandbox::program_for_all() const {
    ::chmod(directory_.c_str(), 0777);
    std::filesystem::remove(path("runtime"));  // it may be refused for its owner
    const std::string program = path("coalesce");
    std::filesystem::copy_file(tested_program(), program);
    ::chmod(program.c_str(), 0755);
    return program;
}

Running Sandbox::start(How how) const {
    auto [in_read, in_write] = make_pipe();
    auto [out_read, out_write] = make_pipe();
    auto [err_read, err_write] = make_pipe();
    const int fds[3] = {how.stdin_fd >= 0 ? how.stdin_fd : in_read.get(),
                        how.stdout_fd >= 0 ? how.stdout_fd : out_write.get(),
                        how.stderr_fd >= 0 ? how.stderr_fd : err_write.get()};
    std::vector<std::string> env = environment;
    env.insert(env.end(), how.env.begin(), how.env.end());
    const std::string program = how.program.empty() ? tested_program() : how.program;
    const pid_t pid = ::fork();
    REQUIRE(pid >= 0);
    if (pid == 0) become(how, program, how.args, std::move(env), directory_, fds);
    in_read.reset();  // whoever feeds it must learn that the program is gone
    if (how.input) feed(std::exchange(in_write, {}), *how.input);
    if (how.stdin_fd >= 0 || (how.closed.size() > 0 && how.closed.front() == 0)) in_write.reset();
    return {pid, std::move(in_write), std::move(out_read), std::move(err_read)};
}

Ended Sandbox::batch(std::vector<std::string> args, std::string input) const {
    return run({.args = std::move(args), .input = std::move(input)});
}

std::string repeated(std::string_view text, std::size_t times) {
    std::string all;
    all.reserve(text.size() * times);
    for (std::size_t i = 0; i < times; ++i) all += text;
    return all;
}

std::vector<std::string> sorted_lines(std::string_view text) {
    std::vector<std::string> lines;
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
        lines.emplace_back(text.substr(0, end));
        if (lines.back().back() == '\n') lines.back().pop_back();
        text.remove_prefix(end);
    }
    std::sort(lines.begin(), lines.end());
    return lines;
}

Descriptor open_file(const std::string& path, int flags) {
    Descriptor file(::open(path.c_str(), flags | O_CLOEXEC, 0644));
    REQUIRE(file);
    return file;
}

Terminal open_terminal(int columns) {
    int master = -1;
    int slave = -1;
    winsize size{.ws_row = 24, .ws_col = static_cast<unsigned short>(columns), .ws_xpixel = 0, .ws_ypixel = 0};
    REQUIRE(::openpty(&master, &slave, nullptr, nullptr, &size) == 0);
    ::fcntl(master, F_SETFD, FD_CLOEXEC);
    ::fcntl(slave, F_SETFD, FD_CLOEXEC);
    return {Descriptor(master), Descriptor(slave)};
}

std::string read_all(int fd, std::string_view until) {
    std::string all;
    std::array<char, 65536> buffer;
    const auto latest = deadline();
    while (until.empty() || all.find(until) == std::string::npos) {
        if (Clock::now() > latest)
            FAIL("never seen: " << until << " in " << all.substr(all.size() - std::min<std::size_t>(all.size(), 1000)));
        await_readable(fd);
        const ssize_t got = ::read(fd, buffer.data(), buffer.size());
        if (got <= 0) return all;  // EIO: a terminal that nobody holds any more
        all.append(buffer.data(), static_cast<std::size_t>(got));
    }
    return all;
}

void wait_until(const std::function<bool()>& is_so) {
    // What is waited for needs the processor more than who waits.
    for (const auto latest = deadline(); !is_so(); ::poll(nullptr, 0, 1))
        if (Clock::now() > latest) FAIL("it does not become so");
}

bool asleep(pid_t pid) { return state_of(pid) == 'S'; }

std::size_t children_of(pid_t pid) {
    const std::string task = "/proc/" + std::to_string(pid) + "/task/" + std::to_string(pid) + "/children";
    std::ifstream children(task);
    return static_cast<std::size_t>(std::distance(std::istream_iterator<int>(children), {}));
}

// Whoever has not run in between has not had others meanwhile.
bool rests(pid_t pid, std::size_t children) {
    const auto switches = [pid] {
        std::ifstream status("/proc/" + std::to_string(pid) + "/status");
        std::string told;
        for (std::string line; std::getline(status, line);)
            if (line.find("ctxt_switches") != std::string::npos) told += line;
        return told;
    };
    const std::string before = switches();
    return asleep(pid) && children_of(pid) == children && asleep(pid) && switches() == before;
}

bool alive(pid_t pid) {
    const char state = state_of(pid);
    return state != 0 && state != 'Z' && state != 'X';
}

void await_death(pid_t pid) {
    const Descriptor handle(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (!handle) return;  // it is gone, and reaped
    await_readable(handle.get());
}

}  // namespace coalesce
