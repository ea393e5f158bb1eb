// SPDX-License-Identifier: MIT
// SPEC B5's joblogs that are gone on with, and batches that stop early: as GNU parallel
// does it on the same input with the same joblog, where it is installed.
#include "sandbox.h"

#include <signal.h>

#include <algorithm>
#include <filesystem>

#include "../catch.h"
#include "../not_tried.h"

using namespace coalesce;

namespace {

const std::string head = "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n";

std::string row(int sequence, int exit, int signal, const std::string& command) {
    return std::to_string(sequence) + "\t:\t1700000000.123\t     0.001\t0\t0\t" + std::to_string(exit) + "\t" +
           std::to_string(signal) + "\t" + command + "\n";
}

// What a joblog says that does not depend on the clock: Seq, Exitval, Signal and Command.
std::vector<std::string> facts(const std::string& joblog) {
    std::vector<std::string> rows;
    for (std::size_t at = 0; at < joblog.size();) {
        const std::size_t end = joblog.find('\n', at);
        std::string line = joblog.substr(at, end - at);
        std::size_t first = line.find('\t');
        std::size_t sixth = first;
        for (int i = 0; i < 5 && sixth != std::string::npos; ++i) sixth = line.find('\t', sixth + 1);
        if (sixth != std::string::npos) line.erase(first, sixth - first);
        rows.push_back(line);
        at = end == std::string::npos ? joblog.size() : end + 1;
    }
    return rows;
}

// What parallel says, as it said it in Debian 12: since then the Exitval of a command that a
// signal ended is the shell's, with the signal beside it as ever.
std::vector<std::string> facts_as_of_old(const std::string& joblog) {
    std::vector<std::string> rows = facts(joblog);
    for (std::string& row : rows)
        if (const std::size_t at = row.find("\t137\t9\t"); at != std::string::npos) row.replace(at, 6, "\t0\t9");
    return rows;
}

bool has_parallel() {
    if (std::filesystem::exists("/usr/bin/parallel")) return true;
    not_tried("the same as GNU parallel", "it is not installed");
    return false;
}

// Both on the file "lines", in directories of their own, beside each other.
struct Peers {
    Sandbox& box;

    Ended ours(std::vector<std::string> args) const {
        args.insert(args.begin(), {"-j1", "-a", "lines"});
        return box.run({.args = std::move(args), .input = ""});
    }
    Ended theirs(std::vector<std::string> args) const {
        args.insert(args.begin(), {"-j1", "--will-cite", "-a", "lines"});
        return box.run(
            {.args = std::move(args), .input = "", .env = {"SHELL=/bin/sh"}, .program = "/usr/bin/parallel"});
    }
};

}  // namespace

TEST_CASE("B5: --resume and --resume-failed run what GNU parallel would", "[batch][joblog]") {
    Sandbox box;
    if (!has_parallel()) return;
    const Peers peers{box};
    box.write("lines", "echo 1 >>ran\nexit 2\nkill -9 $$\n\necho '5  five' >>ran\nexit 6\necho 7 >>ran\n");
    const std::string partial = head + row(1, 0, 0, "echo 1 >>ran") + row(3, 0, 9, "kill -9 $$") +
                                row(2, 2, 0, "exit 2") + row(6, 0, 0, "exit 6");
    const std::string twice = partial + row(2, 0, 0, "exit 2");
    // As parallel writes it since.
    const std::string as_the_shell = head + row(1, 0, 0, "echo 1 >>ran") + row(3, 137, 9, "kill -9 $$");
    std::string whole = head + row(4, 0, 0, "");
    for (const auto& [number, command] : {std::pair{1, "echo 1 >>ran"},
                                          {2, "exit 2"},
                                          {3, "kill -9 $$"},
                                          {5, "echo '5  five' >>ran"},
                                          {6, "exit 6"},
                                          {7, "echo 7 >>ran"}})
        whole += row(number, 0, 0, command);
    for (const std::string& before : {std::string(), head, partial, twice, as_the_shell, whole}) {
        for (const char* option : {"--resume", "--resume-failed"}) {
            INFO(option << " after\n" << before);
            for (const char* name : {"ours", "theirs"}) box.write(name, before);
            box.write("ran", "");
            peers.theirs({option, "--joblog", "theirs"});
            const std::string their_ran = box.read("ran");
            box.write("ran", "");
            peers.ours({option, "--joblog", "ours"});
            CHECK(box.read("ran") == their_ran);
            for (const char* name : {"ours", "theirs"}) REQUIRE(box.read(name).starts_with(before));
            // A blank line is no command here, and a job there.
            std::vector<std::string> theirs = facts_as_of_old(box.read("theirs").substr(before.size()));
            std::erase(theirs, "4\t0\t0\t");
            std::vector<std::string> ours = facts(box.read("ours").substr(before.size()));
            std::erase(ours, "4\t0\t0\t");
            CHECK(ours == theirs);
        }
    }
}

TEST_CASE("B5: either goes on with the other's joblog, +FILE appends", "[batch][joblog]") {
    Sandbox box;
    if (!has_parallel()) return;
    const Peers peers{box};
    box.write("lines", "echo 1 >>ran\nexit 2\necho 'it''s  3' >>ran\nexit 4\n");
    peers.ours({"--joblog", "ours"});
    peers.theirs({"--joblog", "theirs"});
    CHECK(facts(box.read("ours")) == facts(box.read("theirs")));
    CHECK(box.lines("ran") == 4);
    CHECK(peers.ours({"--resume", "--joblog", "theirs"}).exit == 0);
    CHECK(peers.theirs({"--resume", "--joblog", "ours"}).exit == 0);
    CHECK(facts(box.read("ours")) == facts(box.read("theirs")));
    CHECK(peers.ours({"--resume-failed", "--joblog", "theirs"}).exit == 123);
    CHECK(peers.theirs({"--resume-failed", "--joblog", "ours"}).exit == 2);
    CHECK(facts(box.read("ours")) == facts(box.read("theirs")));
    CHECK(box.lines("ran") == 4);
    peers.ours({"--joblog", "+ours"});
    peers.theirs({"--joblog", "+theirs"});
    CHECK(facts(box.read("ours")) == facts(box.read("theirs")));
    CHECK(facts(box.read("ours")).size() == 1 + 4 + 2 + 4);
}

TEST_CASE("B5: --halt stops where GNU parallel would", "[batch][joblog]") {
    Sandbox box;
    if (!has_parallel()) return;
    const Peers peers{box};
    box.write("lines", "true 1\nexit 2\ntrue 3\nexit 4\nexit 5\ntrue 6\nexit 7\ntrue 8\ntrue 9\nexit 10\n");
    for (const char* halt :
         {"now,fail=1", "soon,fail=2", "now,fail=9", "soon,fail=20%", "now,fail=35%", "soon,success=1", "now,success=3",
          "soon,success=40%", "now,done=1", "soon,done=4", "now,done=55%", "soon,done=100%"}) {
        INFO(halt);
        const Ended ours = peers.ours({"--joblog", "ours", "--halt", halt});
        const Ended theirs = peers.theirs({"--joblog", "theirs", "--halt", halt});
        CHECK(facts(box.read("ours")) == facts(box.read("theirs")));
        // It sums up failures in its status; ours is that of the job it stopped on (B6).
        if (std::string(halt).ends_with("=1")) CHECK(ours.exit == theirs.exit);
        if (std::string(halt).find("success") != std::string::npos) CHECK(ours.exit == 0);
    }
}

TEST_CASE("B6: --halt ends with the status of the failed run that it stopped on", "[batch][joblog]") {
    Sandbox box;
    const auto status = [&](const char* halt, const char* lines) {
        return box.batch({"-j1", "--halt", halt}, lines).exit;
    };
    CHECK(status("soon,done=2", "true\nexit 7\nexit 8\n") == 7);
    CHECK(status("soon,done=2", "exit 7\ntrue\nexit 8\n") == 123);
    CHECK(status("soon,done=2", "true\n:\nexit 8\n") == 0);
    CHECK(status("soon,success=2", "exit 7\ntrue\n:\nexit 8\n") == 0);
    CHECK(status("soon,success=3", "exit 7\ntrue\n:\nexit 8\n") == 123);
    CHECK(status("soon,fail=50%", "exit 7\ntrue\n:\nexit 8\n") == 8);
    CHECK(status("soon,fail=51%", "exit 7\ntrue\n:\nexit 8\n") == 123);
}

TEST_CASE("B5: a percentage of --halt is of all requests, shared and refused ones too", "[batch][joblog]") {
    Sandbox box;
    const std::string shared = repeated("exit 3\n", 6);
    CHECK(box.batch({"-j1", "--halt", "soon,fail=60%"}, shared + "echo never\n: 1\n: 2\n: 3\n").out.empty());
    CHECK(box.batch({"-j1", "--halt", "soon,fail=61%"}, shared + "echo still\n: 1\n: 2\n: 3\n").out == "still\n");
    const std::string refused = std::string("a\0b\n", 4);
    CHECK(box.batch({"-j1", "--halt", "soon,fail=50%"}, refused + "exit 3\necho never\n: 1\n").out.empty());
    CHECK(box.batch({"-j1", "--halt", "soon,fail=50%"}, refused + ": 2\necho still\n: 1\n").out == "still\n");
    // Nothing is judged, nor started, before it is known how many they are.
    Running batch = box.start({.args = {"-j1", "--halt", "soon,fail=50%"}});
    batch.send("exit 3\necho x >>ran; echo ran\n");
    batch.send("echo y >>ran; echo ran too\n");
    batch.end_input();
    const Ended ended = batch.wait();
    CHECK(ended.out == "ran\nran too\n");
    CHECK(ended.exit == 123);
    // More than is read ahead is not waited for.
    CHECK(box.batch({"-j1", "--read-ahead", "2", "--halt", "soon,fail=50%"}, ": 1\n: 2\n: 3\n: 4\necho last\n").out ==
          "last\n");
}

TEST_CASE("B5: --resume refuses another input, before more is started", "[batch][joblog]") {
    Sandbox box;
    box.write("log", head + row(1, 0, 0, "echo 1 >>ran") + row(2, 0, 0, "echo 2 >>ran"));
    for (const char* option : {"--resume", "--resume-failed"}) {
        const Ended ended =
            box.batch({"-j1", option, "--joblog", "log"}, "echo 1 >>ran\necho two >>ran\necho 3 >>ran\n");
        CHECK(ended.exit == 125);
        CHECK(ended.err ==
              "coalesce: cannot resume by log: its command 2 is echo 2 >>ran, but line 2 of standard input is echo two "
              ">>ran\n");
        CHECK_FALSE(box.exists("ran"));
    }
    const Ended without = box.batch({"--resume"}, "echo x >>ran\n");
    CHECK(without.exit == 125);
    CHECK_THAT(without.err, Contains("--joblog"));
    box.write("no log", "echo 1 >>ran\n");
    const Ended strange = box.batch({"--resume", "--joblog", "no log"}, "echo x >>ran\n");
    CHECK(strange.exit == 125);
    CHECK(strange.err == "coalesce: cannot resume by no log: its line 1 is not a joblog's\n");
    CHECK(box.read("no log") == "echo 1 >>ran\n");
    CHECK_FALSE(box.exists("ran"));
}

TEST_CASE("B5: a joblog that was cut is gone on with, and the request that was cut runs again", "[batch][joblog]") {
    Sandbox box;
    const std::string whole = head + row(1, 0, 0, "echo 1 >>ran");
    box.write("log", whole + "2\t:\t1700000000.123\t     0.0");
    const std::string lines = "echo 1 >>ran\necho 2 >>ran\n";
    CHECK(box.batch({"--resume", "--joblog", "log"}, lines).exit == 0);
    CHECK(box.read("ran") == "2\n");
    CHECK(box.read("log").starts_with(whole + "2\t:\t"));
    CHECK(box.batch({"--resume", "--joblog", "log"}, lines).exit == 0);
    CHECK(box.read("ran") == "2\n");
    box.write("log", whole + "2\t:\t1700\n" + row(2, 0, 0, "echo 2 >>ran"));  // in its middle it is no row either
    CHECK(box.batch({"--resume", "--joblog", "log"}, lines).exit == 0);
    CHECK(box.read("ran") == "2\n");
}

// Else the next row would end it, and the next --resume read it as another command's.
TEST_CASE("B5: of a joblog that was cut inside a command nothing of that row is left", "[batch][joblog]") {
    Sandbox box;
    const std::string lines = "echo 1 >>ran\necho 2 >>ran\n";
    box.write("log", head + "1\t:\t1700000000.123\t     0.001\t0\t0\t0\t0\techo 1 >>");
    for (const int turn : {1, 2}) {
        INFO(turn);
        CHECK(box.batch({"-j1", "--resume", "--joblog", "log"}, lines).exit == 0);
        CHECK(box.read("ran") == "1\n2\n");
    }
    CHECK_THAT(box.read("log"), StartsWith(head + "1\t:\t") && !Contains("echo 1 >>\n"));
    box.write("notes", "no joblog");
    CHECK(box.batch({"--joblog", "+notes"}, "true\n").exit == 0);
    CHECK_THAT(box.read("notes"), StartsWith("no joblog\n1\t:\t"));
}

TEST_CASE("B5: commands of any bytes are found again in the joblog, and their rows steer no terminal",
          "[batch][joblog]") {
    Sandbox box;
    const std::string lines("echo a\tb >>ran\0printf '1\n2\n' >>ran\0: \x1b[31m\xff >>ran\0", 53);
    CHECK(box.batch({"-0", "-j1", "--joblog", "log"}, lines).exit == 0);
    const std::string log = box.read("log");
    CHECK(log.find('\x1b') == std::string::npos);
    CHECK(facts(log) == std::vector<std::string>{"Seq\tExitval\tSignal\tCommand", "1\t0\t0\t$'echo a\\tb >>ran'",
                                                 "2\t0\t0\t$'printf \\'1\\n2\\n\\' >>ran'",
                                                 "3\t0\t0\t$': \\033[31m\\377 >>ran'"});
    const std::string ran = box.read("ran");
    CHECK(box.batch({"-0", "-j1", "--resume", "--joblog", "log"}, lines).exit == 0);
    CHECK(box.read("ran") == ran);
    CHECK(box.read("log") == log);
    if (!has_parallel()) return;
    box.write("nul lines", lines);
    box.run({.args = {"-0", "-j1", "--will-cite", "--joblog", "theirs", "-a", "nul lines"},
             .input = "",
             .env = {"SHELL=/bin/sh"},
             .program = "/usr/bin/parallel"});
    box.write("ran", "");
    CHECK(box.batch({"-0", "-j1", "--resume", "--joblog", "theirs"}, lines).exit == 0);
    CHECK(box.read("ran").empty());
}

TEST_CASE("B5: what a signal or --halt now has ended is in the joblog, and is run again", "[batch][joblog]") {
    Sandbox box;
    Gate begun = box.gate("begun");
    Gate gate = box.gate("gate");
    const std::string held = "echo ran >>ran; echo x >begun; read x <gate";
    const std::string lines = held + "\n" + held + "\n: queued\n";
    const std::vector<std::string> wanted{"Seq\tExitval\tSignal\tCommand", "1\t-1\t15\t" + held, "2\t-1\t15\t" + held};
    SECTION("a signal") {
        Running batch = box.start({.args = {"-j1", "--joblog", "log", "--report", "report"}, .input = lines});
        begun.await();
        batch.signal(SIGTERM);
        CHECK(batch.wait().exit == 143);
        CHECK(box.lines("report") == 3);
    }
    SECTION("two signals") {
        Running batch = box.start({.args = {"-j1", "--joblog", "log", "--report", "report"},
                                   .input = "trap '' TERM; " + held + "\n" + "trap '' TERM; " + held + "\n: queued\n"});
        begun.await();
        batch.signal(SIGINT);
        // It has heard the first once the queued one is told of.
        wait_until([&] { return box.lines("report") == 1; });
        batch.signal(SIGTERM);
        CHECK(batch.wait().exit == 128 + SIGINT);
        CHECK(box.lines("report") == 3);
        CHECK(box.lines("log") == 3);
        return;
    }
    SECTION("--halt now") {
        Running batch = box.start({.args = {"-j2", "--joblog", "log", "--halt", "now,fail=1"}});
        batch.send(held + "\n" + held + "\n");
        begun.await();
        batch.send("exit 9\n");
        CHECK(batch.wait().exit == 9);
        std::vector<std::string> rows = facts(box.read("log"));
        CHECK(std::erase(rows, "3\t9\t0\texit 9") == 1);
        CHECK(rows == wanted);
        return;
    }
    CHECK(facts(box.read("log")) == wanted);
    gate.open();
    CHECK(box.batch({"-j1", "--resume", "--joblog", "log"}, lines).exit == 0);
    CHECK(box.lines("ran") == 2);
    CHECK(facts(box.read("log")).size() == 3 + 3);
}

TEST_CASE("B5: -k and blank lines go with --resume, and the summary counts what was skipped", "[batch][joblog]") {
    Sandbox box;
    box.write("log", head + row(2, 0, 0, "echo two"));
    const Ended ended =
        box.batch({"-j1", "-k", "-v", "--resume", "--joblog", "log"}, "echo one\necho two\n\n\necho five\n");
    CHECK(ended.out == "one\nfive\n");
    CHECK_THAT(ended.err, Contains("2 requests, 2 runs, 0 shared, 0 failed, 1 skipped, "));
    CHECK(facts(box.read("log")).back() == "5\t0\t0\techo five");
}
