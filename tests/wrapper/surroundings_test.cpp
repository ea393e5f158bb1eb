// SPDX-License-Identifier: MIT
// Surroundings a desktop does not have: empty and huge environments, outputs that are
// closed, full, appended to, and limits.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "../catch.h"
#include "../not_tried.h"
#include "sandbox.h"

SCENARIO("R1: an empty environment, and one of a thousand variables, are passed on", "[wrapper]") {
    Sandbox box;
    CHECK(box.script("env -i XDG_RUNTIME_DIR=$XDG_RUNTIME_DIR $C run /usr/bin/env | grep -v -e ^COALESCE_ -e ^XDG_")
              .out.empty());
    Sandbox::Setting many;
    for (int i = 0; i < 1000; ++i) many.env.push_back("VARIABLE_" + std::to_string(i) + "=" + std::string(20, 'x'));
    CHECK(box.run({"-c", "env | grep -c ^VARIABLE_"}, many).out == "1000\n");
}

SCENARIO("R2: a megabyte of arguments works, and what the kernel refuses is 126 with the reason", "[wrapper]") {
    Sandbox box;
    std::vector<std::string> words{"sh", "-c", "echo $#", "sh"};
    for (int i = 0; i < 1000; ++i) words.push_back(std::string(1000, 'a'));
    CHECK(box.run(words).out == "1000\n");
    // The longest list that still reaches us: the command's is longer by its ancestry.
    box.write("c", "");
    ::unlink(box.path("c").c_str());
    REQUIRE(::symlink(tested_program().c_str(), box.path("c").c_str()) == 0);
    const Sandbox::Setting little{.in_child = [] {
        const rlimit stack{.rlim_cur = 1 << 20, .rlim_max = RLIM_INFINITY};
        ::setrlimit(RLIMIT_STACK, &stack);
    }};
    if (sanitized()) return;  // left to the release
    const auto with = [&](std::size_t bytes) {
        std::vector<std::string> list{"./c", "run", "/bin/true"};
        for (; bytes > 100'000; bytes -= 100'000) list.push_back(std::string(100'000 - 9, 'a'));
        list.push_back(std::string(bytes, 'a'));
        return box.start(list, little).wait();
    };
    std::size_t fits = 0, too_much = 400'000;
    while (too_much - fits > 1) {
        const std::size_t middle = (fits + too_much) / 2;
        (with(middle).status == 98 ? too_much : fits) = middle;
    }
    const Ended ended = with(fits);
    CHECK(ended.status == 126);
    CHECK(ended.err == "coalesce: cannot run /bin/true: Argument list too long\n");
}

SCENARIO("R3: output goes where the shell sent it", "[wrapper]") {
    Sandbox box;
    const std::string both = "$C run sh -c 'echo out; echo err >&2; echo more'";
    // Between the two streams the order is the one in which they were read (F3).
    CHECK(box.script(both + " >f 2>&1; sort f").out == "err\nmore\nout\n");
    CHECK(box.script(both + " 2>&1 >f | cat; cat f").out == "err\nout\nmore\n");
    CHECK(box.script("echo first >a; " + both + " >>a 2>/dev/null; cat a; " + both +
                     " >>a 2>&1; sort a | uniq -c | tr -s ' '")
              .out == "first\nout\nmore\n 1 err\n 1 first\n 2 more\n 2 out\n");
    CHECK(box.script(both + " 2>&1 >/dev/null | cat").out == "err\n");
    CHECK(box.script(both + " 2>/dev/null | cat").out == "out\nmore\n");
    const Ended full = box.script(both + " >/dev/full");
    CHECK(full.status == 125);
    CHECK(full.err.find("coalesce: cannot write to standard output: No space left on device\n") != std::string::npos);
    const Ended closed = box.script(both + " >&-");
    CHECK(closed.status == 125);
    CHECK(closed.err.find("cannot write to standard output: Bad file descriptor") != std::string::npos);
    CHECK(box.script("$C run true >&- 2>&- <&-").status == 0);
}

SCENARIO("R1: with too few descriptors for a flight its command is not started", "[wrapper]") {
    Sandbox box;
    box.write("command", "echo run >>runs; ulimit -n");
    int ended_well = 0;
    for (int most = sanitized() ? 10 : 4; most < 30; ++most) {  // a sanitizer takes some itself, to be able to complain
        INFO(most);
        const Ended ended = box.script("ulimit -n " + std::to_string(most) + "; exec $C run sh command");
        if (!sanitized()) CHECK((ended.status == 0) == (most > 24));
        if (ended.status == 0) {
            ++ended_well;
            CHECK(ended.out == std::to_string(most) + "\n");
        } else {
            CHECK(ended.status == 125);
            CHECK(ended.err.find(": Too many open files\n") != std::string::npos);
        }
    }
    CHECK(ended_well > 0);
    CHECK(box.lines_of("runs") == ended_well);
    // A supervisor may take more than the command: up to the hard limit.
    const Ended raised = box.script("ulimit -Sn 12; exec $C run sh command");
    CHECK(raised.err == "");
    CHECK(raised.out == "12\n");
    box.wait_for_all();
    CHECK(box.left_in_place().empty());
}

SCENARIO("F9: past a limit on files the output is refused, and the command runs once", "[wrapper]") {
    Sandbox box;
    const Ended ended = box.script("ulimit -f 4; $C run -c 'echo run >>runs; head -c 3000000 /dev/zero' | wc -c");
    CHECK(ended.err.find("File too large") != std::string::npos);
    CHECK(box.lines_of("runs") == 1);
    box.wait_for_all();
    CHECK(box.left_in_place().empty());
}

SCENARIO("R9: another user's runtime directory is not used", "[wrapper]") {
    if (::geteuid() != 0) return not_tried("root is needed");
    Sandbox box;
    const std::string theirs = box.path("theirs");
    REQUIRE(::mkdir(theirs.c_str(), 0700) == 0);
    REQUIRE(::chown(theirs.c_str(), nobody, nobody) == 0);
    CHECK(box.script("XDG_RUNTIME_DIR=" + theirs + " $C run echo fine").out == "fine\n");
    CHECK(::rmdir(theirs.c_str()) == 0);  // so nothing is in it
}

SCENARIO("F9: more than two gigabytes pass whole", "[wrapper]") {
    Sandbox box;
    const std::string bytes = full_numbers() ? "2200000000" : "50000000";
    CHECK(box.script("$C run head -c " + bytes + " /dev/zero | wc -c").out == bytes + "\n");
    CHECK(box.script("$C run --replay-limit 1M head -c " + bytes + " /dev/zero | wc -c").out == bytes + "\n");
}

SCENARIO("F9: a full spool directory is told to everyone, and nothing is left", "[wrapper]") {
    Sandbox box;
    if (!box.may_mount()) return not_tried("mounting is not allowed here");
    const Ended ended =
        box.start(
               {"/usr/bin/unshare", "-m", "/bin/sh", "-c",
                "mount -t tmpfs -o size=1m none /mnt && $C run --spool-dir /mnt head -c 5000000 /dev/zero | wc -c >n; "
                "$C run --spool-dir /mnt head -c 5000000 /dev/zero >/dev/null; echo $?; ls /mnt"})
            .wait();
    CHECK(ended.out == "125\n");
    CHECK(ended.err.find("coalesce: cannot keep the output in /mnt: No space left on device\n") != std::string::npos);
    const Ended missing = box.run({"--spool-dir", "/nowhere", "echo", "x"});
    CHECK(missing.status == 125);
    CHECK(missing.err.find("/nowhere: No such file or directory") != std::string::npos);
}

SCENARIO("S9: with more requesters than descriptors the others wait for a run of their own", "[wrapper]") {
    // They took the supervisor's last descriptors, and the run failed for everyone.
    Sandbox box;
    Gate gate(box, "gate-1"), next(box, "gate-2");
    const Sandbox::Setting few{.in_child = [] {
        const rlimit limit{.rlim_cur = 64, .rlim_max = 64};
        ::setrlimit(RLIMIT_NOFILE, &limit);
    }};
    const std::vector<std::string> words{"-v", "-c", "echo run >>runs; cat gate-$(wc -l <runs); echo answer"};
    std::vector<Process> all;
    all.push_back(box.request(words, few));
    gate.wait_for_command();
    for (int i = 0; i < 60; ++i) all.push_back(box.request(words, few));
    const auto until_joined = [&](int wanted) {
        for (int joined = -1; joined < wanted;) {
            joined = 0;
            for (const Process& process : all) joined += process.err().find("coalesce: joined") != std::string::npos;
            ::poll(nullptr, 0, 1);
        }
    };
    until_joined(39);
    gate.open();
    next.wait_for_command();
    until_joined(39 + 20);
    next.open();
    for (Process& process : all) {
        const Ended ended = process.wait();
        CHECK(ended.status == 0);
        CHECK(ended.out == "answer\n");
    }
    CHECK(box.lines_of("runs") == 2);
}

SCENARIO("F9: a thousand joiners cost their supervisor less than 16 MB", "[wrapper]") {
    Sandbox box;
    if (sanitized()) return;  // left to the release
    Gate gate(box, "gate");
    const std::vector<std::string> words{"-c", "cat gate; seq 1000"};
    std::vector<Process> all;
    all.push_back(box.request(words));
    gate.wait_for_command();
    for (int i = 0; i < 1000; ++i) all.push_back(box.request(words));
    const Flight flight = box.until_requesters(1001);
    const std::string status = read_file("/proc/" + std::to_string(flight.supervisor) + "/status");
    const long kilobytes = std::atol(status.c_str() + status.find("VmHWM:") + 6);
    CAPTURE(kilobytes);
    CHECK(kilobytes < 16 * 1024);
    gate.open();
    for (Process& process : all) CHECK(process.wait().status == 0);
}
