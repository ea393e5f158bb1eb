// SPDX-License-Identifier: MIT
// What a command finds around it when batch starts it, and what becomes of it when
// batch is interrupted or killed: SPEC F13 and B6.
#include "sandbox.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>

#include "../catch.h"
#include "../not_tried.h"
#include "../time_enough.h"

using namespace coalesce;

namespace {

// Both ways of starting a line: executed directly, and by the shell.
std::vector<std::string> both_ways(const std::string& plain_line) { return {plain_line, "eval '" + plain_line + "'"}; }

// The signals set in a mask as /proc/…/status shows it.
std::string mask(const std::string& status, const std::string& name) {
    const std::size_t at = status.find(name + ":\t");
    return status.substr(at + name.size() + 2, 16);
}

}  // namespace

TEST_CASE("F13: a command gets no descriptor but 0, 1 and 2", "[batch][process]") {
    Sandbox box;
    const Descriptor extra = open_file("/dev/null", O_RDONLY);
    // -j2, accounts and a spool directory: everything that has descriptors is in use.
    for (const std::string& line : both_ways("/bin/ls -1 /proc/self/fd")) {
        const Ended ended = box.run({.args = {"-j2", "--joblog", "log", "--report", "report", "--html", "page",
                                              "--spool-dir", ".", "-a", "lines"},
                                     .input = "",
                                     .in_child = [&] { ::fcntl(extra.get(), F_SETFD, 0); }});
        CHECK(ended.exit == 125);  // there is no such file yet
        box.write("lines", line + "\n");
        const Ended listed = box.run({.args = {"-j2", "--joblog", "log", "--report", "report", "--html", "page",
                                               "--spool-dir", ".", "-a", "lines"},
                                      .input = "",
                                      .in_child = [&] { ::dup2(extra.get(), 77); }});
        CHECK(listed.out == "0\n1\n2\n3\n");  // the last is ls's own
        ::unlink(box.path("lines").c_str());
    }
}

TEST_CASE("F13: output goes to pipes, so /dev/stdout can be opened again", "[batch][process]") {
    Sandbox box;
    CHECK(box.batch({"-j1"}, "echo x >/dev/stdout; echo y >>/dev/fd/1\n").out == "x\ny\n");
    CHECK(box.batch({"-j1"}, "echo e >/dev/stderr\n").err == "e\n");
    const Ended ended = box.batch({"-j1"}, "stat -L -c %F /dev/fd/1 | cat; stat -L -c %F /proc/$$/fd/0\n");
    CHECK(ended.out == "fifo\ncharacter special file\n");
}

TEST_CASE("F13: signals have their default disposition, whatever batch was started with", "[batch][process]") {
    Sandbox box;
    for (const std::string& line : both_ways("/bin/cat /proc/self/status")) {
        const Ended ended = box.run(
            {.input = line + "\n", .ignored = {SIGINT, SIGHUP, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGCHLD, SIGTSTP}});
        CHECK(mask(ended.out, "SigIgn") == "0000000000000000");
        CHECK(mask(ended.out, "SigCgt") == "0000000000000000");
        CHECK(mask(ended.out, "SigBlk") == "0000000000000000");
        CHECK(mask(ended.out, "SigPnd") == "0000000000000000");
    }
}

TEST_CASE("F13: no signal is blocked in a command, whatever batch was started with", "[batch][process]") {
    Sandbox box;
    const Ended ended = box.run({.input = "/bin/cat /proc/self/status\n", .in_child = [] {
                                     sigset_t all;
                                     sigfillset(&all);
                                     sigprocmask(SIG_SETMASK, &all, nullptr);
                                 }});
    CHECK(mask(ended.out, "SigBlk") == "0000000000000000");
    CHECK(ended.exit == 0);
}

TEST_CASE("F13: a command leads a session of its own", "[batch][process]") {
    Sandbox box;
    const Ended ended =
        box.batch({"-j1"}, "cut -d' ' -f 1,5,6 /proc/self/stat\necho $$ $(cut -d' ' -f 5,6 /proc/$$/stat)\n");
    for (const std::string& line : sorted_lines(ended.out)) {
        const std::string pid = line.substr(0, line.find(' '));
        CHECK(line == pid + " " + pid + " " + pid);
    }
}

TEST_CASE("F13: directory, environment, umask, niceness and limits are batch's own", "[batch][process]") {
    Sandbox box;
    box.environment.emplace_back("SOME_THING=a b\nc");
    const auto in_child = [] {
        ::umask(027);
        ::setpriority(PRIO_PROCESS, 0, 19);
        const rlimit files{100, 200};
        ::setrlimit(RLIMIT_NOFILE, &files);
    };
    const std::string probe =
        box.script("probe", "pwd; umask; nice; ulimit -Sn; ulimit -Hn; printf '%s\\n' \"$SOME_THING\"\n");
    for (const std::string& line : both_ways("./probe")) {
        const Ended ended = box.run({.input = line + "\n", .in_child = in_child});
        CHECK(ended.out == box.directory() + "\n0027\n19\n100\n200\na b\nc\n");
        CHECK(ended.err.empty());
    }
}

TEST_CASE("F13: a command runs in a directory that only a descriptor still reaches", "[batch][process]") {
    if (::geteuid() != 0) return not_tried("root is needed");
    Sandbox box;
    const std::string program = box.program_for_all();
    ::mkdir(box.path("private").c_str(), 0700);
    ::mkdir(box.path("private/inside").c_str(), 0777);
    const std::string inside = box.path("private/inside");
    const Ended ended =
        box.run({.input = "echo it runs\n/bin/echo so does this\n",
                 .in_child =
                     [&] {
                         if (::chdir(inside.c_str()) != 0 || ::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(98);
                     },
                 .program = program});
    CHECK(sorted_lines(ended.out) == std::vector<std::string>{"it runs", "so does this"});
    CHECK(ended.exit == 0);
}

TEST_CASE("F13: a command dies with batch, even by KILL", "[batch][process]") {
    Sandbox box;
    Gate begun = box.gate("begun");
    Running batch = box.start({.args = {"-j4"}});
    batch.send(
        "echo $$ >begun; exec sleep 1000\ntrap '' TERM INT HUP; echo $$ >begun; while :; do read x <never || sleep 1; "
        "done\n");
    const std::vector<pid_t> pids{std::stoi(begun.await()), std::stoi(begun.await())};
    batch.signal(SIGKILL);
    CHECK(batch.wait().signal == SIGKILL);
    for (const pid_t pid : pids) await_death(pid);
}

TEST_CASE("F13: nothing is left of a command that was being waited for", "[batch][process]") {
    Sandbox box;
    const std::string script = box.script("exits", "exit 3\n");
    // As many as run at a time, and no zombie of theirs while another still runs.
    Gate gate = box.gate("gate");
    Gate begun = box.gate("begun");
    Running batch = box.start({.args = {"-j3"}});
    batch.send("echo x >begun; read x <gate\n");
    begun.await();
    for (int i = 0; i < 20; ++i) batch.send("./exits " + std::to_string(i) + "\n");
    batch.send("echo done\n");
    CHECK(batch.read_line() == "done");
    batch.send("cat /proc/$PPID/task/$PPID/children | wc -w; echo x >begun\n");
    begun.await();
    CHECK(std::stoi(batch.read_line()) <= 4);  // the held one, the shell that counts, and what it has just started
    gate.open();
    CHECK(batch.wait().exit == 123);
}

// --- interruption

TEST_CASE("B6: an interrupt ends the commands, flushes what has finished, and is told by the status",
          "[batch][process]") {
    Sandbox box;
    for (const auto& [number, status] : {std::pair{SIGINT, 130}, {SIGTERM, 143}, {SIGHUP, 129}}) {
        INFO(number);
        Sandbox inner;
        Gate begun = inner.gate("begun");
        Running batch = inner.start({.args = {"-j2", "-k"}});
        batch.send("echo finished; echo also >&2\necho $$ >begun; exec sleep 1000\necho after\n" +
                   repeated("echo x >>runs; echo $$ >begun; exec sleep 999\n", 2));
        const std::vector<pid_t> pids{std::stoi(begun.await()), std::stoi(begun.await())};
        batch.signal(number);
        const Ended ended = batch.wait();
        CHECK(ended.exit == status);
        CHECK_THAT(ended.out, StartsWith("finished\n"));
        CHECK(ended.err == "also\n");
        for (const pid_t pid : pids) CHECK_FALSE(alive(pid));
    }
}

TEST_CASE("B6: a second interrupt does not wait for what ignores the first", "[batch][process]") {
    Sandbox box;
    Gate begun = box.gate("begun");
    Gate told = box.gate("told");
    Running batch = box.start({.args = {"-j2", "--joblog", "log"}});
    batch.send("echo done\ntrap 'echo x >told' TERM; echo $$ >begun; while :; do sleep 1000 >&- 2>&- & wait; done\n");
    CHECK(batch.read_line() == "done");
    const pid_t pid = std::stoi(begun.await());
    batch.signal(SIGINT);
    told.await();
    CHECK(alive(pid));
    batch.signal(SIGTERM);
    CHECK(batch.wait().exit == 130);
    await_death(pid);
    CHECK(box.lines("log") == 3);  // what was cut short has a row too
}

TEST_CASE("B6: a signal told twice at once is one, so that the command can clean up", "[batch][process]") {
    for (int attempt = 0; attempt < 50; ++attempt) {
        Sandbox box;
        Gate begun = box.gate("begun");
        Gate told = box.gate("told");
        Gate gate = box.gate("gate");
        Running batch = box.start({.args = {"-j2"}});
        batch.send(
            "trap 'echo x >told; read x <gate; echo cleaned >log; exit' TERM; echo x >begun; while :; do sleep 0.01; "
            "done\n");
        begun.await();
        batch.signal(SIGTERM);
        told.await();  // so that it is not one signal for the kernel already
        batch.signal(SIGTERM);
        wait_until([&] { return asleep(batch.pid()) || !alive(batch.pid()); });  // it has been heard
        gate.open();
        CHECK(batch.wait().exit == 143);
        if (box.read("log") == "cleaned\n") return;
        // The machine is busy, and this was a second signal.
    }
    FAIL("two signals were never one");
}

TEST_CASE("B6: after an interrupt, --grace bounds the wait for what ignores TERM", "[batch][process]") {
    Sandbox box;
    Gate begun = box.gate("begun");
    Running batch = box.start({.args = {"--grace", "50ms"}});
    batch.send("trap '' TERM; echo $$ >begun; while :; do sleep 1000; done\n");
    const pid_t pid = std::stoi(begun.await());
    batch.signal(SIGTERM);
    CHECK(batch.wait().exit == 143);
    await_death(pid);
}

TEST_CASE("B6: an interrupt starts nothing, neither what is queued nor what is pending", "[batch][process]") {
    Sandbox box;
    Gate begun = box.gate("begun");
    const std::string request = R"({"line":"echo run >>runs; echo x >begun; exec sleep 1000")";
    Running batch = box.start({.args = {"--json", "-j1", "--retries", "3"}});
    batch.send(request + "}\n");
    begun.await();
    batch.send(request + ",\"fresh\":true}\n{\"line\":\"echo run >>runs\"}\n");
    batch.signal(SIGINT);
    CHECK(batch.wait().exit == 130);
    CHECK(box.lines("runs") == 1);
}

TEST_CASE("B6: an interrupt while output is printed as it comes ends it in order", "[batch][process]") {
    Sandbox box;
    for (const char* order : {"-k", "-j2"}) {
        Gate gate(box.path(std::string("gate") + order));
        Running batch = box.start({.args = {order, "--replay-limit", "64K"}});
        batch.send("seq 1 50000; exec sleep 1000\n");
        for (int i = 1; i <= 50000; ++i) batch.read_line();
        batch.signal(SIGINT);
        const Ended ended = batch.wait();
        CHECK(ended.exit == 130);
        CHECK(ended.out.empty());
    }
}

// The reader has stalled, the spool is full, and the run is told to end: it lands while it is full.
TEST_CASE("B6: an interrupt or a timeout while a stalled reader holds a long output up", "[batch][process]") {
    Sandbox box;
    Gate begun = box.gate("begun");
    SECTION("interrupt") {
        Running batch = box.start({.args = {"--replay-limit", "64K"}});
        batch.send("echo $$ >begun; exec seq 1 100000000\n");
        const pid_t pid = std::stoi(begun.await());
        CHECK(batch.read_line() == "1");
        const auto held_up = [&] { return asleep(pid) && asleep(batch.pid()); };
        wait_until([&] { return held_up() && held_up(); });
        batch.signal(SIGINT);
        const Ended ended = batch.wait();  // reads on
        CHECK(ended.exit == 130);
    }
    SECTION("timeout, with a command that writes on through its grace period") {
        with_time_enough([&](std::chrono::milliseconds time) {
            Running batch = box.start({.args = {"--replay-limit", "64K", "--timeout", in_seconds(2 * time), "--grace",
                                                in_seconds(6 * time)}});
            batch.send("trap '' TERM; echo $$ >pid; exec seq 1 100000000\n");
            batch.end_input();
            wait_until([&] { return box.lines("pid") > 0 || !alive(batch.pid()); });
            if (box.lines("pid") == 0) return false;  // it was told to end before it would not hear of it
            await_death(std::stoi(box.read("pid")));
            ::unlink(box.path("pid").c_str());
            const Ended ended = batch.wait();
            CHECK(ended.exit == 123);
            CHECK_THAT(ended.err, Contains("timed out"));
            // What it wrote is told, without a gap, up to where the KILL caught it.
            std::string wanted;
            for (int i = 1; wanted.size() < ended.out.size(); ++i) wanted += std::to_string(i) + "\n";
            wanted.resize(ended.out.size());
            CHECK((ended.out == wanted));
            return ended.out.size() > 64 * 1024;
        });
    }
}

TEST_CASE("B6: signals that batch was told to ignore are ignored", "[batch][process]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    Gate begun = box.gate("begun");
    Running batch = box.start({.args = {"-j2"}, .ignored = {SIGINT, SIGHUP}});  // as nohup and & do
    batch.send("echo x >begun; read x <gate; echo survived\n");
    begun.await();
    batch.signal(SIGHUP);
    batch.signal(SIGINT);
    batch.send("echo more\n");
    CHECK(batch.read_line() == "more");
    gate.open();
    CHECK(batch.wait().out == "survived\n");
}

TEST_CASE("B6: Ctrl-C on a terminal reaches the commands once, through batch", "[batch][process]") {
    Sandbox box;
    Gate begun = box.gate("begun");
    Terminal terminal = open_terminal(80);
    Running batch = box.start({.stderr_fd = terminal.slave.get(), .in_child = [] {
                                   ::setsid();
                                   ::ioctl(2, TIOCSCTTY, 0);
                               }});
    terminal.slave.reset();
    batch.send(
        "trap 'echo interrupted' INT; trap 'echo terminated; exit' TERM; echo x >begun; while :; do sleep 1000 >&- "
        "2>&- & wait; done\n");
    begun.await();
    REQUIRE(::write(terminal.master.get(), "\x03", 1) == 1);
    CHECK(batch.wait().exit == 130);
}
