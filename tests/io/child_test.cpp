// Children: real processes, their output, and their ends.

#include <coalesce/io/child.h>
#include <coalesce/io/loop.h>

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

using namespace coalesce;
using namespace std::chrono_literals;

namespace {

struct Ended {
    std::array<std::string, 2> output;
    std::optional<Outcome> outcome;
    Started::Step failed = Started::Step::none;
    int error = 0;
};

const std::vector<std::string> plain_env{"PATH=/usr/bin:/bin"};

// Runs a program to its end; `meanwhile` is called at its first output.
template <class Meanwhile>
Ended run(const std::vector<std::string>& argv, Meanwhile meanwhile, Program program) {
    Loop loop;
    Ended ended;
    std::unique_ptr<Child> child;
    bool first = true;
    auto started = Child::start(loop, program, Descriptor(),
                                {[&](Stream stream, std::span<const char> bytes) {
                                     ended.output[index_of(stream)].append(bytes.data(), bytes.size());
                                     if (std::exchange(first, false)) meanwhile(*child);
                                 },
                                 [&](Outcome outcome) { ended.outcome = std::move(outcome); }});
    static_cast<void>(argv);
    ended.failed = started.failed;
    ended.error = started.error;
    child = std::move(started.child);
    loop.run();
    child.reset();
    return ended;
}

Ended run(const std::vector<std::string>& argv) {
    return run(argv, [](Child&) {}, Program{.argv = argv, .env = plain_env});
}

Ended shell(const std::string& line) { return run({"sh", "-c", line}); }

}  // namespace

TEST_CASE("R2: exit status and signal come back as they were", "[child]") {
    CHECK(shell("exit 7").outcome == Outcome::exited(7));
    CHECK(shell("kill -KILL $$").outcome == Outcome::signalled(SIGKILL));
}

TEST_CASE("F3: both streams come whole, NUL and missing newline included", "[child]") {
    const Ended ended = shell("printf 'a\\000b'; printf 'c' >&2; head -c 300000 /dev/zero");
    CHECK(ended.output[0] == std::string("a\0b", 3) + std::string(300000, '\0'));
    CHECK(ended.output[1] == "c");
}

TEST_CASE("F4: what cannot be started says with which errno", "[child]") {
    CHECK(run({"no-such-program-anywhere"}).error == ENOENT);
    CHECK(run({"/etc/passwd"}).error == EACCES);
    CHECK(run({"/etc"}).error == EACCES);
    const std::vector<std::string> argv{"true"};
    const Ended elsewhere =
        run(argv, [](Child&) {}, Program{.argv = argv, .env = plain_env, .directory = "/no/such/directory"});
    CHECK(elsewhere.failed == Started::Step::directory);
    CHECK(elsewhere.error == ENOENT);
}

TEST_CASE("R1: a script without an interpreter line runs as execvp would run it", "[child]") {
    char path[] = "/tmp/coalesce-script-XXXXXX";
    const int fd = ::mkstemp(path);
    REQUIRE(fd >= 0);
    REQUIRE(::write(fd, "echo $1\n", 8) == 8);
    ::fchmod(fd, 0700);
    ::close(fd);
    CHECK(run({path, "argument"}).output[0] == "argument\n");
    ::unlink(path);
}

TEST_CASE("F13: a child has descriptors 0, 1 and 2, default signals, an empty mask and its own session", "[child]") {
    const int leaked = ::open("/dev/null", O_RDONLY);  // not close-on-exec
    ::signal(SIGINT, SIG_IGN);
    ::signal(SIGPIPE, SIG_IGN);
    sigset_t mask;
    ::sigemptyset(&mask);
    ::sigaddset(&mask, SIGUSR1);
    ::sigprocmask(SIG_BLOCK, &mask, nullptr);
    // The glob itself opens the directory: the shell sees one descriptor more.
    const Ended ended = shell("ls /proc/self/fd | tr '\\n' ' '; grep -E 'SigBlk|SigIgn' /proc/self/status; "
                              "[ $(cut -d' ' -f6 /proc/$$/stat) = $$ ] && echo leads its session");
    ::sigprocmask(SIG_UNBLOCK, &mask, nullptr);
    ::signal(SIGINT, SIG_DFL);
    ::close(leaked);
    CHECK(ended.output[0] ==
          "0 1 2 3 SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nleads its session\n");
}

TEST_CASE("F8: a grandchild that holds the pipe does not hold the run, and what was written is not cut", "[child]") {
    const Ended ended = shell("echo before; (exec sleep 1000) & echo $! >&2");
    CHECK(ended.output[0] == "before\n");
    CHECK(ended.outcome == Outcome::exited(0));
    ::kill(std::atoi(ended.output[1].c_str()), SIGKILL);
}

TEST_CASE("F5: a command that ignores TERM is killed after the grace period, with its group", "[child]") {
    const std::vector<std::string> argv{"sh", "-c", "trap '' TERM; sleep 1000 & echo $!; wait; wait; sleep 1000"};
    const Ended ended =
        run(argv, [](Child& child) { child.terminate(20ms); }, Program{.argv = argv, .env = plain_env});
    CHECK(ended.outcome == Outcome::signalled(SIGKILL));
    const int grandchild = std::atoi(ended.output[0].c_str());
    REQUIRE(grandchild > 1);
    std::ifstream status("/proc/" + ended.output[0].substr(0, ended.output[0].size() - 1) + "/stat");
    std::string pid;
    std::string name;
    std::string state = "gone";
    status >> pid >> name >> state;
    const bool gone = state == "gone" || state == "Z" || state == "X" || state == "";
    CHECK(gone);
}

TEST_CASE("F9: a paused child blocks when its pipe is full, and goes on when resumed", "[child]") {
    Loop loop;
    std::unique_ptr<Child> child;
    std::size_t got = 0;
    bool paused_once = false;
    bool read_while_paused = false;
    bool paused = false;
    Timer timer(loop);
    std::optional<Outcome> outcome;
    const std::vector<std::string> argv{"head", "-c", "1000000", "/dev/zero"};
    auto started = Child::start(loop, {.argv = argv, .env = plain_env}, Descriptor(),
                                {[&](Stream, std::span<const char> bytes) {
                                     got += bytes.size();
                                     read_while_paused = read_while_paused || paused;
                                     if (std::exchange(paused_once, true)) return;
                                     paused = true;
                                     child->pause();
                                     timer.start(20ms, [&] {
                                         paused = false;
                                         child->resume();
                                     });
                                 },
                                 [&](Outcome end) { outcome = std::move(end); }});
    child = std::move(started.child);
    loop.run();
    CHECK(outcome == Outcome::exited(0));
    CHECK(got == 1'000'000);
    CHECK_FALSE(read_while_paused);
    child.reset();
}
