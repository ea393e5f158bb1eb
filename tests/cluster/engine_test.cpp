// SPDX-License-Identifier: MIT
// The engine's lines against a real engine: what is asked is answered, what is lost is told, and
// what comes back is used again. Beside it a server of the test's own stands in for engines
// that no package has: old ones, silent ones, such as say nonsense.
#include <coalesce/cluster/engine.h>
#include <coalesce/cluster/engine_line.h>

#include <coalesce/io/loop.h>

#include <sys/socket.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "../catch.h"
#include "redis_server.h"

using namespace coalesce;
using namespace std::chrono_literals;

namespace {

EngineAccess access_to(const std::string& url, const std::string& password = {}) {
    return {*EngineUrl::parse(url), password};
}

// What an engine came to, within the loop's time.
struct Watched {
    Watched(Loop& on, EngineAccess access)
        : loop(on),
          engine(on, std::move(access)),
          listener(engine, {.on_up =
                                [this] {
                                    ++ups;
                                    if (on_up) on_up();
                                    loop.stop();
                                },
                            .on_down =
                                [this](const NoAnswer& answer) {
                                    ++downs;
                                    why = answer;
                                    loop.stop();
                                },
                            .on_data = [this] { loop.stop(); }}),
          patience(on) {
        patience.start(60s, [] {});  // the engine by itself does not keep the loop running
    }
    void until(const std::function<bool()>& holds) {
        while (!holds()) loop.run();
    }

    Loop& loop;
    int ups = 0;
    int downs = 0;
    std::function<void()> on_up;
    NoAnswer why;
    Engine engine;
    Engine::Listener listener;
    Timer patience;
};

// Takes one connection after the other, and answers each request with what it is given.
class FakeEngine {
  public:
    /// From now on it takes a piece of a request only so often.
    void slow_down(std::chrono::milliseconds each) { each_ = each; }
    FakeEngine(Loop& loop, const std::string& path, std::function<std::string(const std::string&)> answer)
        : loop_(loop), answer_(std::move(answer)), socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        auto address = UnixAddress::of(path);
        REQUIRE(::bind(socket_.get(), address->get(), address->length()) == 0);
        REQUIRE(::listen(socket_.get(), 8) == 0);
        accepts_ = std::move(*Watch::start_in_background(loop_, socket_.get(), Readiness::readable, [this] {
            auto& talk = *talks_.emplace_back(std::make_unique<Talk>());
            talk.socket = Descriptor(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
            talk.watch = std::move(*Watch::start_in_background(loop_, talk.socket.get(), Readiness::readable,
                                                               [this, &talk] { on_request(talk); }));
        }));
    }

  private:
    struct Talk {
        Descriptor socket;
        Watch watch;
        RespReader reader;
    };
    void on_request(Talk& talk) {
        std::array<char, 4096> buffer;
        const ssize_t got = ::read(talk.socket.get(), buffer.data(), buffer.size());
        if (got <= 0) return talk.watch.stop();
        if (each_.count() > 0) {
            talk.watch.stop();
            next_piece_.start(each_, [&talk] { talk.watch.resume(Readiness::readable); });
        }
        REQUIRE(talk.reader.feed({buffer.data(), static_cast<std::size_t>(got)}));
        while (true) {
            auto request = talk.reader.next();
            if (!request || !request->has_value()) return;
            const std::string reply = answer_((*request)->at(0).text);
            if (::send(talk.socket.get(), reply.data(), reply.size(), MSG_NOSIGNAL) < 0) return;
        }
    }
    Loop& loop_;
    std::function<std::string(const std::string&)> answer_;
    Descriptor socket_;
    Watch accepts_;
    std::vector<std::unique_ptr<Talk>> talks_;
    std::chrono::milliseconds each_{0};
    Timer next_piece_{loop_};
};

// A line to an engine that answers nothing to GET.
struct Line {
    explicit Line(Loop& on) : loop(on) {
        patience.start(60s, [] {});  // a line by itself does not keep the loop running
        while (ups + downs == 0) loop.run();
        REQUIRE(ups == 1);
    }
    Loop& loop;
    Scratch scratch;
    FakeEngine engine{loop, scratch.path("engine"), [this](const std::string& word) {
                          return std::string(word == "GET" ? "" : word == "PING" ? pong : "+OK\r\n");
                      }};
    const char* pong = "+PONG\r\n";
    int ups = 0;
    int downs = 0;
    int messages = 0;
    int answers = 0;
    EngineAccess access = access_to("redis+unix://" + scratch.path("engine"));
    Timer patience{loop};
    EngineLine line{loop,
                    access,
                    EngineLine::Greeting::plain,
                    {.on_up =
                         [this] {
                             ++ups;
                             loop.stop();
                         },
                     .on_down =
                         [this](const NoAnswer&) {
                             ++downs;
                             loop.stop();
                         },
                     .on_message =
                         [this](const RespValue&) {
                             ++messages;
                             loop.stop();
                         }}};
    void ask(std::vector<std::string> words) {
        line.ask(words, [this](const Result<RespValue>& answer) {
            if (answer) ++answers;
            loop.stop();
        });
    }
};

std::string bulk(const std::string& text) { return "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n"; }

// An engine that tells that of itself.
std::string why_unfit(const std::string& info) {
    Loop loop;
    const Scratch scratch;
    FakeEngine fake(loop, scratch.path("s"),
                    [&](const std::string& word) { return word == "INFO" ? bulk(info) : "+OK\r\n"; });
    Watched watched(loop, access_to("redis+unix://" + scratch.path("s")));
    watched.until([&] { return watched.ups + watched.downs > 0; });
    if (watched.ups > 0) return "none";
    CHECK(watched.why.code == std::errc::permission_denied);
    return watched.why.message();
}

constexpr const char* good =
    "redis_version:7.0.15\r\nuptime_in_seconds:100\r\nmaxmemory_policy:noeviction\r\nrole:master\r\n";

}  // namespace

// Two lines of a machine that is cut off would each find the other one busy, for ever.
TEST_CASE("to connect does not keep the loop running", "[cluster]") {
    Loop loop;
    const Scratch scratch;
    FakeEngine silent(loop, scratch.path("s"), [](const std::string&) { return ""; });
    Engine engine(loop, access_to("redis+unix://" + scratch.path("s")));
    int downs = 0;
    const Engine::Listener listener(engine, {.on_up = {}, .on_down = [&](const NoAnswer&) { ++downs; }, .on_data = {}});
    loop.run();
    CHECK(downs == 0);  // nobody has waited until that was known
}

// So that a name that nobody resolves is not looked up again and again: each lookup keeps the loop running.
TEST_CASE("an engine that nobody needs is not asked again, until somebody does", "[cluster]") {
    Loop loop;
    const Scratch scratch;
    int greetings = 0;
    std::string greeted = "-WRONGPASS\r\n";
    FakeEngine fake(loop, scratch.path("s"), [&](const std::string& word) {
        if (word == "PING") ++greetings;
        return word == "INFO" ? bulk(good) : greeted;
    });
    Engine engine(loop, access_to("redis+unix://" + scratch.path("s")));
    Timer tick(loop);
    tick.start(1ms, 1ms, [&] { loop.stop(); });
    const auto until = [&](const std::function<bool()>& holds) {
        while (!holds()) loop.run();
    };
    {
        const Engine::Listener somebody(engine, {});
        until([&] { return engine.trouble().has_value(); });
    }
    until([&] { return engine.control().rests(); });
    CHECK(greetings == 1);
    CHECK(engine.trouble());
    greeted = "+OK\r\n";
    const Engine::Listener somebody(engine, {});
    CHECK_FALSE(engine.trouble());  // which may be mended
    until([&] { return engine.up(); });
    CHECK(greetings == 2);
}

TEST_CASE("scripts are answered, in order, and error replies are no answers", "[cluster]") {
    const auto server = RedisServer::start();
    if (!server) return;
    Loop loop;
    Watched watched(loop, access_to(server->url()));
    watched.until([&] { return watched.ups == 1; });
    const EngineKeys keys("k");
    std::vector<std::string> heard;
    const auto call = [&](Script script, const std::vector<std::string>& on, const std::vector<std::string>& with) {
        watched.engine.call(script, on, with, [&](Result<RespValue> answer) {
            heard.push_back(answer ? answer->at(0).words() + answer->words() : answer.error().message());
            loop.stop();
        });
    };
    call(Script::acquire, {keys.state, keys.waiters, keys.stream("A.1")}, {"A", "1", "5000", "5000", "0", "0", "i"});
    call(Script::leave, {keys.state, keys.waiters}, {"A.1", "A"});
    call(Script::renew, {keys.state}, {"A.1"});
    watched.until([&] { return heard.size() == 3; });
    CHECK(heard[0] == "RUN");
    CHECK(heard[1] == "LAST");
    CHECK_THAT(heard[2], Contains("ERR"));
}

TEST_CASE("M6: an engine that is not fit is refused, with the remedy", "[cluster]") {
    CHECK(why_unfit(good) == "none");
    const std::string text(good);
    const auto with = [&](const std::string& old, const std::string& by) {
        std::string other = text;
        return other.replace(other.find(old), old.size(), by);
    };
    CHECK_THAT(why_unfit(with("7.0.15", "6.2.14")), Contains("6.2.14") && Contains("7.0"));
    CHECK_THAT(why_unfit(with("role:master", "role:slave")), Contains("primary"));
    CHECK_THAT(why_unfit(with("noeviction", "allkeys-lru")), Contains("allkeys-lru") && Contains("noeviction"));
    CHECK_THAT(why_unfit("nothing"), Contains("is it Redis?"));
    CHECK(why_unfit(text + "valkey_version:8.1.0\r\n") == "none");
}

TEST_CASE("M6: an engine younger than a lease that keeps no log may have forgotten some", "[cluster]") {
    EngineFacts facts = EngineFacts::of(good);
    CHECK(facts.too_young_for(99s) == 0ms);
    CHECK(facts.too_young_for(100s) == 1s);  // it may be 99.1 seconds old, and says 100
    facts.append_only = true;
    CHECK(facts.too_young_for(101s) == 0ms);
    const auto server = RedisServer::start();
    if (!server) return;
    Loop loop;
    Watched watched(loop, access_to(server->url() + "?lease=1h"));
    watched.until([&] { return watched.ups == 1; });
    CHECK(watched.engine.too_young() > 50min);
}

TEST_CASE("M6, M7: an engine that is no primary any more is left, and waited for, until there is one", "[cluster]") {
    Loop loop;
    const Scratch scratch;
    const std::string replica = std::string(good).replace(std::string(good).find("role:master"), 11, "role:slave");
    const std::string error = GENERATE("READONLY You can't write against a read only replica.",
                                       "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is 'no'.");
    bool demoted = false;
    FakeEngine fake(loop, scratch.path("s"), [&](const std::string& word) {
        if (word == "INFO") return bulk(demoted ? replica : good);
        return demoted && (word == "EVAL" || word == "XREAD") ? "-" + error + "\r\n" : "+OK\r\n";
    });
    const EngineAccess access = access_to("redis+unix://" + scratch.path("s"));
    Watched watched(loop, access);
    watched.until([&] { return watched.ups == 1; });
    watched.until([&] { return watched.engine.data().up(); });
    demoted = true;
    std::vector<std::string> heard;
    for (int asked = 0; asked < 2; ++asked)
        watched.engine.call(
            Script::cancel, std::vector<std::string>{"k"}, std::vector<std::string>{"A.1"},
            [&](Result<RespValue> answer) { heard.push_back(answer ? "answer" : answer.error().message()); });
    // Who reads has not been answered, either, and its line is left.
    std::string read;
    watched.engine.data().ask(std::vector<std::string>{"XREAD"}, [&](Result<RespValue> answer) {
        read = answer ? "answer" : answer.error().message();
        loop.stop();
    });
    watched.until([&] { return watched.downs >= 2 && !read.empty(); });
    CHECK_THAT(read, Contains(error.substr(0, 8)));
    REQUIRE(heard.size() == 2);
    CHECK_THAT(heard[0], Contains(error.substr(0, 8)));
    // Its name may lead to the new one soon: it passes, and is waited for as one that is not there.
    CHECK(watched.why.code == std::errc::resource_unavailable_try_again);
    CHECK_THAT(watched.why.message(), Contains("primary"));
    CHECK(watched.ups == 1);
    Watched other(loop, access);  // for whom it has never been one
    other.until([&] { return other.downs >= 1; });
    CHECK(other.why.code == std::errc::permission_denied);
    watched.until([&] { return watched.engine.data().up(); });  // the old one takes it
    demoted = false;
    bool data_is_anew = false;
    watched.on_up = [&] { data_is_anew = !watched.engine.data().up(); };
    watched.until([&] { return watched.ups == 2; });
    CHECK(data_is_anew);
    watched.until([&] { return watched.engine.data().up(); });
}

TEST_CASE("M7: an engine that is not there is told, tried again, and used when it is", "[cluster]") {
    const auto server = RedisServer::start();
    if (!server) return;
    server->stop(SIGKILL);
    Loop loop;
    Watched watched(loop, access_to(server->url()));
    watched.until([&] { return watched.downs >= 2; });
    CHECK_THAT(watched.why.message(), Contains(server->url()) && Contains("refused"));
    CHECK(watched.engine.trouble());
    server->again();
    watched.until([&] { return watched.ups == 1; });
    CHECK_FALSE(watched.engine.trouble());
    // What was under way when it was lost is told, and not repeated.
    std::string heard;
    server->signal(SIGSTOP);
    watched.engine.call(Script::cancel, std::vector<std::string>{"coalesce:1:{k}:m"}, std::vector<std::string>{"A.1"},
                        [&](Result<RespValue> answer) { heard = answer ? "answer" : answer.error().message(); });
    const int downs = watched.downs;
    watched.until([&] { return watched.downs > downs; });
    CHECK_THAT(heard, Contains("no answer for 2 seconds"));
    server->signal(SIGCONT);
    watched.until([&] { return watched.ups == 2; });
}

TEST_CASE("a wrong password, and none where one is wanted, are refused by name", "[cluster]") {
    const auto server = RedisServer::start({"--requirepass", "geheim"});
    if (!server) return;
    for (const std::string password : {"", "falsch"}) {
        Loop loop;
        Watched watched(loop, access_to(server->url(), password));
        watched.until([&] { return watched.downs > 0; });
        CHECK(watched.why.code == std::errc::permission_denied);
        CHECK_THAT(watched.why.message(), Contains("password") && !Contains("falsch"));
    }
    Loop loop;
    Watched watched(loop, access_to(server->url(), "geheim"));
    watched.until([&] { return watched.ups + watched.downs > 0; });
    CHECK(watched.ups == 1);
}

TEST_CASE("M4, M7: of an error to AUTH what it repeats is left out, and what passes still passes", "[cluster]") {
    const auto error = [](std::string text) {
        return RespValue{.kind = RespValue::Kind::error, .number = 0, .text = std::move(text), .elements = {}};
    };
    const std::string repeated = "ERR unknown command 'AUTH', with args beginning with: 'secret'";
    CHECK(words_of_auth_error(error(repeated)) == "ERR unknown command 'AUTH'");
    const std::string full = "ERR max number of clients reached";
    CHECK(words_of_auth_error(error(full)) == full);
    CHECK(is_passing(error(words_of_auth_error(error(full)))));
}

TEST_CASE("what is no engine ends the line, not the process", "[cluster]") {
    Loop loop;
    const Scratch scratch;
    FakeEngine fake(loop, scratch.path("s"), [](const std::string&) { return std::string("220 smtp ready\r\n"); });
    Watched watched(loop, access_to("redis+unix://" + scratch.path("s")));
    watched.until([&] { return watched.downs > 0; });
    CHECK_THAT(watched.why.message(), Contains("understand"));
}

TEST_CASE("a name that no resolver knows, and a port where nobody listens, are told", "[cluster]") {
    for (const std::string url : {"redis://nobody.invalid", "redis://127.0.0.1:1", "redis://[::1]:1"}) {
        Loop loop;
        Watched watched(loop, access_to(url));
        watched.until([&] { return watched.downs > 0; });
        INFO(watched.why.message());
        CHECK(watched.why.message().find(url.substr(8, 8)) != std::string::npos);
    }
}

TEST_CASE("M17: who still takes what is asked is not silent, who has taken it and does not answer is", "[cluster]") {
    Loop loop;
    Line to(loop);
    to.engine.slow_down(40ms);
    to.ask({"SET", "key", std::string(350'000, 'x')});  // that is for longer than the two seconds of silence
    while (to.answers + to.downs == 0) loop.run();
    CHECK(to.answers == 1);
    CHECK(to.downs == 0);
    to.ask({"GET", "key"});
    while (to.downs == 0) loop.run();
    CHECK(to.answers == 1);
}

TEST_CASE("M19: a line that waits for messages only notices that nobody is there any more", "[cluster]") {
    Loop loop;
    Line to(loop);
    to.pong = "*2\r\n$4\r\npong\r\n$0\r\n\r\n";  // as to who subscribes
    to.line.probe();
    while (to.messages + to.downs == 0) loop.run();
    CHECK(to.messages == 1);
    to.pong = "";
    to.line.probe();
    while (to.downs == 0) loop.run();
    CHECK(to.messages == 1);
}

TEST_CASE("M5: a proxy is spoken to as the engine, and ends with us", "[cluster]") {
    const auto server = RedisServer::start();
    if (!server) return;
    if (std::system("command -v socat >/dev/null") != 0) return not_tried("there is no socat");
    Loop loop;
    Watched watched(loop, access_to("redis://h:7?proxy=echo %25h:%p >" + server->scratch().path("said") +
                                    "; exec socat STDIO UNIX-CONNECT:" + server->socket()));
    watched.until([&] { return watched.ups + watched.downs > 0; });
    CHECK(watched.ups == 1);
    CHECK(server->scratch().read("said") == "h:7\n");
    SECTION("one that ends is told") {
        Watched other(loop, access_to("redis://h:7?proxy=exit 3"));
        other.until([&] { return other.downs > 0; });
        CHECK_THAT(other.why.message(), Contains("proxy") && Contains("exit 3"));
    }
}

TEST_CASE("subscriptions hear their channel, from when they are told so, also after a loss", "[cluster]") {
    const auto server = RedisServer::start();
    if (!server) return;
    Loop loop;
    Watched watched(loop, access_to(server->url()));
    watched.until([&] { return watched.ups == 1; });
    int subscribed = 0;
    std::string words;
    auto subscription =
        std::make_unique<Engine::Subscription>(watched.engine, "coalesce:1:{k}:m:r",
                                               Engine::Subscription::Events{.on_subscribed =
                                                                                [&] {
                                                                                    ++subscribed;
                                                                                    loop.stop();
                                                                                },
                                                                            .on_word =
                                                                                [&](const std::string& word) {
                                                                                    words += word;
                                                                                    loop.stop();
                                                                                }});
    watched.until([&] { return subscribed == 1; });
    CHECK(server->ask({"PUBLISH", "coalesce:1:{k}:m:r", "j"}).number == 1);
    watched.until([&] { return words == "j"; });
    server->stop(SIGKILL);
    server->again();
    watched.until([&] { return subscribed == 2; });
    server->ask({"PUBLISH", "coalesce:1:{k}:m:r", "c"});
    watched.until([&] { return words == "jc"; });
    subscription.reset();
    while (server->ask({"PUBLISH", "coalesce:1:{k}:m:r", "x"}).number != 0) {
        loop.post([&loop] { loop.stop(); });
        loop.run();
    }
    CHECK(words == "jc");
}

TEST_CASE("M40: an engine that nobody needs any more keeps no loop running", "[cluster]") {
    const auto server = RedisServer::start();
    if (!server) return;
    Loop loop;
    {
        Watched watched(loop, access_to(server->url()));
        watched.until([&] { return watched.ups == 1; });
        watched.patience.stop();
        loop.run();
    }
    loop.run();
}
