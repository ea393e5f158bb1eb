// SPDX-License-Identifier: MIT
// Estimates (SPEC H2, H3), which runs are told to be remembered (H1), and when a queue's turns are.
#include <coalesce/engine/command_executor.h>
#include <coalesce/engine/run_times.h>
#include <coalesce/engine/turns.h>

#include <coalesce/io/loop.h>

#include "../catch.h"

#include <signal.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

using namespace coalesce;
using namespace std::chrono_literals;

namespace {

// Writes down what it is told, among other events.
struct TimesMemory final : RunTimes {
    explicit TimesMemory(std::vector<std::string>& events) : told(events) {}
    std::optional<Usually> usually(const Key& key) noexcept override {
        return key.words == "known" ? std::optional(Usually{.time = 65s, .runs = 2}) : std::nullopt;
    }
    void ran(const Key& key, const RunResult& result) noexcept override {
        told.push_back("remembered " + key.words + ": " + result.outcome.describe());
    }
    std::vector<std::string>& told;
};

struct TimedRoom {
    TimedRoom() { executor.remember_in(memory); }

    RunTicket ask(const std::string& words, std::vector<std::string> argv,
                  std::optional<std::chrono::milliseconds> timeout = {}) {
        RunTicket ticket = executor.submit(RequestKey{canonical, words}, [=, this] {
            return Job{.command = {argv, surroundings, {}}, .title = words, .timeout = timeout, .grace = 0s};
        });
        ticket.then([this, words](const Landing<RunResult>&) { events.push_back("delivered " + words); });
        return ticket;
    }

    std::vector<std::string> events;
    TimesMemory memory{events};
    Loop loop;
    CommandExecutor executor{loop, {.jobs = 4}};
    std::shared_ptr<const Surroundings> surroundings =
        std::make_shared<const Surroundings>(Surroundings{"/", {"PATH=/usr/bin:/bin"}, 022});
    std::shared_ptr<const CanonicalSurroundings> canonical = std::make_shared<const CanonicalSurroundings>("");
};

}  // namespace

TEST_CASE("H1: a run that came to its own end is told to who remembers", "[engine]") {
    TimedRoom room;
    const RunTicket success = room.ask("success", {"true"});
    const RunTicket failure = room.ask("failure", {"false"});
    const RunTicket crash = room.ask("crash", {"sh", "-c", "kill -ABRT $$"});
    room.loop.run();
    for (const char* told : {"remembered success: exit 0", "remembered failure: exit 1"})
        CHECK(std::count(room.events.begin(), room.events.end(), told) == 1);
    CHECK(room.events.size() == 6);
}

TEST_CASE("H1: one that was cut short is not", "[engine]") {
    TimedRoom room;
    const RunTicket timed_out = room.ask("timed out", {"sleep", "100"}, 1ms);
    const RunTicket cancelled = room.ask("cancelled", {"sleep", "100"});
    const RunTicket interrupted = room.ask("interrupted", {"sleep", "100"});
    const RunTicket missing = room.ask("missing", {"/no/such/program"});
    room.executor.cancel(cancelled.id());
    room.executor.signal(interrupted.id(), SIGINT);
    room.loop.run();
    CHECK(room.events.size() == 4);
    for (const std::string& event : room.events) CHECK(event.starts_with("delivered "));
}

TEST_CASE("H3: who waits may ask how long earlier runs took", "[engine]") {
    TimedRoom room;
    const RunTicket known = room.ask("known", {"true"});
    const RunTicket unknown = room.ask("unknown", {"true"});
    CHECK(room.executor.usually(known.ref())->time == 65s);
    CHECK_FALSE(room.executor.usually(unknown.ref()));
    room.loop.run();
}

TEST_CASE("H2, H3: the words of an estimate", "[engine]") {
    const Usually usually{.time = 65s, .runs = 5};
    CHECK(usually.words() == "usually 1m 5s");
    CHECK(usually.words(97'500ms) == "usually 1m 5s");
    CHECK(usually.words(97'501ms) == "longer than usual (1m 5s)");
    CHECK(Usually{.time = 65s, .runs = 1}.words() == "last time 1m 5s");
    CHECK(Usually{.time = 65s, .runs = 1}.words(98s) == "longer than last time (1m 5s)");
    CHECK(usually.left(42s) == 23s);
    CHECK(usually.left(66s) == 0s);
}

TEST_CASE("H3: the turns of a queue follow from what runs", "[engine]") {
    const Turns::Time unknown;
    SECTION("two places, four that wait") {
        Turns turns(2);
        turns.running(10s);
        turns.running(30s);
        CHECK(turns.waiting(5s, 0s) == Turns::Time(10s));
        CHECK(turns.waiting(5s, 0s) == Turns::Time(15s));
        CHECK(turns.waiting(100s, 0s) == Turns::Time(20s));
        CHECK(turns.waiting(1s, 0s) == Turns::Time(30s));
    }
    SECTION("what nobody can guess at holds its place for ever") {
        Turns turns(2);
        turns.running(unknown);
        turns.running(10s);
        CHECK(turns.waiting(unknown, 0s) == Turns::Time(10s));
        CHECK(turns.waiting(1s, 0s) == unknown);
        CHECK(turns.waiting(1s, 0s) == unknown);
    }
    SECTION("without a limit, or with room, a turn is at once, or after what it waits behind") {
        for (const unsigned limit : {0U, 5U}) {
            Turns turns(limit);
            turns.running(10s);
            CHECK(turns.waiting(1s, 0s) == Turns::Time(0s));
            CHECK(turns.waiting(1s, 7s) == Turns::Time(7s));
            CHECK(turns.waiting(1s, unknown) == unknown);
        }
    }
    SECTION("more that run than there are places: the loans of who waits for another") {
        Turns turns(1);
        turns.running(10s);
        turns.running(20s);
        CHECK(turns.waiting(1s, 0s) == Turns::Time(20s));
    }
}
