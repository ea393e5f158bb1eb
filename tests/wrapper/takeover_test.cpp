// SPDX-License-Identifier: MIT
// R6: deaths of leaders, joiners and supervisors, and F13, what dies with them.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vector>

#include "../catch.h"
#include "../not_tried.h"
#include "sandbox.h"

namespace {

// Kills a lone requester and its supervisor, both at once; the command dies of that.
void crash(Sandbox& box, Process& requester) {
    const Flight flight = box.until_requesters(1);
    // It is not to see its requester go.
    ::kill(flight.supervisor, SIGSTOP);
    until_stopped(flight.supervisor);
    requester.kill(SIGKILL);
    ::kill(flight.supervisor, SIGKILL);
    requester.wait();
    REQUIRE(::waitpid(flight.supervisor, nullptr, 0) == flight.supervisor);
    until_dead(flight.pid);  // as long as it lives, whoever removes what is old passes over its key
}

}  // namespace

SCENARIO("R6: the leader's death leaves the run to those who wait", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    const std::vector<std::string> words{"-c", "echo run >>runs; cat gate; echo answer"};
    auto leader = box.request(words);
    gate.wait_for_command();
    auto joiner = box.request(words);
    box.until_requesters(2);
    leader.kill(SIGKILL);
    leader.wait();
    box.until_requesters(1);
    gate.open();
    CHECK(joiner.wait().out == "answer\n");
    CHECK(box.lines_of("runs") == 1);
}

SCENARIO("R6: a joiner's death disturbs nobody", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    const std::vector<std::string> words{"-c", "echo out; cat gate; echo answer"};
    auto leader = box.request(words);
    gate.wait_for_command();
    auto joiner = box.request(words);
    box.until_requesters(2);
    joiner.kill(SIGKILL);
    joiner.wait();
    box.until_requesters(1);
    gate.open();
    CHECK(leader.wait().out == "out\nanswer\n");
}

SCENARIO("R6: when all requesters are killed the run is cancelled and nothing is left", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    auto leader = box.request({"cat", "gate"});
    gate.wait_for_command();
    auto joiner = box.request({"cat", "gate"});
    box.until_requesters(2);
    leader.kill(SIGKILL);
    joiner.kill(SIGKILL);
    box.wait_for_all();
    CHECK(box.left_in_place().empty());
}

SCENARIO("R6: when the supervisor is killed those who wait run the command once more, together", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate-1"), next(box, "gate-2");
    const std::vector<std::string> words{"-c", "echo run >>runs; cat gate-$(wc -l <runs); echo answer"};
    std::vector<Process> requesters;
    requesters.push_back(box.request(words));
    gate.wait_for_command();
    for (int i = 0; i < 5; ++i) requesters.push_back(box.request(words));
    const Flight flight = box.until_requesters(6);
    ::kill(flight.supervisor, SIGKILL);
    gate.open();
    box.until([&](const auto& all) {
        return all.size() == 1 && all[0].supervisor != flight.supervisor && all[0].requesters == 6 &&
               all[0].state == "running";
    });
    next.wait_for_command();
    next.open();
    for (Process& requester : requesters) {
        const Ended ended = requester.wait();
        CHECK(ended.status == 0);
        CHECK(ended.out == "answer\n");
        CHECK(ended.err.empty());
    }
    CHECK(box.lines_of("runs") == 2);
}

// As when everything is told to end at once: by a service manager, or killall.
SCENARIO("R5, R6: who has been told to end begins nothing anew when the supervisor is gone", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    auto requester = box.request({"-c", "echo run >>runs; cat gate"});
    gate.wait_for_command();
    const Flight flight = box.until_requesters(1);
    requester.kill(SIGSTOP);
    siginfo_t stopped{};
    REQUIRE(::waitid(P_PID, static_cast<id_t>(requester.pid()), &stopped, WSTOPPED) == 0);
    requester.kill(SIGTERM);
    ::kill(flight.supervisor, SIGKILL);
    requester.kill(SIGCONT);
    const Ended ended = requester.wait();
    CHECK(ended.signal == SIGTERM);
    CHECK(ended.err.empty());
    CHECK(box.lines_of("runs") == 1);
}

// Those who wait have heard nothing yet, and must not take it for a flight that was over
// when they came: then each would run the command three times for itself.
SCENARIO("R6: a command that kills its supervisors is run three times, not by each who waits", "[wrapper]") {
    Sandbox box;
    Gate gates[]{Gate(box, "gate-1"), Gate(box, "gate-2"), Gate(box, "gate-3")};
    const std::vector<std::string> words{"-c", "echo run >>runs; cat gate-$(wc -l <runs); kill -KILL $PPID"};
    std::vector<Process> requesters;
    requesters.push_back(box.request(words));
    gates[0].wait_for_command();
    for (int i = 0; i < 11; ++i) requesters.push_back(box.request(words));
    pid_t last = 0;
    for (Gate& gate : gates) {
        // Each run is held until all have come to it: whoever is late for one would lead another.
        const auto all = box.until([last](const auto& flights) {
            return flights.size() == 1 && flights[0].supervisor != last && flights[0].requesters == 12;
        });
        last = all.front().supervisor;
        gate.wait_for_command();
        gate.open();
    }
    for (Process& requester : requesters) {
        const Ended ended = requester.wait();
        CHECK(ended.status == 125);
        CHECK(ended.err.find("in a row") != std::string::npos);
    }
    CHECK(box.lines_of("runs") == 3);
}

SCENARIO("R6: whoever has passed output on says so and ends with 125, the others take over", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    const std::vector<std::string> words{"-c", "echo run >>runs; echo part; cat gate; echo answer"};
    auto leader = box.request(words, {.standard_output = ends[1]});
    ::close(ends[1]);
    char part[5];
    REQUIRE(::read(ends[0], part, 5) == 5);
    gate.wait_for_command();
    const Flight flight = box.until_requesters(1);
    ::kill(flight.supervisor, SIGKILL);
    const Ended ended = leader.wait();
    CHECK(ended.status == 125);
    CHECK(ended.err.find("died, and part of its output has been passed on") != std::string::npos);
    ::close(ends[0]);
    CHECK(box.lines_of("runs") == 1);
}

SCENARIO("R6: a command that kills its supervisor each time is not run for ever", "[wrapper]") {
    Sandbox box;
    const Ended ended = box.run({"sh", "-c", "echo run >>runs; kill -9 $PPID; exec sleep 1000"});
    CHECK(ended.status == 125);
    CHECK(ended.err.find("died, 3 in a row") != std::string::npos);
    CHECK(box.lines_of("runs") == 3);
    box.wait_for_all();
    box.run({"true"});
    box.wait_for_all();
    CHECK(box.left_in_place().empty());
}

SCENARIO("R6: what is left of a dead supervisor's process group is ended before the next run", "[wrapper]") {
    // The grandchild outlives the command, which dies with its supervisor, and holds the lock.
    Sandbox box;
    Gate gate(box, "gate-1"), next(box, "gate-2");
    box.write("command",
              "echo run >>runs; exec 9>lock; flock -n 9 || echo overlap >>overlaps; sleep 1000 & cat gate-$(wc -l "
              "<runs); kill $!; echo done\n");
    const std::vector<std::string> words{"sh", "command"};
    auto first = box.request(words);
    gate.wait_for_command();
    crash(box, first);
    auto second = box.request(words);
    next.wait_for_command();
    next.open();
    CHECK(second.wait().out == "done\n");
    CHECK(box.read("overlaps").empty());
    box.wait_for_all();
    CHECK(box.left_in_place().empty());
}

SCENARIO("R9: what a crash left is removed by the next run, of any key", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    auto first = box.request({"-c", "sleep 1000 & cat gate"});
    gate.wait_for_command();
    crash(box, first);
    CHECK(box.left_in_place().size() == 2);  // the socket, and which process it was
    CHECK(box.run({"true"}).status == 0);
    box.wait_for_all();  // the sleep too: its group was ended
    CHECK(box.left_in_place().empty());
}

SCENARIO("R9: a leader that is killed before it has a supervisor leaves a socket that hinders nobody", "[wrapper]") {
    Sandbox box;
    const std::vector<std::string> words{"-c", "echo run >>runs"};
    if (box.script("strace -qq -o /dev/null true").status != 0) return not_tried("tracing is not allowed here");
    // The kernel kills it as it asks to fork: its socket listens by then.
    const std::string calls = "clone,clone3,fork,vfork";
    box.script("strace -qq -o /dev/null -e trace=" + calls + " -e inject=" + calls +
               ":signal=KILL:when=1 $C run -c 'echo run >>runs'");
    CHECK(box.lines_of("runs") == 0);
    CHECK(box.left_in_place().size() == 1);
    CHECK(box.run(words).status == 0);
    CHECK(box.lines_of("runs") == 1);
    box.wait_for_all();
    CHECK(box.left_in_place().empty());
}

SCENARIO("R2: where no process can be had, that is 125 and said", "[wrapper]") {
    if (::geteuid() != 0) return not_tried("root is needed to be a user of its own");
    Sandbox box;
    const std::string coalesce = box.open_to_nobody();
    const Ended ended = box.start({coalesce, "run", "true"}, {.in_child =
                                                                  [] {
                                                                      const rlimit one{.rlim_cur = 1, .rlim_max = 1};
                                                                      ::setrlimit(RLIMIT_NPROC, &one);
                                                                      become_nobody();
                                                                  }})
                            .wait();
    CHECK(ended.status == 125);
    CHECK(ended.err == "coalesce: cannot start a supervisor: Resource temporarily unavailable\n");
    CHECK(box.left_in_place().empty());
}

SCENARIO("R6: a requester that is stopped while its flight ends gets everything when it goes on", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    const std::vector<std::string> words{"-c", "cat gate; echo answer"};
    auto leader = box.request(words);
    gate.wait_for_command();
    auto stopped = box.request(words);
    box.until_requesters(2);
    stopped.kill(SIGSTOP);
    gate.open();
    CHECK(leader.wait().out == "answer\n");
    box.until([](const auto& all) { return all.empty(); });
    stopped.kill(SIGCONT);
    CHECK(stopped.wait().out == "answer\n");
}

SCENARIO("F13: the command gets descriptors 0, 1 and 2, default signals and a session of its own", "[wrapper]") {
    Sandbox box;
    const Sandbox::Setting encumbered{.in_child = [] {
        for (int fd = 3; fd < 20; ++fd) ::dup2(0, fd);
        for (int number = 1; number < 32; ++number) ::signal(number, SIG_IGN);
        sigset_t all;
        ::sigfillset(&all);
        ::sigprocmask(SIG_SETMASK, &all, nullptr);
    }};
    const std::string session = box.run({"cut", "-d", " ", "-f", "1,5,6", "/proc/self/stat"}, encumbered).out;
    const std::string pid = session.substr(0, session.find(' '));
    CHECK(session == pid + " " + pid + " " + pid + "\n");
    CHECK(box.run({"ls", "/proc/self/fd"}, encumbered).out == "0\n1\n2\n3\n");  // 3 is the directory it lists
    const std::string signals = box.run({"grep", "-E", "^Sig(Blk|Ign):", "/proc/self/status"}, encumbered).out;
    CHECK(signals == "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}
