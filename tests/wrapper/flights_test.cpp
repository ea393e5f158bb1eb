// SPDX-License-Identifier: MIT
// F: flights as seen from many processes.
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <vector>

#include "../catch.h"
#include "../time_enough.h"
#include "sandbox.h"

namespace {

// With -v, behind an earlier run of its key.
void until_it_waits(Sandbox& box, const Process& process) {
    while (process.err().find("waiting for an earlier run") == std::string::npos) (void)box.flights();
}

}  // namespace

SCENARIO("F2: requests made on completion are one second run", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate"), second(box, "second");
    const std::vector<std::string> words{"-c", "echo run >>runs; if [ -e again ]; then cat second; else cat gate; fi"};
    std::vector<Process> scripts;
    for (int i = 0; i < 3; ++i)
        scripts.push_back(
            box.start({"/bin/sh", "-c", "$C run -c '" + words[1] + "'; : >again; exec $C run -c '" + words[1] + "'"}));
    gate.wait_for_command();
    box.until_requesters(3);
    box.write("again", "");
    gate.open();
    second.wait_for_command();
    box.until_requesters(3);
    second.open();
    for (Process& script : scripts) CHECK(script.wait().status == 0);
    CHECK(box.lines_of("runs") == 2);
}

SCENARIO("F3: twenty joiners get ten megabytes of any bytes on both streams, late ones from byte 0", "[wrapper]") {
    Sandbox box;
    const std::string ten = sanitized() ? "3" : "10";
    REQUIRE(box.script("head -c " + ten +
                       "000000 /dev/urandom >one; printf 'no newline' >>one; head -c 5000000 /dev/urandom >two")
                .status == 0);
    Gate gate(box, "gate");
    const std::vector<std::string> words{"-c", "cat two >&2 & cat one; wait; cat gate; printf end"};
    std::vector<Process> all;
    all.push_back(box.request(words));
    gate.wait_for_command();
    for (int i = 0; i < 20; ++i) all.push_back(box.request(words));
    box.until_requesters(21);
    gate.open();
    const std::string out = box.read("one") + "end", err = box.read("two");
    for (Process& process : all) {
        const Ended ended = process.wait();
        CHECK(ended.status == 0);
        CHECK((ended.out == out));
        CHECK((ended.err == err));
    }
}

SCENARIO("F3: a slow reader gets every byte, though the supervisor has gone", "[wrapper]") {
    Sandbox box;
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    REQUIRE(::fcntl(ends[1], F_SETPIPE_SZ, 4096) >= 4096);
    auto requester =
        box.request({"sh", "-c", "head -c 60000 /dev/zero | tr '\\0' x; exit 3"}, {.standard_output = ends[1]});
    ::close(ends[1]);
    std::string bytes(1, '\0');
    REQUIRE(::read(ends[0], bytes.data(), 1) == 1);  // it runs, and has ended or is about to
    box.until([](const auto& all) { return all.empty(); });
    std::string more(8192, '\0');
    for (ssize_t got = 0; (got = ::read(ends[0], more.data(), more.size())) > 0;)
        bytes.append(more, 0, static_cast<std::size_t>(got));
    ::close(ends[0]);
    CHECK((bytes == std::string(60000, 'x')));
    CHECK(requester.wait().status == 3);
}

SCENARIO("F4: failure is shared, and what cannot be started fails for all with the reason", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    const std::vector<std::string> words{"-c", "echo run >>runs; cat gate; echo why >&2; exit 9"};
    std::vector<Process> all;
    all.push_back(box.request(words));
    gate.wait_for_command();
    for (int i = 0; i < 30; ++i) all.push_back(box.request(words));
    box.until_requesters(31);
    gate.open();
    for (Process& process : all) {
        const Ended ended = process.wait();
        CHECK(ended.status == 9);
        CHECK(ended.err == "why\n");
    }
    CHECK(box.lines_of("runs") == 1);
}

SCENARIO("F5: the last one to leave cancels the run: TERM, and KILL after the grace period", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    WHEN("the command heeds TERM") {
        auto process =
            box.request({"-c", "trap 'echo term >>said; exit' TERM; echo x >gate; while :; do sleep 0.01; done"});
        CHECK(read_file(box.path("gate")) == "x\n");
        process.kill(SIGKILL);
        process.wait();
        box.wait_for_all();
        CHECK(box.read("said") == "term\n");
    }
    WHEN("it does not") {
        auto process =
            box.request({"--grace", "0.1", "-c", "trap '' TERM; echo x >gate; while :; do sleep 0.01; done"});
        CHECK(read_file(box.path("gate")) == "x\n");
        process.kill(SIGKILL);
        process.wait();
        box.wait_for_all();
    }
    WHEN("it was asked to keep running") {
        auto process = box.request({"--keep-running", "-c", "cat gate; echo done >>said"});
        gate.wait_for_command();
        process.kill(SIGKILL);
        process.wait();
        box.until([](const auto& all) { return all.empty() || all[0].requesters == 0; });  // it has been seen to go
        gate.open();
        box.wait_for_all();
        CHECK(box.read("said") == "done\n");
    }
    CHECK(box.left_in_place().empty());
}

SCENARIO("F5: a cancelled command that goes on writing fills no memory", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    auto process = box.request({"--grace", "0.5", "-c", "trap '' TERM; echo x >gate; exec yes"});
    CHECK(read_file(box.path("gate")) == "x\n");
    const Flight flight = box.until_requesters(1);
    process.kill(SIGKILL);
    process.wait();
    const auto ending = box.until([](const auto& all) { return all.empty() || all[0].state == "ending"; });
    const long long then = ending.empty() ? 0 : ending[0].output;
    const auto later = box.until([&](const auto& all) { return all.empty() || all[0].output >= then; });
    if (!later.empty()) CHECK(later[0].output - then < (1 << 20));
    box.wait_for_all();
}

SCENARIO("F6: a request during a cancellation waits for the old process and starts its own run", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate"), end(box, "end");
    box.write("command",
              "exec 9>lock; flock -n 9 || echo overlap >>overlaps; echo run >>runs\n"
              "[ $(wc -l <runs) = 1 ] || { echo second; exit 0; }\n"
              "trap 'cat end; exit 5' TERM; echo x >gate; while :; do sleep 0.01; done\n");
    auto first = box.request({"sh", "command"});
    CHECK(read_file(box.path("gate")) == "x\n");
    first.kill(SIGKILL);
    first.wait();
    end.wait_for_command();
    auto second = box.request({"-v", "sh", "command"});
    until_it_waits(box, second);
    CHECK(box.lines_of("runs") == 1);
    end.open();
    const Ended ended = second.wait();
    CHECK(ended.status == 0);
    CHECK(ended.out == "second\n");
    CHECK(box.lines_of("runs") == 2);
    CHECK(box.read("overlaps").empty());
}

SCENARIO("F6, R5: a request after a signal was passed on waits, too, and does not inherit that end", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate"), end(box, "end");
    box.write("command",
              "echo run >>runs; [ $(wc -l <runs) = 1 ] || { echo second; exit 0; }\n"
              "trap 'cat end; exit 5' INT; echo x >gate; while :; do sleep 0.01; done\n");
    auto first = box.request({"sh", "command"});
    CHECK(read_file(box.path("gate")) == "x\n");
    first.kill(SIGINT);
    end.wait_for_command();
    auto second = box.request({"-v", "sh", "command"});
    until_it_waits(box, second);
    end.open();
    CHECK(first.wait().status == 5);
    const Ended ended = second.wait();
    CHECK(ended.status == 0);
    CHECK(ended.out == "second\n");
    CHECK(box.lines_of("runs") == 2);
}

SCENARIO("F7: fresh requests made during a run share the next one", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate-1"), next(box, "gate-2");
    const std::vector<std::string> words{"-c", "echo run >>runs; n=$(wc -l <runs); cat gate-$n; echo $n"};
    std::vector<std::string> fresh = words;
    fresh.insert(fresh.begin(), "--fresh");
    auto plain = box.request(words);
    gate.wait_for_command();
    std::vector<Process> many;
    for (int i = 0; i < 10; ++i) many.push_back(box.request(fresh));
    auto joiner = box.request(words);
    box.until([](const auto& all) {
        int sum = 0;
        for (const Flight& flight : all) sum += flight.requesters;
        return sum == 12;
    });
    gate.open();
    CHECK(plain.wait().out == "1\n");
    CHECK(joiner.wait().out == "1\n");
    next.wait_for_command();
    next.open();
    for (Process& process : many) CHECK(process.wait().out == "2\n");
    CHECK(box.lines_of("runs") == 2);
}

SCENARIO("F10: who leads the next run does so within its own limit", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    const std::vector<std::string> words{
        "-c", "echo run >>runs; [ $(wc -l <runs) = 2 ] || exec cat gate; sleep 0.5; echo second"};
    std::vector<std::string> limited = words;
    limited.insert(limited.begin(), {"--fresh", "--timeout", "100ms"});
    auto first = box.request(words);
    gate.wait_for_command();
    auto second = box.request(limited);
    box.until([](const auto& all) { return all.size() == 2; });
    gate.open();
    CHECK(first.wait().status == 0);
    CHECK(second.wait().status == 124);
}

SCENARIO("F10: who is cancelled by name has the grace of who leads it", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate"), next(box, "next");
    const std::string line =
        "echo run >>runs; [ $(wc -l <runs) = 2 ] || exec cat gate; trap 'echo asked; exit 3' TERM; cat next; "
        "while :; do sleep 0.01; done";
    auto first = box.request({"--grace", "0", "-c", line});
    gate.wait_for_command();
    auto second = box.request({"--fresh", "--grace", "1h", "-c", line});
    box.until([](const auto& all) { return all.size() == 2; });
    gate.open();
    CHECK(first.wait().status == 0);
    next.wait_for_command();
    next.open();
    const auto flights = box.flights();
    REQUIRE(flights.size() == 1);
    CHECK(box.coalesce({"cancel", flights[0].id}).status == 0);
    CHECK(second.wait().out == "asked\n");
}

SCENARIO("F8: a grandchild that holds the output open does not hold the wrapper", "[wrapper]") {
    Sandbox box;
    const Ended ended = box.run({"-c", "sleep 1000 & echo $! >pid; echo done"});
    CHECK(ended.out == "done\n");
    CHECK(box.script("kill $(cat pid)").status == 0);
}

SCENARIO("F9: past the replay limit a duplicate waits and runs anew, and nobody misses a byte", "[wrapper]") {
    Sandbox box;
    int runs = 0;
    for (const std::string limit : {"0", "1", "64K"}) {
        CAPTURE(limit);
        Gate gate(box, "gate-" + std::to_string(++runs)), next(box, "gate-" + std::to_string(++runs));
        const std::vector<std::string> words{"--replay-limit", limit, "-v", "-c",
                                             "echo run >>runs; seq 30000; cat gate-$(wc -l <runs); echo end"};
        auto first = box.request(words);
        gate.wait_for_command();
        auto second = box.request(words);
        until_it_waits(box, second);
        gate.open();
        const Ended one = first.wait();
        next.wait_for_command();
        next.open();
        const Ended two = second.wait();
        CHECK((one.out == two.out));
        CHECK(std::count(one.out.begin(), one.out.end(), '\n') == 30001);
        CHECK(one.out.ends_with("30000\nend\n"));
    }
    CHECK(box.lines_of("runs") == 6);
}

SCENARIO("F9: a run that its requesters have left to itself is not paced by them", "[wrapper]") {
    // It wrote more than may be kept, and nobody was left to make room.
    Sandbox box;
    Gate gate(box, "gate");
    auto process =
        box.request({"--keep-running", "--replay-limit", "64K", "-c", "cat gate; seq 100000; echo done >said"});
    gate.wait_for_command();
    process.kill(SIGKILL);
    process.wait();
    box.until_requesters(0);
    gate.open();
    box.wait_for_all();
    CHECK(box.read("said") == "done\n");
}

SCENARIO("F10: --timeout ends the run for all, --wait one requester", "[wrapper]") {
    with_time_enough([](std::chrono::milliseconds time) {
        Sandbox box;
        const std::vector<std::string> words{"--timeout", in_seconds(20 * time), "-c",
                                             "echo before; echo run >>runs; exec sleep 1000"};
        auto first = box.request(words);
        box.until([&](const auto&) { return box.lines_of("runs") > 0 || !first.err().empty(); });
        auto second = box.request(words);
        bool shared = false;  // else the second comes when the first has timed out, perhaps before it said anything
        box.until([&](const auto& all) {
            shared =
                box.lines_of("runs") == 1 && all.size() == 1 && all[0].state == "running" && all[0].requesters == 2;
            return shared || !first.err().empty();
        });
        for (Process* process : {&first, &second}) {
            const Ended ended = process->wait();
            CHECK(ended.status == 124);
            CHECK(ended.err.find("timed out") != std::string::npos);
            if (shared) CHECK(ended.out == "before\n");
        }
        if (shared) CHECK(box.lines_of("runs") == 1);
        return shared;
    });
    Sandbox box;
    Gate other(box, "other");
    auto stays = box.request({"-c", "cat other; echo done"});
    other.wait_for_command();
    const Ended gave_up = box.run({"--wait", "0.1", "-c", "cat other; echo done"});
    CHECK(gave_up.status == 75);
    CHECK(gave_up.err.find("gave up waiting") != std::string::npos);
    other.open();
    CHECK(stays.wait().out == "done\n");
}

SCENARIO("F10: --wait holds while output flows, and while its reader does not read", "[wrapper]") {
    Sandbox box;
    CHECK(box.script("$C run --wait 0.2 yes >/dev/null").status == 75);
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    CHECK(box.run({"--wait", "0.2", "yes"}, {.standard_output = ends[1]}).status == 75);
    ::close(ends[0]);
    ::close(ends[1]);
}

SCENARIO("F11: a command that asks for itself is told at once", "[wrapper]") {
    Sandbox box;
    box.write("a", "$C run sh a\n");
    const Ended self = box.run({"sh", "a"});
    CHECK(self.status == 125);
    CHECK(self.err.find("would wait for itself") != std::string::npos);
    box.write("a", "$C run sh b\n");
    box.write("b", "$C run sh a\n");
    CHECK(box.run({"sh", "a"}).err.find("would wait for itself") != std::string::npos);
}

SCENARIO("F11: a ring that closes through joins is told too, also by a fresh request", "[wrapper]") {
    for (const std::string fresh : {"", "--fresh "}) {
        CAPTURE(fresh);
        Sandbox box;
        Gate a(box, "gate-a"), b(box, "gate-b");
        box.write("a", "cat gate-a; $C run sh b\n");
        box.write("b", "cat gate-b; $C run " + fresh + "sh a\n");
        auto first = box.request({"sh", "a"});
        auto second = box.request({"sh", "b"});
        a.wait_for_command();
        b.wait_for_command();
        a.open();
        box.until([](const auto& all) { return all.size() == 2 && all[0].requesters + all[1].requesters == 3; });
        b.open();
        CHECK(first.wait().status == 125);
        const Ended ended = second.wait();
        CHECK(ended.status == 125);
        CHECK(ended.err.find("would wait for itself") != std::string::npos);
    }
}

namespace {

int connect_to_flight(const Sandbox& box) {
    for (const std::string& name : box.left_in_place()) {
        if (!name.ends_with(".sock")) continue;
        const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        const std::string path = box.place() + "/" + name;
        path.copy(address.sun_path, sizeof address.sun_path - 1);
        REQUIRE(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
        return fd;
    }
    return -1;
}

void say(int fd, const std::string& text) {
    REQUIRE(::send(fd, text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size()));
}

long ticks_of(pid_t pid) {
    const std::string stat = read_file("/proc/" + std::to_string(pid) + "/stat");
    long user = 0, system = 0;
    std::sscanf(stat.c_str() + stat.rfind(')'), ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld", &user,
                &system);
    return user + system;
}

}  // namespace

SCENARIO("S5: garbage, half-closed and silent connections to a flight's socket harm nobody", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    auto process = box.request({"-c", "cat gate; echo answer"});
    gate.wait_for_command();
    const Flight flight = box.until_requesters(1);
    std::vector<int> connections;
    for (const std::string garbage : {"{\n", "\n\n\n", "GET / HTTP/1.1\r\n\r\n", "{\"op\":\"signal\",\"signal\":9}\n",
                                      "{\"op\":7}\n", "half a line"}) {
        connections.push_back(connect_to_flight(box));
        say(connections.back(), garbage);
        ::shutdown(connections.back(), SHUT_WR);
    }
    connections.push_back(connect_to_flight(box));  // says nothing at all
    const int bytes = connect_to_flight(box);
    connections.push_back(bytes);
    say(bytes, std::string("\0\xff\x01{\"\\u", 6) + std::string(100'000, 'x') + "\n");
    box.until_requesters(1);
    const long before = ticks_of(flight.supervisor);
    for (int look = 0; look < 20; ++look) box.until_requesters(1);
    CHECK(ticks_of(flight.supervisor) - before <
          (sanitized() ? 20 : 6));  // half-closed ones were once reported without end
    gate.open();
    CHECK(process.wait().out == "answer\n");
    box.wait_for_all();  // with the connections open still
    for (const int fd : connections) ::close(fd);
    CHECK(box.left_in_place().empty());
}
