// SPDX-License-Identifier: MIT
// R5: signals and --wait are heard wherever a requester waits; and what its own system
// calls may say besides yes and no.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <vector>

#include "../catch.h"
#include "../not_tried.h"
#include "sandbox.h"

namespace {

struct LittlePipe : Ends {
    LittlePipe() {
        int ends[2];
        REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        reader = ends[0];
        writer = ends[1];
        REQUIRE(::fcntl(writer, F_SETPIPE_SZ, 4096) == 4096);
    }
    void until_full() const {
        for (int bytes = 0; bytes < 4096; ::poll(nullptr, 0, 1)) REQUIRE(::ioctl(reader, FIONREAD, &bytes) == 0);
    }
};

// Whether the process is the program by now, and has something open there.
bool has_open(pid_t pid, const std::string& path) {
    std::error_code gone;
    if (std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/exe", gone) != tested_program()) return false;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/fd", gone))
        if (std::filesystem::read_symlink(entry.path(), gone) == path) return true;
    return false;
}

// As a service that was started by inetd has for its output.
void connect_over_loopback(int (&ends)[2]) {
    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    REQUIRE(::bind(listener, reinterpret_cast<sockaddr*>(&address), length) == 0);
    REQUIRE(::listen(listener, 1) == 0);
    REQUIRE(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &length) == 0);
    ends[0] = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(::connect(ends[0], reinterpret_cast<sockaddr*>(&address), length) == 0);
    ends[1] = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    REQUIRE(ends[1] >= 0);
    ::close(listener);
}

// Somebody who listens and answers nothing.
struct Mute {
    explicit Mute(const std::string& path) : fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        path.copy(address.sun_path, sizeof address.sun_path - 1);
        REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
        REQUIRE(::listen(fd, 10) == 0);
    }
    ~Mute() { ::close(fd); }
    // One that is connected, and has begun to ask.
    [[nodiscard]] int accept() const {
        const int accepted = ::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC);
        char byte = 0;
        REQUIRE(::read(accepted, &byte, 1) == 1);
        return accepted;
    }
    int fd;
};

}  // namespace

SCENARIO("R5: while another has the place's lock, TERM and --wait are heard", "[wrapper]") {
    // It waited in the kernel for the lock, and began to wait again when a signal came.
    Sandbox box;
    REQUIRE(box.run({"true"}).status == 0);
    const int held = ::open(box.place().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    REQUIRE(::flock(held, LOCK_EX) == 0);
    for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGQUIT}) {
        CAPTURE(number);
        auto waits = box.request({"true"});
        while (!has_open(waits.pid(), box.place())) ::poll(nullptr, 0, 1);
        waits.kill(number);
        CHECK(waits.wait().signal == number);
    }
    const Ended late = box.run({"--wait", "0.05", "true"});
    CHECK(late.status == 75);
    CHECK(late.err == "coalesce: gave up waiting for true\n");
    auto patient = box.request({"echo", "done"});
    while (!has_open(patient.pid(), box.place())) ::poll(nullptr, 0, 1);
    ::close(held);
    CHECK(patient.wait().out == "done\n");
}

SCENARIO("R5: with its output full a second signal ends it, blocking or not", "[wrapper]") {
    // A non-blocking pipe that was full was waited for with no end, whatever came.
    for (const bool blocking : {false, true}) {
        CAPTURE(blocking);
        Sandbox box;
        LittlePipe pipe;
        if (!blocking) REQUIRE(::fcntl(pipe.writer, F_SETFL, O_NONBLOCK) == 0);
        auto process = box.request({"-c", "trap '' INT; head -c 100000 /dev/zero; exec sleep 1000"},
                                   {.standard_output = pipe.writer});
        pipe.until_full();
        process.kill(SIGINT);
        box.until_requesters(1);
        process.kill(SIGTERM);
        CHECK(process.wait().signal == SIGTERM);
    }
}

SCENARIO("R5: with its output full it leaves at once if others wait, and gives up at its time", "[wrapper]") {
    Sandbox box;
    LittlePipe pipe;
    Gate gate(box, "gate");
    const std::vector<std::string> words{"-c", "head -c 100000 /dev/zero; cat gate"};
    auto leader = box.request(words, {.standard_output = pipe.writer});
    pipe.until_full();
    auto joiner = box.request(words);
    box.until_requesters(2);
    WHEN("it is told to end") {
        leader.kill(SIGINT);
        CHECK(leader.wait().signal == SIGINT);
    }
    WHEN("its time is up") {
        LittlePipe another;
        auto hasty = words;
        hasty.insert(hasty.begin(), {"--wait", "0.1"});
        auto waits = box.request(hasty, {.standard_output = another.writer});
        CHECK(waits.wait().status == 75);
        leader.kill(SIGKILL);
        leader.wait();
    }
    gate.wait_for_command();
    gate.open();
    CHECK(joiner.wait().out.size() == 100'000);
}

SCENARIO("R5: a server that takes no more of the request holds nobody", "[wrapper]") {
    // As one that was stopped. It was written to until all was taken.
    Sandbox box;
    const Mute server(box.path("socket"));
    box.write("input", std::string(4'000'000, 'x'));
    const std::vector<std::string> words{"--socket", box.path("socket"), "--stdin", "cat"};
    auto waits = box.request(words, {.standard_input = box.path("input")});
    const int accepted = server.accept();
    WHEN("it is told to end") {
        waits.kill(SIGTERM);
        CHECK(waits.wait().signal == SIGTERM);
    }
    WHEN("its time is up") {
        auto hasty = words;
        hasty.insert(hasty.begin(), {"--wait", "0.1"});
        CHECK(box.run(hasty, {.standard_input = box.path("input")}).status == 75);
        waits.kill(SIGKILL);
        waits.wait();
    }
    ::close(accepted);
}

SCENARIO("R5: a supervisor that was stopped holds nobody who is told to end", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    auto leader = box.request({"cat", "gate"});
    gate.wait_for_command();
    const Flight flight = box.until_requesters(1);
    ::kill(flight.supervisor, SIGSTOP);
    leader.kill(SIGTERM);
    CHECK(leader.wait().signal == SIGTERM);
    ::kill(flight.supervisor, SIGCONT);
    gate.open();
}

SCENARIO("R5: while it looks for a ring among flights that were stopped, TERM and --wait are heard", "[wrapper]") {
    // Each that it asked had its five seconds, in which nothing was heard.
    Sandbox box;
    Gate gate(box, "gate");
    const std::vector<std::string> words{"cat", "gate"};
    auto leader = box.request(words);
    gate.wait_for_command();
    const std::string above(32, 'a'), first(32, 'b'), second(32, 'c');
    const Mute its(box.place() + "/" + above + ".sock");
    const Mute one(box.place() + "/" + first + ".sock"), other(box.place() + "/" + second + ".sock");
    const bool in_time = GENERATE(false, true);
    auto asking_words = words;
    if (in_time) asking_words.insert(asking_words.begin(), {"--wait", "3"});
    auto asks = box.request(asking_words, {.env = {"COALESCE_ANCESTRY=" + above}});
    const int answers = its.accept();
    const std::string waiters = R"({"waiters":[")" + first + R"(",")" + second + "\"]}\n";
    REQUIRE(::write(answers, waiters.data(), waiters.size()) == static_cast<ssize_t>(waiters.size()));
    const int stopped = other.accept();  // the last of them
    if (!in_time) asks.kill(SIGTERM);
    const Ended ended = asks.wait();
    if (in_time)
        CHECK(ended.status == 75);
    else
        CHECK(ended.signal == SIGTERM);
    pollfd asked{.fd = one.fd, .events = POLLIN, .revents = 0};
    CHECK(::poll(&asked, 1, 0) == 0);  // and no other
    ::close(stopped);
    ::close(answers);
    gate.open();
    CHECK(leader.wait().status == 0);
}

SCENARIO("R5: QUIT is for the command, too", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    auto process =
        box.request({"sh", "-c", "trap 'echo bye; exit 3' QUIT; echo x >gate; while :; do sleep 0.01; done"});
    CHECK(read_file(box.path("gate")) == "x\n");
    process.kill(SIGQUIT);
    const Ended ended = process.wait();
    CHECK(ended.status == 3);
    CHECK(ended.out == "bye\n");
}

SCENARIO("R5: USR1 and USR2 are passed on when it is alone, else ignored", "[wrapper]") {
    for (const int number : {SIGUSR1, SIGUSR2}) {
        CAPTURE(number);
        Sandbox box;
        Gate told(box, "told"), end(box, "end"), begun(box, "begun");
        const std::vector<std::string> words{
            "-c", "trap 'echo told; echo x >told' USR1 USR2; echo x >begun; until [ -e over ]; do sleep 0.01; done"};
        auto alone = box.request(words);
        CHECK(read_file(box.path("begun")) == "x\n");
        for (int times = 0; times < 3; ++times) {  // none of them is a second one
            alone.kill(number);
            CHECK(read_file(box.path("told")) == "x\n");
        }
        auto joiner = box.request(words);
        box.until_requesters(2);
        joiner.kill(number);
        joiner.kill(SIGINT);  // it passes on what came first, first
        CHECK(joiner.wait().signal == SIGINT);
        box.until_requesters(1);
        box.write("over", "");
        CHECK(alone.wait().out == "told\ntold\ntold\n");
    }
}

SCENARIO("R4: standard input that is non-blocking is waited for", "[wrapper]") {
    Sandbox box;
    LittlePipe pipe;
    REQUIRE(::fcntl(pipe.reader, F_SETFL, O_NONBLOCK) == 0);
    auto process = box.request({"--stdin", "cat"}, {.in_child = [&] { ::dup2(pipe.reader, STDIN_FILENO); }});
    // It has nothing to read yet: it waits in poll, or is on its way there, or has failed.
    const std::string stat = "/proc/" + std::to_string(process.pid()) + "/stat";
    for (std::string text; text.find(") S ") == std::string::npos && text.find(") Z ") == std::string::npos;)
        text = read_file(stat);
    REQUIRE(::write(pipe.writer, "late\n", 5) == 5);
    pipe.close_writer();
    const Ended ended = process.wait();
    CHECK(ended.err.empty());
    CHECK(ended.out == "late\n");
}

SCENARIO("R3: a socket as output whose reader is gone ends it quietly", "[wrapper]") {
    Sandbox box;
    int ends[2];
    connect_over_loopback(ends);
    // What the reader leaves unread makes the next write a reset, not a broken pipe.
    REQUIRE(::write(ends[1], "unread", 6) == 6);
    Gate gate(box, "gate");
    WHEN("it writes") {
        auto process = box.request({"-c", "cat gate; echo x; exec sleep 1000"}, {.standard_output = ends[1]});
        gate.wait_for_command();
        ::close(ends[0]);
        ::close(ends[1]);
        gate.open();
        const Ended ended = process.wait();
        CHECK(ended.signal == SIGPIPE);
        CHECK(ended.err.empty());
    }
    WHEN("it has written and the command is silent from then on") {
        auto process = box.request({"-c", "echo x; exec sleep 1000"}, {.standard_output = ends[1]});
        ::close(ends[1]);
        char text[8];
        REQUIRE(::read(ends[0], text, sizeof text) >= 2);
        ::close(ends[0]);
        const Ended ended = process.wait();
        CHECK(ended.signal == SIGPIPE);
        CHECK(ended.err.empty());
    }
}

SCENARIO("R1: a small stack will do", "[wrapper]") {
    // The supervisor had its read buffer on it, and crashed, just below 100 KiB; a sanitizer needs more.
    if (sanitized()) return;
    Sandbox box;
    CHECK(box.script("ulimit -s 80; exec $C run echo fine").out == "fine\n");
    box.write("input", std::string(300'000, 'x'));
    // Debian 13's wc needs more, too.
    CHECK(box.script("(ulimit -s 80; exec $C run --stdin cat <input) | wc -c").out == "300000\n");
}

SCENARIO("F13: an ordinary end leaves no zombie where the first process does not reap", "[wrapper]") {
    Sandbox box;
    if (box.script("unshare -pf --mount-proc true").status != 0) return not_tried("no pid namespace can be had");
    // The first process is `sleep` by then. Of two, who leads waits for the other but a moment,
    // which a busy machine may outlast: a few tries, of which one is to leave nothing.
    box.write("tries",
              "count() { grep -l '^State:.Z' /proc/[0-9]*/status | wc -l; }\n"
              "until grep -q sleep /proc/1/comm; do :; done\n"
              "for i in 1 2 3 4 5 6 7 8 9 10; do $C run true; done\n"
              "count >zombies\n"
              "for i in 1 2 3 4 5 6 7 8 9 10; do\n"
              "  before=$(count)\n"
              "  (sleep .2 & wait; exec $C run -c 'sleep .3') & $C run -c 'sleep .3'; wait\n"
              "  [ $before = $(count) ] && echo none >left_by_two && break\n"
              "done\n"
              "echo x >gate\n");
    const std::string tries = "sh tries &";
    Gate gate(box, "gate");
    auto first = box.start({"/usr/bin/unshare", "-pf", "--mount-proc", "/bin/sh", "-c", tries + " exec sleep 1000"});
    CHECK(read_file(box.path("gate")) == "x\n");
    CHECK(box.read("zombies") == "0\n");
    CHECK(box.read("left_by_two") == "none\n");
    box.script("kill -KILL $(pgrep -P " + std::to_string(first.pid()) + ")");
    first.wait();
}
