// SPDX-License-Identifier: MIT
// The protocol's steps, one by one and in the orders that are hard: a lost answer, a late one,
// the same millisecond, who is away too long. Each case plays the scripts against a real engine.
#include "script_player.h"

#include <memory>
#include <set>
#include <string>

#include "../catch.h"

using namespace coalesce;

namespace {

using Words = ScriptPlayer::Words;

// The first words of an answer.
std::string first(const Words& words, std::size_t count = 1) {
    std::string text;
    for (std::size_t i = 0; i < count && i < words.size(); ++i) text += (i > 0 ? " " : "") + words[i];
    return text;
}

}  // namespace

TEST_CASE("M14: one runs, others join, and attempts whose answers were lost change nothing", "[cluster][scripts]") {
    const auto server = RedisServer::start();
    if (!server) return;
    ScriptPlayer play(*server);
    CHECK(first(play.acquire("k", "A"), 2) == "RUN A.1");
    CHECK(first(play.acquire("k", "B"), 2) == "JOIN A.1");
    CHECK(play.acquire("k", "B").at(4) == "info of A");
    CHECK(first(play.acquire("k", "B", {.attempt = 2}), 2) == "JOIN A.1");
    CHECK(play.waiters("k") == 2);
    // The runner's answer was lost: its next attempt replaces the first, and a late first one is stale.
    CHECK(first(play.acquire("k", "A", {.attempt = 2}), 2) == "RUN A.2");
    CHECK(first(play.acquire("k", "A", {.attempt = 1})) == "STALE");
    CHECK(first(play.beat("k", "A.1", "B")) == "LOST");
    CHECK(first(play.renew("k", "A.1")) == "FENCED");
    CHECK(play.finish("k", "A.1", 2) == "FENCED");
    CHECK(play.finish("k", "A.2", 2) == "OK");
    CHECK(play.finish("k", "A.2", 2) == "OK");
    CHECK(first(play.renew("k", "A.2")) == "FENCED");
    CHECK(first(play.acquire("k", "A", {.attempt = 1})) == "STALE");
    CHECK(play.field("k", "st") == "done");
    CHECK(first(play.beat("k", "A.2", "B")) == "DONE");
    CHECK(play.without_limit().empty());
}

TEST_CASE("M15: a run that ended since the request may be shared, one that ended before may not",
          "[cluster][scripts]") {
    const auto server = RedisServer::start();
    if (!server) return;
    ScriptPlayer play(*server);
    play.acquire("k", "A");
    play.now_ms += 20;
    play.finish("k", "A.1", 2);
    play.now_ms += 50;
    CHECK(first(play.acquire("k", "C", {.age = 51}), 2) == "DONE A.1");
    SECTION("a millisecond decides") { CHECK(first(play.acquire("k", "C", {.attempt = 2, .age = 50})) == "RUN"); }
    SECTION("made after the end") { CHECK(first(play.acquire("k", "B")) == "RUN"); }
    SECTION("its output is gone") {
        play.ask({"DEL", EngineKeys("k").stream("A.1")});
        CHECK(first(play.acquire("k", "C", {.attempt = 2, .age = 51})) == "RUN");
    }
    SECTION("its last chunk was refused") {
        play.acquire("l", "A");
        CHECK(play.finish("l", "A.1", 3) == "LATE");
        CHECK(first(play.acquire("l", "B", {.age = 1000})) == "RUN");
    }
    SECTION("what is not kept") {
        play.acquire("l", "A");
        play.finish("l", "A.1", 2, false);
        CHECK(first(play.acquire("l", "B", {.age = 1000})) == "RUN");
    }
}

TEST_CASE("M15, F2: within one millisecond nothing stale is shared", "[cluster][scripts]") {
    const auto server = RedisServer::start();
    if (!server) return;
    ScriptPlayer play(*server);
    for (int round = 0; round < 100; ++round) {
        const std::string key = "k" + std::to_string(round);
        play.microseconds = round * 9;
        play.acquire(key, "A");
        play.finish(key, "A.1", 2, true, 2000);
        play.microseconds += 1;
        CHECK(first(play.acquire(key, "B")) == "RUN");
    }
}

TEST_CASE("M18: fresh requests wait for an older run's end, and share the next", "[cluster][scripts]") {
    const auto server = RedisServer::start();
    if (!server) return;
    ScriptPlayer play(*server);
    play.acquire("k", "A");
    play.now_ms += 50;
    CHECK(first(play.acquire("k", "B", {.fresh = true}), 2) == "WAIT A.1");
    CHECK(first(play.acquire("k", "C")) == "JOIN");
    play.finish("k", "A.1", 2);
    CHECK(first(play.acquire("k", "B", {.attempt = 2, .age = 20, .fresh = true}), 2) == "RUN B.2");
    CHECK(first(play.acquire("k", "D", {.age = 20, .fresh = true}), 2) == "JOIN B.2");
    play.now_ms += 10;
    play.finish("k", "B.2", 2);
    CHECK(first(play.acquire("k", "E", {.age = 500, .fresh = true}), 2) == "DONE B.2");  // it began since
}

TEST_CASE("M19: the last presence gone, the run is cancelled in the same step", "[cluster][scripts]") {
    const auto server = RedisServer::start();
    if (!server) return;
    ScriptPlayer play(*server);
    play.acquire("k", "A");
    play.acquire("k", "B");
    SECTION("the runner's own last") {
        CHECK(play.leave("k", "A.1", "B") == "LEFT");
        CHECK(play.leave("k", "A.1", "B") == "GONE");
        CHECK(play.leave("k", "A.1", "Z") == "GONE");
        CHECK(first(play.renew("k", "A.1", 0), 3) == "cancel 0 0");
    }
    SECTION("a joiner last") {
        CHECK(first(play.renew("k", "A.1", 0), 2) == "run 1");
        CHECK(play.leave("k", "A.1", "B") == "LAST");
    }
    CHECK(play.field("k", "st") == "cancel");
    // M20: reserved until its end is told.
    CHECK(first(play.acquire("k", "C")) == "WAIT");
    CHECK(first(play.beat("k", "A.1", "B")) == "cancel");
    CHECK(play.waiters("k") == 0);
    CHECK(first(play.renew("k", "A.1", 0)) == "cancel");
    CHECK(play.leave("k", "A.1", "B") == "GONE");
    CHECK(play.finish("k", "A.1", 2, false) == "OK");
    CHECK(first(play.acquire("k", "C", {.attempt = 2, .age = 1000})) == "RUN");
}

TEST_CASE("M19, M20: who came to the runner as the last one elsewhere left keeps the run", "[cluster][scripts]") {
    const auto server = RedisServer::start();
    if (!server) return;
    ScriptPlayer play(*server);
    play.acquire("k", "A");
    play.acquire("k", "B");
    play.renew("k", "A.1", 0);
    CHECK(play.leave("k", "A.1", "B") == "LAST");
    CHECK(first(play.acquire("k", "C")) == "WAIT");
    CHECK(first(play.renew("k", "A.1"), 2) == "run 1");
    CHECK(first(play.acquire("k", "C", {.attempt = 2})) == "JOIN");
}

TEST_CASE("M20: who was away too long decides nothing, and is not cancelled by a stranger", "[cluster][scripts]") {
    const auto server = RedisServer::start();
    if (!server) return;
    ScriptPlayer play(*server);
    play.acquire("k", "A", {.presence = 80});
    play.acquire("k", "B", {.presence = 80});
    SECTION("a beat revives it") {
        play.renew("k", "A.1", 0);
        play.now_ms += 100;
        CHECK(play.leave("k", "A.1", "Z") == "GONE");
        CHECK(first(play.beat("k", "A.1", "B")) == "run");
        CHECK(first(play.renew("k", "A.1", 0), 2) == "run 1");
    }
    SECTION("nobody else waits") {
        play.now_ms += 100;
        CHECK(first(play.renew("k", "A.1", 0), 2) == "cancel 0");
        CHECK(first(play.beat("k", "A.1", "B")) == "cancel");
    }
}

TEST_CASE("M21: a run that is cancelled ends for everyone, once", "[cluster][scripts]") {
    const auto server = RedisServer::start();
    if (!server) return;
    ScriptPlayer play(*server);
    play.acquire("k", "A");
    play.acquire("k", "B");
    CHECK(play.cancel("k", "X.1") == "GONE");
    CHECK(play.cancel("k", "A.1") == "OK");
    CHECK(play.renew("k", "A.1") == Words{"cancel", "2", "1"});
    CHECK(first(play.acquire("k", "A", {.attempt = 2})) == "RUN");  // its own
}

TEST_CASE("M28, M30: a lease that has passed is taken over, one that was renewed is not", "[cluster][scripts]") {
    const auto server = RedisServer::start();
    if (!server) return;
    ScriptPlayer play(*server);
    play.acquire("k", "A", {.lease = 60});
    play.acquire("k", "B");
    SECTION("taken over, from whom is told") {
        play.now_ms += 60;
        CHECK(first(play.beat("k", "A.1", "B")) == "LOST");
        const Words taken = play.acquire("k", "B", {.attempt = 2});
        CHECK(first(taken, 2) == "RUN B.2");
        CHECK(taken.at(4) == "info of A");
        CHECK(first(play.renew("k", "A.1")) == "FENCED");
    }
    SECTION("a millisecond before") {
        play.now_ms += 59;
        CHECK(first(play.beat("k", "A.1", "B")) == "run");
        CHECK(first(play.acquire("k", "C")) == "JOIN");
    }
    SECTION("late, but nobody took over") {
        play.now_ms += 80;
        CHECK(first(play.renew("k", "A.1")) == "run");
    }
    SECTION("asked again by its own runner") {
        play.now_ms += 80;
        const Words again = play.acquire("k", "A", {.attempt = 2});
        CHECK(first(again, 2) == "RUN A.2");
        CHECK(again.at(4).empty());
    }
}

TEST_CASE("M32: a runner that is known to be dead is buried, its successor is not", "[cluster][scripts]") {
    const auto server = RedisServer::start();
    if (!server) return;
    ScriptPlayer play(*server);
    play.acquire("k", "A");
    play.acquire("k", "B");
    CHECK(play.bury("k", "A.1") == "OK");
    CHECK(first(play.beat("k", "A.1", "B")) == "LOST");
    CHECK(first(play.acquire("k", "B", {.attempt = 2})) == "RUN");
    CHECK(play.bury("k", "A.1") == "GONE");
}

TEST_CASE("M24: a run that is shut, and one whose output has a gap, are given to nobody", "[cluster][scripts]") {
    const auto server = RedisServer::start();
    if (!server) return;
    ScriptPlayer play(*server);
    play.acquire("k", "A");
    play.renew("k", "A.1", 5000, true);
    CHECK(first(play.acquire("k", "B")) == "WAIT");
    play.acquire("l", "A");
    play.ask({"XADD", EngineKeys("l").stream("A.1"), "NOMKSTREAM", "5-0", "d", "x"});
    CHECK(play.finish("l", "A.1", 3) == "LATE");
    CHECK(first(play.acquire("l", "B", {.age = 1000})) == "RUN");
    play.acquire("m", "A");
    play.ask({"DEL", EngineKeys("m").stream("A.1")});
    CHECK(play.finish("m", "A.1", 2) == "LATE");
}

TEST_CASE("M27: fences grow, also where the clock stands", "[cluster][scripts]") {
    const auto server = RedisServer::start();
    if (!server) return;
    ScriptPlayer play(*server);
    long long last = 0;
    for (int attempt = 1; attempt <= 100; ++attempt) {
        const long long fence = std::stoll(play.acquire("k", "A", {.attempt = attempt}).at(2));
        CHECK(fence > last);
        last = fence;
        if (attempt == 50) play.now_ms -= 10;
    }
}

TEST_CASE("M40: every key has a limit, and nothing is left when all are gone", "[cluster][scripts]") {
    const auto server = RedisServer::start();
    if (!server) return;
    ScriptPlayer play(*server);
    play.acquire("k", "A", {.lease = 20, .presence = 20});
    play.acquire("k", "B", {.lease = 20, .presence = 20});
    play.beat("k", "A.1", "B", 20);
    play.renew("k", "A.1", 20, false, 20);
    CHECK(play.without_limit().empty());
    play.acquire("l", "A", {.lease = 20, .presence = 20});
    play.finish("l", "A.1", 2, true, 20);
    CHECK(play.without_limit().empty());
    while (play.ask({"DBSIZE"}).number > 0) {
    }
}

TEST_CASE("M40: who waits leaves nothing that outlives the run", "[cluster][scripts]") {
    const auto server = RedisServer::start();
    if (!server) return;
    ScriptPlayer play(*server);
    const EngineKeys keys("k");
    const auto limit = [&](const std::string& key) { return play.ask({"PTTL", key}).number; };
    play.acquire("k", "A", {.lease = 2000, .presence = 15'000});
    const long long most = limit(keys.state);
    REQUIRE(most > 0);
    play.acquire("k", "B", {.lease = 3'600'000, .presence = 15'000});
    CHECK(limit(keys.waiters) <= most);
    CHECK(first(play.beat("k", "A.1", "B", 15'000)) == "run");
    CHECK(limit(keys.waiters) <= most);
    // Should it be gone, who waits makes it anew, as long.
    play.ask({"DEL", keys.waiters});
    CHECK(first(play.beat("k", "A.1", "B", 15'000)) == "run");
    CHECK(limit(keys.waiters) > 0);
    CHECK(limit(keys.waiters) <= most);
}

TEST_CASE("who waits and who runs is told what concerns it", "[cluster][scripts]") {
    const auto server = RedisServer::start();
    if (!server) return;
    ScriptPlayer play(*server);
    RedisClient listener(server->socket());
    const EngineKeys keys("k");
    listener.ask({"SUBSCRIBE", keys.to_runner()});
    listener.ask({"SUBSCRIBE", keys.to_waiters()});
    const auto heard = [&listener] {
        const RespValue message = listener.hear();
        return message.at(1).text.substr(message.at(1).text.size() - 1) + message.at(2).text;
    };
    play.acquire("k", "A");
    play.acquire("k", "B");
    CHECK(heard() == "rj");
    play.renew("k", "A.1", 0);
    play.leave("k", "A.1", "B");
    CHECK(heard() == "rc");
    play.finish("k", "A.1", 2);
    CHECK(heard() == "jx");
    play.acquire("k", "A", {.attempt = 2});
    play.bury("k", "A.2");
    CHECK(heard() == "jn");
    play.acquire("k", "B", {.attempt = 2});
    CHECK(heard() == "rn");
    CHECK(heard() == "jn");
}
