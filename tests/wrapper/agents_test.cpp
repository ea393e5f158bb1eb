// SPDX-License-Identifier: MIT
// A1 and A3: coding agents that share a checkout. Each wants the end of a long output, and
// all of them one run.
#include <signal.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "../catch.h"
#include "sandbox.h"

namespace {

using Words = std::vector<std::string>;

Words tail_of(int lines, Words words) {
    words.insert(words.begin(), {"--tail", std::to_string(lines)});
    return words;
}

}  // namespace

SCENARIO("A1: two sessions of each known coding agent share a run, two agents do not", "[wrapper]") {
    const std::vector<std::pair<Words, Words>> sessions{
        {{"CLAUDECODE=1", "CLAUDE_CODE_ENTRYPOINT=cli", "CLAUDE_CODE_SESSION_ID=9a1c",
          "CLAUDE_CODE_REMOTE_SESSION_ID=1"},
         {"CLAUDECODE=1", "CLAUDE_CODE_ENTRYPOINT=cli", "CLAUDE_CODE_SESSION_ID=77e0",
          "CLAUDE_CODE_REMOTE_SESSION_ID=2"}},
        {{"CODEX_CI=1", "CODEX_SESSION_ID=0198", "CODEX_THREAD_ID=0199"},
         {"CODEX_CI=1", "CODEX_SESSION_ID=01a2", "CODEX_THREAD_ID=01a3"}},
        {{"CURSOR_AGENT=1", "CURSOR_TRACE_ID=c1"}, {"CURSOR_AGENT=1", "CURSOR_TRACE_ID=c2"}}};
    const Words words{"-c", "echo run >>runs; cat gate; echo passed"};
    for (std::size_t agent = 0; agent < sessions.size(); ++agent) {
        CAPTURE(agent);
        Sandbox box;
        Gate gate(box, "gate");
        auto one = box.request(words, {.env = sessions[agent].first});
        gate.wait_for_command();
        auto two = box.request(words, {.env = sessions[agent].second});
        box.until_requesters(2);
        gate.open();
        CHECK(one.wait().out == "passed\n");
        CHECK(two.wait().out == "passed\n");
        CHECK(box.lines_of("runs") == 1);
        const auto key = [&](const Words& env) {
            return box.start({tested_program(), "key", "true"}, {.env = env}).wait().out.substr(0, 32);
        };
        CHECK(key(sessions[agent].first) != key(sessions[(agent + 1) % sessions.size()].first));
    }
}

SCENARIO("A3: the last lines are printed at the end, and all share one run", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    const Words words{"-c", "echo run >>runs; seq 4; seq 11 13 >&2; cat gate; seq 5 6; printf 7; exit 3"};
    auto leader = box.request(tail_of(2, words));
    gate.wait_for_command();
    auto whole = box.request(words);
    auto joiner = box.request(tail_of(1, words));
    auto nothing = box.request(tail_of(0, words));
    box.until_requesters(4);
    while (whole.err() != "11\n12\n13\n") {
    }
    CHECK(leader.out().empty());
    CHECK(leader.err().empty());
    gate.open();
    const auto check = [](Process& process, const std::string& out, const std::string& err) {
        const Ended ended = process.wait();
        CHECK(ended.status == 3);
        CHECK(ended.out == out);
        CHECK(ended.err == err);
    };
    check(whole, "1\n2\n3\n4\n5\n6\n7", "11\n12\n13\n");
    check(leader, "6\n7", "12\n13\n");
    check(joiner, "7", "13\n");
    check(nothing, "", "");
    CHECK(box.lines_of("runs") == 1);
}

SCENARIO("A3: past the replay limit the last lines are exact, and hold nobody up", "[wrapper]") {
    Sandbox box;
    const Words words{"--replay-limit", "64K", "seq", "300000"};
    CHECK(box.run(tail_of(3, words)).out == "299998\n299999\n300000\n");
    std::string all;
    for (int i = 100001; i <= 300000; ++i) all += std::to_string(i) + "\n";
    const Ended many = box.run(tail_of(200000, words));
    CHECK((many.out == all));
    CHECK(many.err.empty());
}

SCENARIO("A3: of a kept result, too; the rest is in the store", "[wrapper]") {
    Sandbox box;
    const Words words{"--ttl", "1h", "-c", "echo run >>runs; seq 4; echo error >&2"};
    for (int i = 1; i <= 2; ++i) {
        const Ended ended = box.run(tail_of(2, words));
        CHECK(ended.out == "3\n4\n");
        CHECK(ended.err == "error\n");
    }
    CHECK(box.lines_of("runs") == 1);
    CHECK(box.coalesce({"cache", "show", "--output", "-c", words.back()}).out == "1\n2\n3\n4\n");
}

SCENARIO("A3: the last lines from a server", "[wrapper]") {
    Sandbox box;
    CHECK(box.script("$C serve --socket $PWD/socket --log-level off & until $C stats --socket $PWD/socket >/dev/null "
                     "2>&1; do :; done; $C run --socket $PWD/socket --tail 2 seq 5; kill $!; wait")
              .out == "4\n5\n");
}

SCENARIO("R6, A3: who waits for the last lines has passed nothing on, so its run is made anew", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate-1"), next(box, "gate-2");
    const Words words{"-c", "echo run >>runs; wc -l <runs; cat gate-$(wc -l <runs); echo answer"};
    auto requester = box.request(tail_of(9, words));
    gate.wait_for_command();
    const Flight first = box.until([](const auto& all) { return all.size() == 1 && all[0].output > 0; }).front();
    ::kill(first.supervisor, SIGKILL);
    next.wait_for_command();
    gate.open();
    next.open();
    const Ended ended = requester.wait();
    CHECK(ended.status == 0);
    CHECK(ended.out == "2\nanswer\n");
    CHECK(ended.err.empty());
}

SCENARIO("F10, A3: who gives up before the end prints nothing of it", "[wrapper]") {
    Sandbox box;
    const Ended ended = box.run({"--tail", "1", "--wait", "0.2", "-c", "echo x; exec sleep 1000"});
    CHECK(ended.status == 75);
    CHECK(ended.out.empty());
}

SCENARIO("A3: a reader that goes away ends it quietly, and a number that is none is refused", "[wrapper]") {
    Sandbox box;
    CHECK(box.script("{ $C run --tail 200000 seq 300000; echo $? >status; } | head -n 1").out == "100001\n");
    CHECK(box.read("status") == "141\n");
    for (const std::string wrong : {"x", "-1", "1.5", ""}) {
        const Ended ended = box.run({"--tail=" + wrong, "true"});
        CHECK(ended.status == 125);
        CHECK(ended.err == "coalesce: --tail: '" + wrong + "' is no whole number (see coalesce run --help)\n");
    }
}
