// SPDX-License-Identifier: MIT
// Who shares a run and who does not, in what order runs start and how they are
// bounded: SPEC F1–F10 and F12 as seen from batch, B3, B4, and the ways to stop early.
#include "sandbox.h"

#include <nlohmann/json.hpp>

#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "../catch.h"
#include "../time_enough.h"

using namespace coalesce;
using Json = nlohmann::json;

TEST_CASE("B3: a line read while its equal runs joins it", "[batch][flights]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    Gate begun = box.gate("begun");
    const std::string line = "echo run >>runs; echo x >begun; read x <gate; echo out; echo err >&2; exit 3\n";
    Running batch = box.start({.args = {"-j4"}});
    batch.send(line);
    begun.await();
    batch.send(line + line + "echo other\n");
    CHECK(batch.read_line() == "other");  // so the two before it have been read
    gate.open();
    const Ended ended = batch.wait();
    CHECK(ended.out == "out\nout\nout\n");
    CHECK(ended.err == "err\nerr\nerr\n");
    CHECK(ended.exit == 123);
    CHECK(box.lines("runs") == 1);
}

TEST_CASE("B3: a line read while its equal is queued joins it", "[batch][flights]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    gate.open();
    const std::string queued = "echo run >>runs; echo queued\n";
    CHECK(box.batch({"-j1"}, "read x <gate; echo first\n" + repeated(queued, 5)).out ==
          "first\n" + repeated("queued\n", 5));
    CHECK(box.lines("runs") == 1);
}

TEST_CASE("B3: a line that comes after its equal has ended runs again", "[batch][flights]") {
    Sandbox box;
    Running batch = box.start({});
    for (int i = 1; i <= 3; ++i) {
        batch.send("echo run >>runs; wc -l <runs\n");
        CHECK(batch.read_line() == std::to_string(i));
    }
    CHECK(batch.wait().exit == 0);
}

TEST_CASE("B3: --once runs each distinct line once for the whole input", "[batch][flights]") {
    Sandbox box;
    Running batch = box.start({.args = {"--once"}});
    for (int i = 1; i <= 3; ++i) {
        batch.send("echo run >>runs; wc -l <runs; exit 5\n");
        CHECK(batch.read_line() == "1");
        batch.send("echo other >>others; echo other\n");
        CHECK(batch.read_line() == "other");
    }
    CHECK(batch.wait().exit == 123);
    CHECK(box.lines("runs") == 1);
    CHECK(box.lines("others") == 1);
}

// A line that was read between a run's end and its delivery found neither the flight nor the result.
TEST_CASE("B3: --once runs each line once however reading and ending coincide", "[batch][flights]") {
    for (int round = 0; round < (sanitized() ? 15 : 40); ++round) {
        Sandbox box;
        std::string input;
        for (int i = 0; i < 120; ++i) input += "echo " + std::to_string((i * 7 + round) % 12) + " >>runs\n";
        const char* const ahead[] = {"1", "2", "5", "4096"};
        CHECK(box.batch({"--once", "-j2", "--read-ahead", ahead[round % 4]}, input).exit == 0);
        CHECK(box.lines("runs") == 12);
    }
    Sandbox box;
    const Ended missing = box.batch({"--once", "--json", "-v"}, repeated("{\"argv\":[\"./missing\"]}\n", 50));
    CHECK_THAT(missing.err, Contains("50 requests, 0 runs, 49 shared, 50 failed"));
}

TEST_CASE("B2, B3: --once goes by what it remembers before it asks the store", "[batch][flights]") {
    Sandbox box;
    Running batch = box.start({.args = {"--once", "--unique", "--ttl", "1h", "--cache-dir", box.path("kept")}});
    batch.send("echo once\n");
    CHECK(batch.read_line() == "once");
    batch.send("echo once\necho other\n");
    CHECK(batch.read_line() == "other");
    CHECK(batch.wait().out.empty());
}

TEST_CASE("T3, B3: how old a run may be holds for what --once remembers, too", "[batch][flights]") {
    Sandbox box;
    Running batch = box.start({.args = {"--once", "--json"}});
    const auto runs_after = [&](const std::string& max_age) {
        batch.send("{\"line\":\"echo run >>runs; wc -l <runs\",\"max_age\":" + max_age + "}\n");
        return batch.read_line();
    };
    CHECK(runs_after("0") == "1");
    CHECK(runs_after("0") == "2");
    CHECK(runs_after("3600") == "1");  // the first one stays
    CHECK(batch.wait().exit == 0);
}

TEST_CASE("B5, T2: of a percentage nothing is started before all is known, however many wish what is kept",
          "[batch][flights]") {
    Sandbox box;
    Running batch = box.start({.args = {"--halt", "soon,fail=50%", "--ttl", "1h", "--cache-dir", box.path("kept")}});
    std::string lines;
    for (int i = 0; i < 300; ++i) lines += "echo x >>runs; : " + std::to_string(i) + "\n";
    batch.send(lines);
    wait_until([&] { return rests(batch.pid(), 1); });  // with its guard
    CHECK(box.lines("runs") == 0);
    CHECK(batch.wait().exit == 0);
    CHECK(box.lines("runs") == 300);
}

TEST_CASE("B3: a request that joins nobody has no part in what --once remembers", "[batch][flights]") {
    Sandbox box;
    Running batch = box.start({.args = {"--once", "--no-share"}});
    for (const char* const run : {"1", "2", "3"}) {
        batch.send("echo run >>runs; wc -l <runs\n");
        CHECK(batch.read_line() == run);
    }
    CHECK(batch.wait().exit == 0);
}

// Of a batch with --once: a line past its timeout, in its grace, and so joined no more. Nothing: it was over before
// it had come to ignore that; on a busy machine it needs more time.
struct TimedOut {
    Sandbox box;
    Gate told = box.gate("told");
    Gate up = box.gate("up");
    Gate gate = box.gate("gate");
    Running batch;

    explicit TimedOut(const char* halt)
        : batch(box.start({.args = {"--once", "--json", "--format", "json", "--grace", "1h", "--halt", halt, "-j3"}})) {
    }

    static std::string line() {
        return "echo run >>runs; (trap '' TERM; echo x >up; read x <gate) >/dev/null 2>&1 & read x <up; "
               "trap 'echo x >told' TERM; wait; wait; exit 1";
    }
    void ask(const std::string& text, const std::string& more = {}) {
        batch.send("{\"line\":" + Json(text).dump() + more + "}\n");
    }
    Json answer() { return Json::parse(batch.read_line()); }

    bool begin(std::chrono::milliseconds timeout) {
        ask(line(), ",\"timeout\":" + in_seconds(timeout));
        ask("read x <told; echo $x");
        return answer()["stdout"] == "x\n";
    }
    // Everything before has been read when this is answered.
    void read_on() {
        ask("echo other");
        CHECK(answer()["stdout"] == "other\n");
    }
};

TEST_CASE("B5: a line of --once that waited for its equal's end is no run, and no failure of its own",
          "[batch][flights]") {
    with_time_enough([](std::chrono::milliseconds time) {
        TimedOut timed_out("soon,fail=2");
        if (!timed_out.begin(time)) return false;
        timed_out.ask(TimedOut::line());
        timed_out.read_on();
        timed_out.gate.open();
        CHECK_FALSE(timed_out.answer()["joined"]);
        CHECK(timed_out.answer()["joined"]);
        timed_out.ask("echo last");
        CHECK(timed_out.answer()["stdout"] == "last\n");
        timed_out.batch.wait();
        CHECK(timed_out.box.lines("runs") == 1);
        return true;
    });
}

TEST_CASE("T3, B3: … and who joins it may ask for a younger run", "[batch][flights]") {
    with_time_enough([](std::chrono::milliseconds time) {
        TimedOut timed_out("soon,fail=9");
        if (!timed_out.begin(time)) return false;
        timed_out.ask(TimedOut::line());
        timed_out.ask(TimedOut::line(), ",\"max_age\":0");
        timed_out.read_on();
        timed_out.gate.open(2);
        for (const int exit : {124, 1, 1}) CHECK(timed_out.answer()["exit"] == exit);
        timed_out.batch.wait();
        CHECK(timed_out.box.lines("runs") == 2);
        return true;
    });
}

TEST_CASE("B3: --once does not keep what a run came to that everybody had left", "[batch][flights]") {
    with_time_enough([](std::chrono::milliseconds time) {
        Sandbox box;
        Gate gate = box.gate("gate");
        const std::string request = R"({"line":"echo run >>runs; read x <gate; echo out")";
        Running batch = box.start({.args = {"--once", "--json"}});
        batch.send(request + ",\"wait\":" + in_seconds(time) + "}\n");
        batch.read_error_until("gave up");
        if (box.lines("runs") == 0) return false;
        batch.send(request + "}\n");
        gate.open(2);
        CHECK(batch.read_line() == "out");
        batch.send(request + "}\n");
        CHECK(batch.read_line() == "out");
        CHECK(batch.wait().exit == 123);
        CHECK(box.lines("runs") == 2);
        return true;
    });
}

TEST_CASE("F1: lines that differ in a byte are different commands", "[batch][flights]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    gate.open(4);
    const std::string line = "echo run >>runs; read x <gate";
    box.batch({"-j0"}, line + "\n" + line + " \n" + " " + line + "\n" + line + ";\n");
    CHECK(box.lines("runs") == 4);
}

TEST_CASE("K2: --key makes all lines one command", "[batch][flights]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    gate.open(3);
    box.batch({"--key", "k", "-j4"}, "echo run >>runs; read x <gate; echo a\necho run >>runs; read x <gate; echo b\n");
    CHECK(box.lines("runs") == 1);
}

TEST_CASE("F4: a thousand waiters on a failing command are one run and a thousand failures", "[batch][flights]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    gate.open();
    const Ended ended =
        box.batch({"-j1", "--format", "json"}, repeated("echo run >>runs; read x <gate; echo no >&2; exit 4\n", 1000));
    CHECK(box.lines("runs") == 1);
    const auto lines = sorted_lines(ended.out);
    CHECK(lines.size() == 1000);
    CHECK(std::all_of(lines.begin(), lines.end(), [](const std::string& line) {
        const Json result = Json::parse(line);
        return result["exit"] == 4 && result["stderr"] == "no\n" && result["requesters"] == 1000;
    }));
    CHECK(ended.exit == 123);
}

TEST_CASE("F4: a command that cannot be started fails for all with the reason", "[batch][flights]") {
    Sandbox box;
    box.write("not-executable", "x");
    const Ended ended =
        box.batch({"--json", "-j1", "--format", "json"},
                  "{\"id\":1,\"argv\":[\"./missing\"]}\n{\"id\":2,\"argv\":[\"./not-executable\"]}\n"
                  "{\"id\":3,\"argv\":[\"no-such-program\"]}\n{\"id\":4,\"argv\":[\"true\"],\"cwd\":\"/missing\"}\n"
                  "{\"id\":5,\"argv\":[\"/etc\"]}\n{\"id\":6,\"argv\":[\"./missing/x\"]}\n");
    std::vector<Json> results;
    for (const std::string& line : sorted_lines(ended.out)) results.push_back(Json::parse(line));
    REQUIRE(results.size() == 6);
    std::sort(results.begin(), results.end(), [](const Json& a, const Json& b) { return a["id"] < b["id"]; });
    const std::vector<std::pair<int, std::string>> wanted{
        {127, "cannot run ./missing: No such file or directory"},
        {126, "cannot run ./not-executable: Permission denied"},
        {127, "cannot run no-such-program: No such file or directory"},
        {125, "cannot enter /missing: No such file or directory"},
        {126, "cannot run /etc: Permission denied"},
        {127, "cannot run ./missing/x: No such file or directory"}};
    for (std::size_t i = 0; i < 6; ++i) {
        CHECK(results[i]["exit"] == wanted[i].first);
        CHECK(results[i]["error"]["message"] == wanted[i].second);
    }
    const Ended text = box.batch({"--json", "-j1"}, "{\"argv\":[\"./missing\"]}\n");
    CHECK(text.err == "coalesce: cannot run ./missing: No such file or directory\n");
    CHECK(text.exit == 123);
}

TEST_CASE("F7: fresh requests made during a run share the next one, and only one is pending", "[batch][flights]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    Gate begun = box.gate("begun");
    const std::string request = R"({"line":"echo run >>runs; echo x >begun; read x <gate; wc -l <runs")";
    Running batch = box.start({.args = {"--json", "-j4"}});
    batch.send(request + "}\n");
    begun.await();
    batch.send(repeated(request + ",\"fresh\":true}\n", 3) + request + "}\n" + "{\"line\":\"echo other\"}\n");
    CHECK(batch.read_line() == "other");
    CHECK_FALSE(begun.written());  // F1: the second waits until the first is over
    gate.open();
    CHECK(batch.read_line() == "1");
    CHECK(batch.read_line() == "1");  // the plain one joined what was running
    begun.await();
    gate.open();
    CHECK(batch.wait().out == "2\n2\n2\n");
    CHECK(box.lines("runs") == 2);
}

// --- F8

TEST_CASE("F8: a grandchild that holds the pipe open does not hold the result", "[batch][flights]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    const Ended ended = box.batch({"-j1"}, "echo before; (read x <gate; echo too late) & echo $! >pid\necho next\n");
    CHECK(ended.out == "before\nnext\n");
    CHECK(ended.exit == 0);
    CHECK(alive(std::stoi(box.read("pid"))));  // what it left behind on purpose is left alone
    gate.open();
}

TEST_CASE("F8: what a grandchild writes until it falls silent is kept", "[batch][flights]") {
    // It writes every 50 ms for half a second after its parent has gone. On a busy machine it
    // may be silent for longer than that without wanting to, so it notes when it wrote.
    for (int attempt = 0; attempt < 50; ++attempt) {
        Sandbox box;
        box.script("writer", "for i in 1 2 3 4 5 6 7 8 9 10; do sleep 0.05; date +%s%N >>times; echo $i; done\n");
        const Ended ended = box.batch({}, "./writer & date +%s%N >>times; echo parent gone\n");
        if (ended.out == "parent gone\n1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n") return;
        wait_until([&] { return box.lines("times") == 11; });
        std::istringstream times(box.read("times"));
        long long longest = 0;
        for (long long before = 0, now = 0; times >> now; before = now)
            if (before > 0) longest = std::max(longest, now - before);
        INFO(ended.out);
        REQUIRE(longest > 100'000'000);
    }
    FAIL("it was never as quick as it wanted to be");
}

TEST_CASE("F8: closing the output early is no end", "[batch][flights]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    Gate begun = box.gate("begun");
    Running batch = box.start({.args = {"-j2"}});
    batch.send("echo said; exec >&- 2>&-; echo x >begun; read x <gate; exit 6\n");
    begun.await();
    batch.send("echo other\n");
    CHECK(batch.read_line() == "other");
    gate.open();
    const Ended ended = batch.wait();
    CHECK(ended.out == "said\n");
    CHECK(ended.exit == 123);
}

// --- F9

TEST_CASE("F9: past the replay limit one requester still gets every byte", "[batch][flights]") {
    Sandbox box;
    std::string wanted;
    for (int i = 1; wanted.size() < 10'000'000; ++i) wanted += std::to_string(i) + "\n";
    wanted.resize(10'000'000);
    for (const char* limit : {"64K", "1", "0", "3M"}) {
        INFO(limit);
        const Ended ended = box.batch({"--replay-limit", limit}, "seq 1 1400000 | head -c 10000000\necho after\n");
        CHECK((ended.out == wanted + "after\n" || ended.out == "after\n" + wanted));
        CHECK(ended.err.empty());
        CHECK(ended.exit == 0);
    }
}

TEST_CASE("F9: past the replay limit a second requester gets an error, never a gap", "[batch][flights]") {
    Sandbox box;
    std::string input = "echo run >>runs; seq 1 1400000 | head -c 10000000; exit 4\n";
    const Ended ended = box.batch({"--replay-limit", "64K", "-j1", "-v"}, "true\n" + input + input);
    CHECK(ended.out.size() == 10'000'000);
    CHECK_THAT(
        ended.err,
        Contains("coalesce: the output is longer than the replay limit of 64 KiB; raise it with --replay-limit\n"));
    CHECK_THAT(ended.err, Contains("3 requests, 2 runs, 1 shared, 2 failed"));
    CHECK(ended.exit == 123);
    CHECK(box.lines("runs") == 1);
}

TEST_CASE("F9: in formats that need the whole result, passing the replay limit is an error", "[batch][flights]") {
    Sandbox box;
    const Ended json = box.batch({"--replay-limit", "64K", "--format", "json"}, "seq 1 100000\necho x\n");
    for (const std::string& line : sorted_lines(json.out)) {
        const Json result = Json::parse(line);
        CHECK(result["exit"] == (result["command"] == "echo x" ? 0 : 125));
        if (result["command"] != "echo x")
            CHECK_THAT(result["error"]["message"].get<std::string>(), Contains("--replay-limit"));
    }
    const Ended tagged = box.batch({"--replay-limit", "64K", "--tag"}, "seq 1 100000\n");
    CHECK_THAT(tagged.err, Contains("--replay-limit"));
    CHECK(tagged.exit == 123);
}

TEST_CASE("F9: a line that comes when its equal is past the replay limit runs by itself, afterwards",
          "[batch][flights]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    Gate begun = box.gate("begun");
    Gate after = box.gate("after");
    const std::string line = "echo run >>runs; seq 1 100000; echo x >begun; read x <gate; wc -l <runs\n";
    Running batch = box.start({.args = {"--replay-limit", "64K", "-j4"}});
    batch.send(line);
    for (int i = 1; i <= 100000; ++i) batch.read_line();
    begun.await();
    batch.send(line + "echo x >after\n");
    after.await();  // so that the line before it has been read
    CHECK(box.lines("runs") == 1);
    gate.open();
    CHECK(batch.read_line() == "1");
    for (int i = 1; i <= 100000; ++i) batch.read_line();  // before it can go on: its reader paces it
    begun.await();
    gate.open();
    CHECK(batch.read_line() == "2");
    CHECK(batch.wait().exit == 0);
    CHECK(box.lines("runs") == 2);
}

TEST_CASE("F9: a run that is printed as it comes says what ended it, after its output", "[batch][flights]") {
    with_time_enough([](std::chrono::milliseconds time) {
        Sandbox box;
        Gate gate = box.gate("gate");
        const Ended ended = box.batch({"--replay-limit", "64K", "--timeout", in_seconds(time)},
                                      "seq 1 100000; echo x >said; read x <gate\n");
        CHECK_THAT(ended.err, StartsWith("coalesce: seq 1 100000; echo x >said; read x <gate: timed out"));
        CHECK(ended.exit == 123);
        if (!box.exists("said")) return false;
        CHECK(std::count(ended.out.begin(), ended.out.end(), '\n') == 100'000);
        return true;
    });
}

TEST_CASE("F9: -k holds back what is past the replay limit until its turn", "[batch][flights]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    Gate begun = box.gate("begun");
    Running batch = box.start({.args = {"-k", "-j2", "--replay-limit", "64K"}});
    batch.send("read x <gate; echo first\necho $$ >begun; exec seq 1 100000\n");
    const pid_t pid = std::stoi(begun.await());
    const auto held_back = [&] { return asleep(pid) && asleep(batch.pid()); };
    wait_until([&] { return held_back() && held_back(); });  // as much is kept as may be
    gate.open();
    const Ended ended = batch.wait();
    CHECK_THAT(ended.out, StartsWith("first\n1\n2\n"));
    CHECK(std::count(ended.out.begin(), ended.out.end(), '\n') == 100'001);
}

// Line 2 cannot join, and comes after what line 3 has begun meanwhile.
TEST_CASE("F9, F12: -k does not wait for ever for a line whose place is held by one that waits for its turn",
          "[batch][flights]") {
    Sandbox box;
    Running batch = box.start({.args = {"-k", "-j1", "--replay-limit", "64K"}});
    const std::string line = "seq 1 100000; echo x >>past; until [ -e go ]; do :; done\n";
    batch.send(line);
    batch.read_bytes(500'000);  // so it cannot be joined any more
    batch.send(line + "seq 1 100001\n");
    wait_until([&] {
        int unread = 1;
        return ::ioctl(batch.input_fd(), FIONREAD, &unread) == 0 && unread == 0;
    });
    box.write("go", "");
    const Ended ended = batch.wait();
    CHECK(ended.exit == 0);
    CHECK(box.lines("past") == 2);
    CHECK_THAT(ended.out, EndsWith("\n100001\n"));
}

// Its output was held back, and so all there when it ended. Passed to the first, it was gone for the second.
TEST_CASE("F9: who shares a run past the replay limit gets an error also when it ends before anything is passed on",
          "[batch][flights]") {
    with_time_enough([](std::chrono::milliseconds time) {
        Sandbox box;
        Gate gate = box.gate("gate");
        Gate after = box.gate("after");
        const std::string request = R"({"line":"yes","grace":0,"timeout":)" + in_seconds(time) + "}\n";
        Running batch = box.start({.args = {"--json", "-k", "-j2", "--replay-limit", "64K"}});
        batch.send("{\"line\":\"read x <gate\"}\n" + request + request + "{\"line\":\"echo x >after\"}\n");
        after.await();  // in the place of the one that has timed out
        gate.open();
        const Ended ended = batch.wait();
        CHECK(ended.exit == 123);
        CHECK_THAT(ended.err, Contains("coalesce: yes: timed out\n"));
        return ended.exit != 123 || ended.err.find("--replay-limit") != std::string::npos;
    });
}

TEST_CASE("F9: a kept result is served whole to all, though it is longer than the replay limit", "[batch][flights]") {
    Sandbox box;
    const std::string line = "echo run >>runs; seq 1 100000\n";
    const std::vector<std::string> kept{"--ttl", "1h", "--cache-dir", box.path("kept"), "--once"};
    const auto with = [&kept](std::vector<std::string> options) {
        options.insert(options.end(), kept.begin(), kept.end());
        return options;
    };
    const Ended first = box.batch(with({}), line);
    CHECK(first.exit == 0);
    const Ended ended = box.batch(with({"--replay-limit", "64K"}), line + line);
    CHECK(ended.err.empty());
    CHECK((ended.out == first.out + first.out));
    CHECK(ended.exit == 0);
    CHECK(box.lines("runs") == 1);
}

// The one who led had left; nobody else may be given what it would have been given.
TEST_CASE("F9: when the leader has given up, those who share a run past the replay limit get an error",
          "[batch][flights]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    const std::string request = R"({"line":"read x <gate; seq 1 100000")";
    for (const char* order : {"-k", "-j2"}) {
        Running batch = box.start({.args = {"--json", order, "--replay-limit", "64K"}});
        batch.send(request + ",\"wait\":0.05}\n" + request + "}\n");
        batch.read_error_until("gave up waiting\n");
        gate.open();
        batch.send("{\"line\":\"echo after\"}\n");
        const Ended ended = batch.wait();
        CHECK(ended.out == "after\n");
        CHECK_THAT(ended.err, Contains("--replay-limit"));
        CHECK(ended.exit == 123);
    }
}

// --- F10

TEST_CASE("F10: --timeout ends a run, and all who share it get 124", "[batch][flights]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    const std::string line = "echo run >>runs; echo said; read x <gate; echo never\n";
    with_time_enough([&](std::chrono::milliseconds time) {
        ::unlink(box.path("runs").c_str());
        const Ended ended = box.batch({"--timeout", in_seconds(time), "-j1"}, repeated(line, 3));
        CHECK(ended.err == repeated("coalesce: " + line.substr(0, line.size() - 1) + ": timed out\n", 3));
        CHECK(ended.exit == 123);
        CHECK(box.lines("runs") <= 1);
        return ended.out == "said\nsaid\nsaid\n";
    });
    const Ended json = box.batch({"--timeout", "0.05", "--format", "json"}, "read x <gate\n");
    CHECK(Json::parse(json.out)["exit"] == 124);
    CHECK(box.batch({"--timeout", "0"}, "sleep 0.3\n").exit == 0);  // no limit, as with timeout(1)
}

TEST_CASE("F10: a command that ignores TERM is killed after the grace period, with all its group", "[batch][flights]") {
    with_time_enough([](std::chrono::milliseconds time) {
        Sandbox box;
        Gate gate = box.gate("gate");
        const Ended ended = box.batch({"--timeout", in_seconds(time), "--grace", "100ms"},
                                      "trap '' TERM; (exec sleep 1000) & echo $! >pids; read x <gate\n");
        CHECK(ended.exit == 123);
        CHECK_THAT(ended.err, Contains("timed out"));
        if (box.lines("pids") == 0) return false;
        await_death(std::stoi(box.read("pids")));
        return true;
    });
}

TEST_CASE("F10: a command may use its grace period", "[batch][flights]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    with_time_enough([&](std::chrono::milliseconds time) {
        const Ended ended =
            box.batch({"--timeout", in_seconds(time)}, "trap 'echo cleaning up; exit 0' TERM; read x <gate\n");
        CHECK_THAT(ended.err, Contains("timed out"));
        CHECK(ended.exit == 123);  // whatever it made of the TERM
        return ended.out == "cleaning up\n";
    });
}

// A grandchild in a session of its own cannot be reached through the process group,
// and one that keeps writing is never silent.
TEST_CASE("F10: a timeout ends a run although a stranger keeps writing into its pipe", "[batch][flights]") {
    with_time_enough([](std::chrono::milliseconds time) {
        Sandbox box;
        const Ended ended =
            box.batch({"--timeout", in_seconds(time), "--grace", "100ms"},
                      "setsid sh -c 'echo $$ >pid; while :; do echo x; sleep 0.02; done' & sleep 1000\n");
        CHECK(ended.exit == 123);
        CHECK_THAT(ended.err, Contains("timed out"));
        if (box.lines("pid") == 0) return false;  // setsid was told to end before it was a stranger
        ::kill(-std::stoi(box.read("pid")), SIGKILL);
        return true;
    });
}

TEST_CASE("F10: wait bounds one requester, the run goes on for the others", "[batch][flights]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    const std::string request = R"({"line":"echo run >>runs; read x <gate; echo out")";
    Running batch = box.start({.args = {"--json", "--format", "json"}});
    batch.send(request + ",\"id\":1,\"wait\":0.05}\n" + request + ",\"id\":2}\n" + request +
               ",\"id\":3,\"wait\":0.05}\n");
    for (int i = 0; i < 2; ++i) {
        const Json gone = Json::parse(batch.read_line());
        CHECK(gone["id"] != 2);
        CHECK(gone["exit"] == 75);
        CHECK(gone["error"]["code"] == "gave_up");
    }
    gate.open();
    const Json result = Json::parse(batch.read_line());
    CHECK(result["id"] == 2);
    CHECK(result["stdout"] == "out\n");
    CHECK(batch.wait().exit == 123);
    CHECK(box.lines("runs") == 1);
}

TEST_CASE("F5: when the last requester leaves, the run is ended", "[batch][flights]") {
    with_time_enough([](std::chrono::milliseconds time) {
        Sandbox box;
        const Ended ended =
            box.batch({"--json"}, R"({"line":"echo $$ >pid; exec sleep 1000","wait":)" + in_seconds(time) + "}\n");
        CHECK(ended.exit == 123);
        CHECK_THAT(ended.err, Contains("gave up waiting"));
        if (box.lines("pid") == 0) return false;
        CHECK_FALSE(alive(std::stoi(box.read("pid"))));
        return true;
    });
}

TEST_CASE("F6: a request for a key that is being cancelled waits for its end and runs by itself", "[batch][flights]") {
    const std::string request =
        R"({"line":"trap 'read x <gate; echo over >>log; exit' TERM; echo run >>log; echo x >begun; sleep 1000 >&- 2>&- & wait; echo out")";
    with_time_enough([&](std::chrono::milliseconds time) {
        Sandbox box;
        Gate gate = box.gate("gate");
        Gate begun = box.gate("begun");
        Running batch = box.start({.args = {"--json", "-j4"}});
        batch.send(request + ",\"wait\":" + in_seconds(time) + "}\n");
        batch.read_error_until("gave up");
        if (!begun.written()) return false;  // told to end before it would hear of it, or could say so
        begun.await();
        batch.send(request + ",\"wait\":1000}\n{\"line\":\"echo other\"}\n");
        CHECK(batch.read_line() == "other");
        CHECK_FALSE(begun.written());  // F1: never two at once
        gate.open();
        begun.await();
        CHECK(box.read("log") == "run\nover\nrun\n");
        batch.signal(SIGINT);
        gate.open(5);
        CHECK(batch.wait().exit == 130);
        return true;
    });
}

TEST_CASE("F12: a queued command that everybody left never starts", "[batch][flights]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    Running batch = box.start({.args = {"--json", "-j1"}});
    batch.send("{\"line\":\"read x <gate\"}\n{\"line\":\"echo run >>runs\",\"wait\":0.05}\n{\"line\":\"echo last\"}\n");
    batch.read_error_until("gave up");
    gate.open();
    CHECK(batch.wait().out == "last\n");
    CHECK(box.lines("runs") == 0);
}

TEST_CASE("F12: queued commands run in the order of their first request", "[batch][flights]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    gate.open();
    std::string input = "read x <gate\n";
    std::string wanted;
    for (int i = 0; i < 30; ++i) {
        input += "echo " + std::to_string(i) + " >>order\n";
        if (i % 3 == 0) input += "echo 0 >>order\n";  // joins: takes no place of its own
        wanted += std::to_string(i) + "\n";
    }
    CHECK(box.batch({"-j1"}, input).exit == 0);
    CHECK(box.read("order") == wanted);
}

// --- B4

TEST_CASE("B4: -j bounds how many run at a time", "[batch][flights]") {
    Sandbox box;
    ::mkdir(box.path("running").c_str(), 0755);
    box.script("job", "mkdir running/$1; ls running | wc -l >>seen; ls / >/dev/null; rmdir running/$1\n");
    for (const auto& [option, limit] : {std::pair<const char*, std::size_t>{"-j1", 1}, {"-j3", 3}, {"-j7", 7}}) {
        std::string input;
        for (int i = 0; i < 60; ++i) input += "./job " + std::to_string(i) + "\n";
        ::unlink(box.path("seen").c_str());
        CHECK(box.batch({option}, input).exit == 0);
        std::size_t most = 0;
        for (const std::string& seen : sorted_lines(box.read("seen")))
            most = std::max(most, std::size_t{std::stoul(seen)});
        INFO(option);
        CHECK(most <= limit);
        CHECK(most >= 1);
    }
}

TEST_CASE("B4: -j N really runs N at a time, -j0 all", "[batch][flights]") {
    Sandbox box;
    for (const char* option : {"-j50", "-j0"}) {
        Sandbox inner;
        Gate gate = inner.gate("gate");
        Gate begun = inner.gate("begun");
        std::string input;
        for (int i = 0; i < 50; ++i) input += "echo x >begun; read x <gate; echo " + std::to_string(i) + "\n";
        Running batch = inner.start({.args = {option}, .input = input});
        for (int i = 0; i < 50; ++i) begun.await();  // none is over
        gate.open(50);
        CHECK(sorted_lines(batch.wait().out).size() == 50);
    }
}

TEST_CASE("B4: a thousand lines, a hundred at a time", "[batch][flights]") {
    Sandbox box;
    std::string input;
    for (int i = 0; i < 1000; ++i) input += "echo " + std::to_string(i) + "; echo run >>runs\n";
    const Ended ended = box.batch({"-j100"}, input);
    CHECK(ended.exit == 0);
    CHECK(sorted_lines(ended.out).size() == 1000);
    CHECK(box.lines("runs") == 1000);
}

TEST_CASE("B4: with no processes or descriptors to be had, runs wait for those before them", "[batch][flights]") {
    Sandbox box;
    std::string input;
    for (int i = 0; i < 100; ++i) input += "echo " + std::to_string(i) + "; echo x >>runs\n";
    const Ended ended = box.run(
        {.args = {"-c", "ulimit -n 60; exec \"$0\" -j0", tested_program()}, .input = input, .program = "/bin/sh"});
    CHECK(ended.exit == 0);
    CHECK(ended.err.empty());
    CHECK(sorted_lines(ended.out).size() == 100);
    CHECK(box.lines("runs") == 100);
}

TEST_CASE("B4: --read-ahead bounds what is read before its turn", "[batch][flights]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    Gate begun = box.gate("begun");
    std::string input = "echo x >begun; read x <gate; echo 0\n";
    for (int i = 1; i < 300; ++i) input += "echo " + std::to_string(i) + "\n";
    for (const char* ahead : {"1", "0", "5"}) {
        Running batch = box.start({.args = {"-j1", "--read-ahead", ahead}, .input = input});
        begun.await();
        gate.open();
        CHECK(sorted_lines(batch.wait().out).size() == 300);
    }
}

// --- --retries

TEST_CASE("B5: --retries runs a failed command again, and prints the last attempt only", "[batch][flights]") {
    Sandbox box;
    box.script("third", "echo run >>runs; n=$(wc -l <runs); echo attempt $n; echo err $n >&2; test $n -eq 3\n");
    SECTION("until it succeeds") {
        const Ended ended = box.batch({"--retries", "5"}, "./third\n./third\n");
        CHECK(ended.out == repeated("attempt 3\n", 2));
        CHECK(ended.err == repeated("err 3\n", 2));
        CHECK(ended.exit == 0);
        CHECK(box.lines("runs") == 3);
    }
    SECTION("no more than N times more") {
        const Ended ended = box.batch({"--retries", "1"}, "./third\n");
        CHECK(ended.out == "attempt 2\n");
        CHECK(ended.exit == 123);
        CHECK(box.lines("runs") == 2);
    }
    SECTION("also what timed out, each attempt with its own time") {
        Gate gate = box.gate("gate");
        with_time_enough([&](std::chrono::milliseconds time) {
            ::unlink(box.path("runs").c_str());
            const Ended ended = box.batch({"--retries", "2", "--timeout", in_seconds(time), "-j1"},
                                          "echo run >>runs; wc -l <runs; read x <gate\n");
            CHECK(ended.exit == 123);
            CHECK(box.lines("runs") <= 3);
            return ended.out == "3\n";
        });
    }
    SECTION("and a duplicate joins whichever attempt is on") {
        Gate gate = box.gate("gate");
        Gate begun = box.gate("begun");
        const std::string line =
            "echo run >>runs; echo x >begun; read x <gate; test $(wc -l <runs) -eq 2 && echo good\n";
        Running batch = box.start({.args = {"--retries", "1", "-j2"}});
        batch.send(line);
        begun.await();
        gate.open();
        begun.await();
        batch.send(line + "echo other\n");
        CHECK(batch.read_line() == "other");
        gate.open();
        CHECK(batch.wait().out == "good\ngood\n");
        CHECK(box.lines("runs") == 2);
    }
}

// --- --halt

TEST_CASE("B5: --halt soon lets finish what runs and starts nothing new", "[batch][flights]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    Gate begun = box.gate("begun");
    Running batch = box.start({.args = {"--halt", "soon,fail=1", "-j2"}});
    batch.send("echo x >begun; read x <gate; echo finished\n");
    begun.await();
    batch.send("echo failing; exit 9\n" + repeated("echo run >>runs\necho run  >>runs\n", 20));
    CHECK(batch.read_line() == "failing");
    gate.open();
    const Ended ended = batch.wait();
    CHECK(ended.out == "finished\n");
    CHECK(ended.exit == 9);
    CHECK(box.lines("runs") <= 1);  // at most what the second place took before the failure was known
}

TEST_CASE("B5: --halt now ends what runs", "[batch][flights]") {
    Sandbox box;
    Gate begun = box.gate("begun");
    Running batch = box.start({.args = {"--halt", "now,fail=1", "-j2"}});
    batch.send("echo $$ >begun; exec sleep 1000\n");
    const pid_t pid = std::stoi(begun.await());
    batch.send("echo failing; exit 9\n");
    CHECK(batch.read_line() == "failing");
    await_death(batch.pid());  // it does not wait for the end of the input
    const Ended ended = batch.wait();
    CHECK(ended.out.empty());
    CHECK(ended.exit == 9);
    CHECK_FALSE(alive(pid));
}

TEST_CASE("B5: --halt counts failed runs, not those who share them", "[batch][flights]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    gate.open();
    const std::string shared = "read x <gate; exit 3\n";
    const Ended ended = box.batch({"--halt", "soon,fail=2", "-j1"}, shared + shared + shared + "exit 4\necho never\n");
    CHECK(ended.exit == 4);
    CHECK(ended.out.empty());
    CHECK(box.batch({"--halt", "soon,fail=3", "-j1"}, "exit 3\nexit 4\necho still\n").exit == 123);
}

TEST_CASE("B5: --halt starts no fresh run that was pending", "[batch][flights]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    Gate begun = box.gate("begun");
    const std::string request = R"({"line":"echo run >>runs; echo x >begun; read x <gate")";
    for (const auto& [option, runs] : {std::pair{"soon,fail=1", 1U}, {"now,fail=1", 1U}}) {
        ::unlink(box.path("runs").c_str());
        Running batch = box.start({.args = {"--json", "-j2", "--halt", option}});
        batch.send(request + "}\n");
        begun.await();
        batch.send(request + ",\"fresh\":true}\n{\"line\":\"echo failing; exit 5\"}\n");
        CHECK(batch.read_line() == "failing");
        gate.open(2);
        CHECK(batch.wait().exit == 5);
        CHECK(box.lines("runs") == runs);
        while (gate.written()) gate.await();
    }
}

// --- B6

TEST_CASE("B6: 0 if every request succeeded, 123 if any failed", "[batch][flights]") {
    Sandbox box;
    CHECK(box.batch({}, "true\n:\nexit 0\n").exit == 0);
    CHECK(box.batch({}, "true\nfalse\ntrue\n").exit == 123);
    CHECK(box.batch({}, "kill -9 $$\n").exit == 123);
    CHECK(box.batch({}, "/no/such\n").exit == 123);
    CHECK(box.batch({"--once"}, "exit 2\n").exit == 123);
}
