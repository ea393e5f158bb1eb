// SPDX-License-Identifier: MIT
// What a requester's user is told of the wait, by a clock of the test's (SPEC R8, H2, H3).
#include <coalesce/meeting/wait_words.h>

#include "../catch.h"

#include <string>

using namespace coalesce;
using namespace std::chrono_literals;

namespace {

// A wait that began at 0, for a run of pid 71 that started `age` before.
struct Wait {
    explicit Wait(bool verbose) : words(verbose) { words.begin(at(0s).steady); }

    static WaitWords::Now at(std::chrono::milliseconds time) {
        return {.steady = std::chrono::steady_clock::time_point(1h + time),
                .wall = std::chrono::system_clock::time_point(1000h + time)};
    }
    std::string started(bool joined, std::chrono::milliseconds age, const std::string& more = {}) {
        const auto since = std::chrono::duration<double>((at(0s).wall - age).time_since_epoch()).count();
        const std::string event = R"({"event":"started","joined":)" + std::string(joined ? "true" : "false") +
                                  R"(,"pid":71,"started":)" + std::to_string(since) + R"(,"requesters":2)" + more + "}";
        return words.started(*Fields::parse(event), "make docs", at(0s));
    }
    std::string waiting(const std::string& more = {}) {
        return words.waiting(*Fields::parse(R"({"event":"waiting")" + more + "}"), "make docs", at(0s));
    }
    std::chrono::milliseconds due() const {
        return std::chrono::duration_cast<std::chrono::milliseconds>(*words.due() - at(0s).steady);
    }

    WaitWords words;
};

const std::string usual = R"(,"usual":65.000000,"usual_runs":3)";

}  // namespace

TEST_CASE("H3: start and join say with -v how long it usually takes", "[meeting]") {
    CHECK(Wait(true).started(true, 42s, usual) ==
          "joined make docs (pid 71), which has run for 42s, usually 1m 5s; 2 wait");
    CHECK(Wait(true).started(true, 42s) == "joined make docs (pid 71), which has run for 42s; 2 wait");
    CHECK(Wait(true).started(false, 0s, usual) == "started make docs (pid 71), usually 1m 5s");
    CHECK(Wait(true).started(false, 0s) == "started make docs (pid 71)");
    CHECK(Wait(true).started(true, 42s, R"(,"command":"another")") ==
          "joined another (pid 71), which has run for 42s; 2 wait");
    CHECK(Wait(false).started(true, 42s, usual).empty());
}

TEST_CASE("H2: of one run it is the last time", "[meeting]") {
    const std::string once = R"(,"usual":65.000000,"usual_runs":1)";
    CHECK(Wait(true).started(false, 0s, once) == "started make docs (pid 71), last time 1m 5s");
    CHECK(Wait(true).started(true, 98s, once) ==
          "joined make docs (pid 71), which has run for 1m 38s, longer than last time (1m 5s); 2 wait");
}

TEST_CASE("H3: past one and a half times the median it takes longer than usual", "[meeting]") {
    CHECK(Wait(true).started(true, 97s, usual) ==
          "joined make docs (pid 71), which has run for 1m 37s, usually 1m 5s; 2 wait");
    CHECK(Wait(true).started(true, 98s, usual) ==
          "joined make docs (pid 71), which has run for 1m 38s, longer than usual (1m 5s); 2 wait");
}

TEST_CASE("H3: on a terminal a joiner is told once, after a second", "[meeting]") {
    Wait wait(false);
    CHECK_FALSE(wait.words.due());
    wait.started(true, 42s, usual);
    CHECK(wait.due() == 1s);
    CHECK(wait.words.say_due(Wait::at(999ms)).empty());
    CHECK(wait.words.say_due(Wait::at(1s)) == "waiting for make docs (pid 71), which has run for 43s, usually 1m 5s");
    CHECK_FALSE(wait.words.due());
    Wait leader(false);
    leader.started(false, 0s, usual);
    CHECK_FALSE(leader.words.due());
}

TEST_CASE("H3: with -v it is told again every half a minute, also to who leads", "[meeting]") {
    const bool joined = GENERATE(true, false);
    Wait wait(true);
    wait.started(joined, 42s, usual);
    CHECK(wait.due() == 30s);
    CHECK(wait.words.say_due(Wait::at(29'999ms)).empty());
    CHECK(wait.words.say_due(Wait::at(30s)) ==
          "waiting for make docs (pid 71), which has run for 1m 12s, usually 1m 5s");
    CHECK(wait.due() == 60s);
    CHECK(wait.words.say_due(Wait::at(95s)) ==  // it was stopped meanwhile: nothing is said twice
          "waiting for make docs (pid 71), which has run for 2m 17s, longer than usual (1m 5s)");
    CHECK(wait.due() == 120s);
}

TEST_CASE("H3: who waits for its turn is told when that is, as long as it lies ahead", "[meeting]") {
    Wait wait(true);
    CHECK(wait.waiting(R"(,"turn_in":23.000000)") == "waiting for an earlier run of make docs to end, probably in 23s");
    CHECK(wait.words.say_due(Wait::at(30s)) == "waiting for an earlier run of make docs to end");
    CHECK(Wait(true).waiting() == "waiting for an earlier run of make docs to end");
    CHECK(Wait(true).waiting(R"(,"class":"heavy","others":2,"turn_in":180.000000)") ==
          "waiting for 2 others of class heavy, about 3m");
    Wait silent(false);
    CHECK(silent.waiting(R"(,"turn_in":23.000000)").empty());
    CHECK(silent.words.say_due(Wait::at(1s)) == "waiting for an earlier run of make docs to end, probably in 22s");
}
