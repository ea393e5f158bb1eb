// SPDX-License-Identifier: MIT
// One running process, its output and its end (SPEC F8, F13). What is recorded in
// callbacks is checked after the loop.
#include <coalesce/io/child.h>

#include <coalesce/io/loop.h>

#include <fcntl.h>
#include <signal.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cerrno>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "../catch.h"
#include "../scratch.h"

using namespace coalesce;
using namespace std::chrono_literals;

namespace {

// The one set that may still grow, while there is no memory for others: libuv's own, which ends the process if it
// may not.
int only_set_with_room = -1;

}  // namespace

// In place of libc's.
extern "C" int epoll_ctl(int set, int operation, int fd, epoll_event* event) noexcept {
    if (only_set_with_room >= 0 && set != only_set_with_room && operation == EPOLL_CTL_ADD) {
        errno = ENOMEM;
        return -1;
    }
    return static_cast<int>(::syscall(SYS_epoll_ctl, set, operation, fd, event));
}

namespace {

const std::vector<std::string> plain_env{"PATH=/usr/bin:/bin"};

// A child and what it told.
class Watched {
  public:
    Watched(Loop& loop, const std::string& line, const std::string& input = {}) {
        Descriptor in;
        if (!input.empty()) {
            in = Descriptor(::memfd_create("input", MFD_CLOEXEC));
            REQUIRE(::pwrite(in.get(), input.data(), input.size(), 0) == static_cast<ssize_t>(input.size()));
        }
        const std::vector<std::string> argv{"/bin/sh", "-c", line};
        auto start = Child::start(loop, {.argv = argv, .env = plain_env, .umask = 022}, in,
                                  {[this](Stream stream, std::span<const char> bytes) {
                                       (stream == Stream::out ? out : err).append(bytes.begin(), bytes.end());
                                       if (on_output) on_output();
                                       if (auto once = std::exchange(on_first_output, {})) once();
                                   },
                                   [this](Outcome outcome) {
                                       outcomes.push_back(std::move(outcome));
                                       if (on_ended) on_ended();
                                   }});
        REQUIRE(start.child);
        child = std::move(start.child);
    }

    std::unique_ptr<Child> child;
    std::string out;
    std::string err;
    std::vector<Outcome> outcomes;
    std::function<void()> on_output;
    std::function<void()> on_first_output;
    std::function<void()> on_ended;
};

bool alive(pid_t pid) {
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::string text;
    return std::getline(stat, text) && text[text.rfind(") ") + 2] != 'Z';
}

void await_death(pid_t pid) {
    const Descriptor handle(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
    if (!handle) return;
    siginfo_t info{};
    pollfd gone{.fd = handle.get(), .events = POLLIN, .revents = 0};
    REQUIRE(::poll(&gone, 1, 30'000) == 1);
    static_cast<void>(info);
}

}  // namespace

TEST_CASE("F8: a process ends once, after all that it wrote", "[child]") {
    Loop loop;
    Watched watched(loop, "echo out; echo err >&2; exit 7");
    loop.run();
    CHECK(watched.out == "out\n");
    CHECK(watched.err == "err\n");
    CHECK(watched.outcomes == std::vector{Outcome::exited(7)});
    CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);  // it is reaped
}

TEST_CASE("F8: a signalled process says which signal", "[child]") {
    Loop loop;
    Watched watched(loop, "kill -KILL $$");
    loop.run();
    CHECK(watched.outcomes == std::vector{Outcome::signalled(SIGKILL)});
}

TEST_CASE("F8: much output is read whole, before the end", "[child]") {
    Loop loop;
    Watched watched(loop, "head -c 3000000 /dev/zero; echo done >&2");
    loop.run();
    CHECK(watched.out.size() == 3'000'000);
    CHECK(watched.err == "done\n");
    CHECK(watched.outcomes.size() == 1);
}

TEST_CASE("F8: two that write at once are read in turn", "[child]") {
    Loop loop;
    Watched endless(loop, "yes");
    Watched brief(loop, "echo brief");
    brief.on_ended = [&] { endless.child->terminate(0ms); };
    loop.run();
    CHECK(brief.out == "brief\n");
    CHECK(endless.outcomes.size() == 1);
}

TEST_CASE("F8: a grandchild that holds the pipes delays the end by 200 ms of silence, no more", "[child]") {
    Loop loop;
    Watched watched(loop, "sleep 1000 & echo $!");
    const auto begun = std::chrono::steady_clock::now();
    loop.run();
    const auto took = std::chrono::steady_clock::now() - begun;
    CHECK(took >= 200ms);  // and not the grandchild's thousand seconds, which ctest would not wait for
    CHECK(watched.outcomes == std::vector{Outcome::exited(0)});
    const pid_t grandchild = std::stoi(watched.out);
    CHECK(alive(grandchild));  // it was not told to end
    ::kill(grandchild, SIGKILL);
}

TEST_CASE("F8: each chunk of a grandchild starts the silence anew", "[child]") {
    // On a busy machine one of them may come too late. If none did start it anew, no attempt would be whole.
    for (int attempt = 0; attempt < 50; ++attempt) {
        Loop loop;
        Watched watched(loop, "(for i in 1 2 3 4 5 6; do sleep 0.1; echo $i; done) & exit 3");
        loop.run();
        CHECK(watched.outcomes == std::vector{Outcome::exited(3)});
        CHECK(std::string("1\n2\n3\n4\n5\n6\n").starts_with(watched.out));
        if (watched.out.size() == 12) return;
    }
    FAIL("it was never whole");
}

// A loop looks at its clock before it looks at descriptors. One that had been busy for so long took that for silence,
// and dropped what was there to be read.
TEST_CASE("F8: what has been written while the loop was busy is read, however late", "[child]") {
    const Scratch scratch;
    const auto gate_at = [&scratch](const char* name) {
        REQUIRE(::mkfifo(scratch.path(name).c_str(), 0600) == 0);
        return Descriptor(::open(scratch.path(name).c_str(), O_RDWR | O_CLOEXEC));
    };
    const Descriptor gate = gate_at("gate");
    const Descriptor told = gate_at("told");
    const auto open_gate = [&gate] { CHECK(::write(gate.get(), "\n", 1) == 1); };
    for (int attempt = 0; attempt < 50; ++attempt) {
        Loop loop;
        Watched watched(loop, "cd " + scratch.path() +
                                  "; echo begun; (read x <gate; echo late; echo x >told; read x <gate) & exit 3");
        const Pipe call;
        bool in_time = false;
        std::chrono::steady_clock::time_point written;
        Watch busy;
        auto watch = Watch::start(loop, call.read_end.get(), Readiness::readable, [&] {
            busy.stop();
            in_time = watched.outcomes.empty();
            open_gate();
            char word[2];
            CHECK(::read(told.get(), word, sizeof word) == 2);
            written = std::chrono::steady_clock::now();
            while (std::chrono::steady_clock::now() < written + 300ms) {
            }
        });
        busy = std::move(*watch);
        Timer in_the_silence(loop);
        watched.on_first_output = [&] { in_the_silence.start(100ms, [&] { call.write("x"); }); };
        loop.run();
        open_gate();
        CHECK(watched.outcomes == std::vector{Outcome::exited(3)});
        if (!in_time) continue;
        CHECK(watched.out == "begun\nlate\n");
        CHECK(std::chrono::steady_clock::now() - written >= 500ms);  // the silence began anew
        return;
    }
    FAIL("the silence was always over before");
}

TEST_CASE("F8: without memory to watch the pipes, what a grandchild writes after the exit is read whole", "[child]") {
    // One timer served the looks at the pipes and the silence after the exit, which came in their place.
    Loop loop;
    only_set_with_room = uv_backend_fd(loop.raw());
    Watched watched(loop, "(head -c 2000000 /dev/zero; echo done >&2) & exit 3");
    loop.run();
    only_set_with_room = -1;
    CHECK(watched.out.size() == 2'000'000);
    CHECK(watched.err == "done\n");
    CHECK(watched.outcomes == std::vector{Outcome::exited(3)});
}

TEST_CASE("F8: a grandchild that ends closes the run at once", "[child]") {
    Loop loop;
    Watched watched(loop, "(read x; echo late) <&- & exit 3");
    loop.run();
    CHECK(watched.out == "late\n");
}

TEST_CASE("F8: a process that closes both pipes still ends only when it exits", "[child]") {
    Loop loop;
    Scratch scratch;
    REQUIRE(::mkfifo(scratch.path("gate").c_str(), 0600) == 0);
    const Descriptor gate(::open(scratch.path("gate").c_str(), O_RDWR | O_CLOEXEC));
    Watched watched(loop, "exec >&- 2>&-; read x <" + scratch.path("gate") + "; exit 5");
    Timer timer(loop);
    bool early = false;
    timer.start(250ms, [&] {
        early = !watched.outcomes.empty();
        static_cast<void>(::write(gate.get(), "\n", 1));
    });
    loop.run();
    CHECK_FALSE(early);
    CHECK(watched.outcomes == std::vector{Outcome::exited(5)});
}

TEST_CASE("F5: terminate() is TERM at once, and KILL after the grace period", "[child]") {
    Loop loop;
    SECTION("what ends by TERM is not killed") {
        Watched watched(loop, "trap 'echo bye; exit 4' TERM; echo ready; while :; do sleep 1000 >&- 2>&- & wait; done");
        watched.on_output = [&] { watched.child->terminate(1h); };
        loop.run();
        CHECK(watched.out == "ready\nbye\n");
        CHECK(watched.outcomes == std::vector{Outcome::exited(4)});
    }
    SECTION("what ignores TERM is") {
        Watched watched(loop, "trap '' TERM; echo ready; while :; do sleep 1000; done");
        watched.on_output = [&] { watched.child->terminate(50ms); };
        loop.run();
        CHECK(watched.outcomes == std::vector{Outcome::signalled(SIGKILL)});
    }
    SECTION("asking again brings the KILL forward") {
        Watched watched(loop, "trap '' TERM; echo ready; while :; do sleep 1000; done");
        watched.on_output = [&] {
            watched.child->terminate(1h);
            watched.child->terminate(1ms);
        };
        loop.run();
        CHECK(watched.outcomes == std::vector{Outcome::signalled(SIGKILL)});
    }
    // Each time the KILL was put off anew: who cancelled again and again kept the run alive.
    SECTION("asking again with a longer grace does not put it off") {
        Watched watched(loop, "trap '' TERM; echo ready; while :; do sleep 1000; done");
        Timer broken(loop);
        broken.in_background();
        broken.start(60s, [&] { loop.stop(); });
        watched.on_output = [&] {
            watched.child->terminate(50ms);
            watched.child->terminate(1h);
        };
        loop.run();
        CHECK(watched.outcomes == std::vector{Outcome::signalled(SIGKILL)});
    }
    SECTION("a stopped process acts on it") {
        Watched watched(loop, "echo ready; kill -STOP $$; echo never");
        Timer timer(loop);
        watched.on_output = [&] { timer.start(50ms, [&] { watched.child->terminate(1h); }); };
        loop.run();
        CHECK(watched.outcomes == std::vector{Outcome::signalled(SIGTERM)});
    }
}

TEST_CASE("F5: the whole process group is told to end, and what is left of it is killed", "[child]") {
    Loop loop;
    SECTION("by TERM") {
        Watched watched(loop, "sleep 1000 & echo $!; wait");
        watched.on_output = [&] { watched.child->terminate(1h); };
        loop.run();
        await_death(std::stoi(watched.out));
    }
    SECTION("one that ignores TERM and holds no pipe, when the leader has gone") {
        Watched watched(loop, "sh -c 'trap \"\" TERM; echo $$; exec sleep 1000 >/dev/null 2>&1' & exec sleep 1000");
        watched.on_output = [&] { watched.child->terminate(1h); };
        loop.run();
        await_death(std::stoi(watched.out));
    }
    SECTION("one that ignores TERM and holds a pipe, when the grace period is over") {
        Watched watched(loop, "sh -c 'trap \"\" TERM; echo $$; exec sleep 1000' & exec sleep 1000");
        watched.on_output = [&] { watched.child->terminate(100ms); };
        loop.run();
        CHECK(watched.outcomes.size() == 1);
        await_death(std::stoi(watched.out));
    }
}

TEST_CASE("F5: a stranger that writes on holds a killed run 200 ms, not for ever", "[child]") {
    Loop loop;
    Watched watched(loop, "setsid sh -c 'echo $$; while :; do echo x; sleep 0.01; done' & exec sleep 1000");
    watched.on_first_output = [&] { watched.child->terminate(10ms); };
    loop.run();
    CHECK(watched.outcomes.size() == 1);
    ::kill(-std::stoi(watched.out), SIGKILL);
}

TEST_CASE("F9: a paused child is not read from, and goes on when resumed", "[child]") {
    Loop loop;
    Watched watched(loop, "head -c 1000000 /dev/zero; echo x >&2");
    std::size_t while_paused = 0;
    Timer timer(loop);
    watched.on_output = [&] {
        if (watched.out.size() < 100'000 || while_paused != 0) return;
        watched.child->pause();
        while_paused = watched.out.size();
        timer.start(100ms, [&] {
            while_paused -= watched.out.size();  // nothing came
            while_paused += 1;
            watched.child->resume();
        });
    };
    loop.run();
    CHECK(while_paused == 1);
    CHECK(watched.out.size() == 1'000'000);
    CHECK(watched.outcomes == std::vector{Outcome::exited(0)});
}

TEST_CASE("F9: a paused child that has exited ends only when the rest has been read", "[child]") {
    Loop loop;
    Watched watched(loop, "echo first; head -c 50000 /dev/zero; exit 2");
    bool ended_early = false;
    Timer timer(loop);
    watched.on_first_output = [&] {
        watched.child->pause();
        timer.start(300ms, [&] {
            ended_early = !watched.outcomes.empty();
            watched.child->resume();
        });
    };
    loop.run();
    CHECK_FALSE(ended_early);
    CHECK(watched.out.size() == 50'006);
    CHECK(watched.outcomes == std::vector{Outcome::exited(2)});
}

TEST_CASE("F9: a paused child can be killed, and what it wrote is still told", "[child]") {
    Loop loop;
    Watched watched(loop, "trap '' TERM; echo ready; exec yes");
    watched.on_output = [&] { watched.child->pause(); };  // refused once it is killed
    watched.on_first_output = [&] { watched.child->terminate(50ms); };
    loop.run();
    CHECK(watched.out.starts_with("ready\n"));
    CHECK(watched.outcomes == std::vector{Outcome::signalled(SIGKILL)});
}

TEST_CASE("F8: a child may be destroyed from its end, and while it runs", "[child]") {
    Loop loop;
    Watched at_end(loop, "echo x");
    at_end.on_ended = [&] { at_end.child.reset(); };
    Watched running(loop, "echo $$; exec sleep 1000");
    running.on_output = [&] { loop.post([&] { running.child.reset(); }); };
    loop.run();
    CHECK(at_end.outcomes.size() == 1);
    CHECK(running.outcomes.empty());
    CHECK_FALSE(alive(std::stoi(running.out)));
}

TEST_CASE("F4: a start that fails calls nobody and says what failed", "[child]") {
    Loop loop;
    const std::vector<std::string> argv{"/no/such/program"};
    bool called = false;
    const auto start =
        Child::start(loop, {.argv = argv, .env = plain_env}, Descriptor(),
                     {[&](Stream, std::span<const char>) { called = true; }, [&](Outcome) { called = true; }});
    CHECK_FALSE(start.child);
    CHECK(start.failed == Started::Step::execute);
    CHECK(start.error == ENOENT);
    loop.run();
    CHECK_FALSE(called);
}

TEST_CASE("F13: input is the given descriptor, or /dev/null", "[child]") {
    Loop loop;
    Watched none(loop, "cat; readlink /proc/self/fd/0");
    Watched given(loop, "cat", "some input");
    loop.run();
    CHECK(none.out == "/dev/null\n");
    CHECK(given.out == "some input");
}

TEST_CASE("F8: an exit status that somebody else has taken is said to be lost, not waited for", "[child]") {
    Loop loop;
    Watched watched(loop, "echo ready; read x; exit 3");
    watched.on_output = [&] {
        const pid_t pid = watched.child->pid();
        ::kill(pid, SIGKILL);
        ::waitpid(pid, nullptr, 0);
    };
    loop.run();
    REQUIRE(watched.outcomes.size() == 1);
    CHECK(watched.outcomes[0].kind == Outcome::Kind::lost);
}

TEST_CASE("F13: a thousand children, fifty at a time, leave no descriptor and no zombie", "[child]") {
    const auto open_files = [] {
        return std::distance(std::filesystem::directory_iterator("/proc/self/fd"),
                             std::filesystem::directory_iterator());
    };
    std::ptrdiff_t before = 0;
    std::size_t ended = 0;
    {
        Loop loop;
        std::vector<std::unique_ptr<Watched>> all;
        std::function<void()> start = [&] {
            if (all.size() == 1000) return;
            all.push_back(std::make_unique<Watched>(loop, "exit 1"));
            Watched& watched = *all.back();
            watched.on_ended = [&] {
                ++ended;
                watched.child.reset();
                start();
            };
        };
        before = open_files();
        for (int i = 0; i < 50; ++i) start();
        loop.run();
        CHECK(open_files() == before);
    }
    CHECK(ended == 1000);
    CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);
}
