// SPDX-License-Identifier: MIT
// R1–R5 and R8: what a caller of `coalesce run` sees.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <vector>

#include "../catch.h"
#include "sandbox.h"

namespace {

// After which a requester goes (SPEC R5).
constexpr std::array ending_signals{SIGINT, SIGTERM, SIGHUP, SIGQUIT};

struct Pipe : Ends {
    Pipe() {
        int ends[2];
        REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
        reader = ends[0];
        writer = ends[1];
    }
    std::string read_some() const {
        std::array<char, 256> block;
        const ssize_t got = ::read(reader, block.data(), block.size());
        return got > 0 ? std::string(block.data(), static_cast<std::size_t>(got)) : std::string();
    }
};

}  // namespace

SCENARIO("R1: a request from another process joins the run that is under way", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    const std::vector<std::string> words{"-c", "echo run >>runs; cat gate; echo answer"};
    auto leader = box.request(words);
    gate.wait_for_command();
    auto joiner = box.request(words);
    auto other = box.request(words);
    box.until_requesters(3);
    gate.open();
    for (auto* process : {&leader, &joiner, &other}) {
        const Ended ended = process->wait();
        CHECK(ended.status == 0);
        CHECK(ended.out == "answer\n");
        CHECK(ended.err.empty());
    }
    CHECK(box.lines_of("runs") == 1);
}

SCENARIO("R1: the command has the environment, directory, umask, limits and niceness of its leader", "[wrapper]") {
    Sandbox box;
    ::mkdir(box.path("below").c_str(), 0700);
    const Ended ended = box.run({"-c", "echo $OWN; pwd; umask; ulimit -n; ulimit -c; nice; ulimit -Hn"},
                                {.env = {"OWN=mine"}, .directory = "below", .in_child = [] {
                                     ::umask(027);
                                     const rlimit few{.rlim_cur = 77, .rlim_max = 99};
                                     ::setrlimit(RLIMIT_NOFILE, &few);
                                     const rlimit none{.rlim_cur = 0, .rlim_max = 0};
                                     ::setrlimit(RLIMIT_CORE, &none);
                                     if (::nice(7) == -1) ::_exit(99);
                                 }});
    const int niceness = std::min(::getpriority(PRIO_PROCESS, 0) + 7, 19);  // the tests' own may be any
    CHECK(ended.out == "mine\n" + box.path("below") + "\n0027\n77\n0\n" + std::to_string(niceness) + "\n99\n");
}

SCENARIO("R1: options end at the first word that is none", "[wrapper]") {
    Sandbox box;
    CHECK(box.run({"echo", "-v", "--fresh", "--"}).out == "-v --fresh --\n");
    CHECK(box.run({"--", "echo", "-n", "x"}).out == "x");
    CHECK(box.run({"-c", "echo $((1+1)) | cat"}).out == "2\n");
}

SCENARIO("R2: the exit status tells how it ended", "[wrapper]") {
    Sandbox box;
    box.write("unreadable", "#!/bin/sh\n");
    const auto status = [&](std::vector<std::string> words) { return box.run(std::move(words)).status; };
    CHECK(status({"true"}) == 0);
    for (const int code : {1, 2, 77, 123, 124, 125, 126, 127, 130, 255})
        CHECK(status({"sh", "-c", "exit " + std::to_string(code)}) == code);
    for (const int number : {SIGHUP, SIGINT, SIGKILL, SIGSEGV, SIGTERM, SIGPIPE, SIGUSR1})
        CHECK(status({"sh", "-c", "kill -" + std::to_string(number) + " $$"}) == 128 + number);
    const Ended missing = box.run({"no-such-program", "x"});
    CHECK(missing.status == 127);
    CHECK(missing.err == "coalesce: cannot run no-such-program: No such file or directory\n");
    const Ended line = box.run({"no-such-program x"});
    CHECK(line.status == 127);
    CHECK(line.err.find("coalesce: to run a shell line: coalesce run -c LINE\n") != std::string::npos);
    const Ended refused = box.run({"./unreadable"});
    CHECK(refused.status == 126);
    CHECK(refused.err == "coalesce: cannot run ./unreadable: Permission denied\n");
    CHECK(status({"/tmp"}) == 126);
    CHECK(status({"--timeout", "0.05", "sleep", "100"}) == 124);
    CHECK(status({"--wait", "0.05", "sleep", "100"}) == 75);
    CHECK(status({"--no-such-option", "true"}) == 125);
    CHECK(status({}) == 125);
    CHECK(status({"-c", "true", "more"}) == 125);
}

SCENARIO("R2: a caller that ignores SIGCHLD gets the status all the same", "[wrapper]") {
    // The disposition is inherited, and then wait() finds no status: the run never ended.
    Sandbox box;
    CHECK(box.run({"sh", "-c", "exit 3"}, {.in_child = [] { ::signal(SIGCHLD, SIG_IGN); }}).status == 3);
}

SCENARIO("R3: output is relayed while the command runs", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    Pipe pipe;
    auto process = box.request({"-c", "echo early; cat gate; echo late"}, {.standard_output = pipe.writer});
    CHECK(pipe.read_some() == "early\n");
    gate.wait_for_command();
    gate.open();
    CHECK(pipe.read_some() == "late\n");
    CHECK(process.wait().status == 0);
}

SCENARIO("R3: a reader that goes away ends the wrapper quietly, as SIGPIPE would", "[wrapper]") {
    Sandbox box;
    WHEN("more output comes") {
        const Ended ended = box.script("{ $C run yes; echo $? >status; } | head -n 1");
        CHECK(ended.out == "y\n");
        CHECK(ended.err.empty());
        CHECK(box.read("status") == "141\n");
    }
    WHEN("the command is silent from then on") {
        Pipe pipe;
        auto process = box.request({"-c", "echo x; exec sleep 1000"}, {.standard_output = pipe.writer});
        pipe.close_writer();
        CHECK(pipe.read_some() == "x\n");
        pipe.close_reader();
        const Ended ended = process.wait();
        CHECK(ended.signal == SIGPIPE);
        CHECK(ended.err.empty());
    }
    WHEN("the command has written to its standard error alone") {  // whose reader is still there
        Gate gate(box, "gate");
        Pipe pipe;
        auto process = box.request({"-c", "echo starting >&2; cat gate; echo >done"}, {.standard_output = pipe.writer});
        pipe.close_writer();
        pipe.close_reader();
        gate.wait_for_command();
        while (process.err().empty()) (void)box.flights();
        gate.open();
        CHECK(process.wait().status == 0);
        CHECK(box.read("done") == "\n");
    }
    WHEN("others still want it") {
        Gate gate(box, "gate");
        Pipe pipe;
        const std::vector<std::string> words{"-c", "echo x; cat gate; echo y"};
        auto leaving = box.request(words, {.standard_output = pipe.writer});
        pipe.close_writer();
        gate.wait_for_command();
        auto staying = box.request(words);
        box.until_requesters(2);
        CHECK(pipe.read_some() == "x\n");
        pipe.close_reader();
        CHECK(leaving.wait().signal == SIGPIPE);
        box.until_requesters(1);
        gate.open();
        CHECK(staying.wait().out == "x\ny\n");
    }
}

SCENARIO("R3: waiting with nobody at the other end of the output costs no processor time", "[wrapper]") {
    // The pipe's error was reported by every poll, as long as the command was silent.
    Sandbox box;
    Gate gate(box, "gate");
    Pipe pipe;
    auto process = box.request({"cat", "gate"}, {.standard_output = pipe.writer});
    pipe.close_writer();
    pipe.close_reader();
    gate.wait_for_command();
    const auto ticks = [&] {
        const std::string stat = read_file("/proc/" + std::to_string(process.pid()) + "/stat");
        long user = 0, system = 0;
        REQUIRE(std::sscanf(stat.c_str() + stat.rfind(')'), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld",
                            &user, &system) == 2);
        return user + system;
    };
    const long before = ticks();
    for (int look = 0; look < 20; ++look) (void)box.flights();
    CHECK(ticks() - before < 4);
    gate.open();
    CHECK(process.wait().status == 0);
}

SCENARIO("R4: standard input is left alone", "[wrapper]") {
    Sandbox box;
    const Ended ended = box.script("printf '1\\n2\\n3\\n' | while read -r n; do $C run sh -c \"cat; echo $n\"; done");
    CHECK(ended.out == "1\n2\n3\n");
}

SCENARIO("R4: --stdin feeds it to the command and makes it part of the key", "[wrapper]") {
    Sandbox box;
    std::string bytes("a\0b\n", 4);
    bytes += std::string(300'000, '\xff');
    box.write("in", bytes);
    CHECK(box.run({"--stdin", "cat"}, {.standard_input = box.path("in")}).out == bytes);
    CHECK(box.script("$C run --stdin cat <&-").status == 125);

    Gate gate(box, "gate-1"), other(box, "gate-2");
    box.write("1", "1\nsame");
    box.write("2", "2\nother");
    const std::vector<std::string> words{"--stdin", "-c", "read n; cat; cat gate-$n"};
    auto first = box.request(words, {.standard_input = box.path("1")});
    gate.wait_for_command();
    auto second = box.request(words, {.standard_input = box.path("2")});
    other.wait_for_command();
    auto third = box.request(words, {.standard_input = box.path("1")});
    box.until([](const auto& all) { return all.size() == 2 && all[0].requesters + all[1].requesters == 3; });
    gate.open();
    other.open();
    CHECK(first.wait().out == "same");
    CHECK(second.wait().out == "other");
    CHECK(third.wait().out == "same");
}

SCENARIO("R5: alone, a signal is for the command, and what it still says is relayed", "[wrapper]") {
    for (const int number : ending_signals) {
        CAPTURE(number);
        Sandbox box;
        Gate gate(box, "gate");
        auto process = box.request(
            {"sh", "-c", "trap 'echo bye; exit 3' INT TERM HUP QUIT; echo x >gate; while :; do sleep 0.01; done"});
        CHECK(read_file(box.path("gate")) == "x\n");
        process.kill(number);
        const Ended ended = process.wait();
        CHECK(ended.status == 3);
        CHECK(ended.out == "bye\n");
    }
}

SCENARIO("R5: a command that dies of the signal takes the wrapper with it", "[wrapper]") {
    for (const int number : ending_signals) {
        Sandbox box;
        Gate gate(box, "gate");
        auto process = box.request({"cat", "gate"});
        gate.wait_for_command();
        process.kill(number);
        CHECK(process.wait().signal == number);
        CHECK(box.left_in_place().size() <= 1);
    }
}

SCENARIO("R5: a signal reaches a stopped command, too", "[wrapper]") {
    for (const int number : ending_signals) {
        CAPTURE(number);
        Sandbox box;
        Gate gate(box, "gate");
        auto process = box.request({"sh", "-c", "echo $$ >gate; kill -STOP $$"});
        until_stopped(std::stoi(read_file(box.path("gate"))));
        process.kill(number);
        CHECK(process.wait().signal == number);
    }
}

SCENARIO("R5: a second signal ends it now", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    auto process = box.request({"sh", "-c", "trap 'echo first' INT; echo x >gate; while :; do sleep 0.01; done"});
    CHECK(read_file(box.path("gate")) == "x\n");
    process.kill(SIGINT);
    while (process.out().empty()) (void)box.flights();
    process.kill(SIGTERM);
    CHECK(process.wait().signal == SIGTERM);
}

SCENARIO("R5: a signal told twice at once is one, so that the command can clean up", "[wrapper]") {
    const auto one = [](int number) {
        Sandbox box;
        Gate gate(box, "gate");
        Gate begun(box, "begun");
        auto process = box.request(
            {"sh", "-c", "trap 'echo told; cat gate; exit 3' TERM HUP; echo x >begun; while :; do sleep 0.01; done"});
        CHECK(read_file(box.path("begun")) == "x\n");
        process.kill(number);
        gate.wait_for_command();  // so that it is not one signal for the kernel already
        process.kill(number);
        until_waits(process.pid());  // it has been heard
        gate.open();
        const Ended ended = process.wait();
        if (ended.signal == number) return false;  // the machine is busy, and this was a second signal
        CHECK(ended.status == 3);
        CHECK(ended.out == "told\n");
        return true;
    };
    for (const int number : {SIGTERM, SIGHUP}) {
        CAPTURE(number);
        int attempt = 0;
        while (!one(number)) REQUIRE(++attempt < 50);
    }
}

SCENARIO("R5: with others waiting a signalled requester leaves at once and disturbs nobody", "[wrapper]") {
    for (const int number : ending_signals) {
        for (const bool leader_goes : {true, false}) {
            CAPTURE(number, leader_goes);
            Sandbox box;
            Gate gate(box, "gate");
            const std::vector<std::string> words{"-c", "trap 'echo hit' INT TERM HUP QUIT; cat gate; echo done"};
            auto leader = box.request(words);
            gate.wait_for_command();
            auto joiner = box.request(words);
            box.until_requesters(2);
            Process& leaving = leader_goes ? leader : joiner;
            leaving.kill(number);
            CHECK(leaving.wait().signal == number);
            box.until_requesters(1);
            gate.open();
            CHECK((leader_goes ? joiner : leader).wait().out == "done\n");
        }
    }
}

SCENARIO("R5: a signal that the caller ignores stays ignored", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    auto process = box.request({"-c", "cat gate; echo done"}, {.in_child = [] { ::signal(SIGHUP, SIG_IGN); }});
    gate.wait_for_command();
    process.kill(SIGHUP);
    box.until_requesters(1);
    gate.open();
    CHECK(process.wait().out == "done\n");
}

SCENARIO("R8: -v says what happens, and without it nothing is said", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    auto leader = box.request({"-v", "cat", "gate"});
    gate.wait_for_command();
    auto joiner = box.request({"-v", "cat", "gate"});
    auto quiet = box.request({"cat", "gate"});
    box.until_requesters(3);
    gate.open();
    const std::string led = leader.wait().err;
    const std::string joined = joiner.wait().err;
    CHECK(led.find("coalesce: started cat gate (pid ") == 0);
    CHECK(led.find("coalesce: shared with 2 others, ") != std::string::npos);
    CHECK(joined.find("coalesce: joined cat gate (pid ") == 0);
    CHECK(joined.find("has run for") != std::string::npos);
    CHECK(joined.find(" wait\n") != std::string::npos);
    CHECK(quiet.wait().err.empty());
    CHECK(box.run({"-v", "no-such-program"}).err.find("started") == std::string::npos);
}

SCENARIO("R8: with a key of one's own, -v names the command that runs", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    auto leader = box.request({"-v", "--key", "mine", "cat", "gate"});
    gate.wait_for_command();
    auto joiner = box.request({"-v", "--key", "mine", "cat", "elsewhere"});
    box.until_requesters(2);
    gate.open();
    CHECK(leader.wait().err.find("coalesce: shared with 1 other, ") != std::string::npos);
    CHECK(joiner.wait().err.find("coalesce: joined cat gate (pid ") == 0);
}
