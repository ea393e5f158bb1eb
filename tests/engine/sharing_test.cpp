// SPDX-License-Identifier: MIT
// The seam for a run's source: a flight whose run is asked about first, that is followed rather
// than run here, that outlives its last requester here, and whose end is told elsewhere before
// anybody here hears of it. No process: the source and whoever shares are fakes, which the test
// drives through each order of events.
#include <coalesce/engine/command_executor.h>

#include <coalesce/io/boot_time.h>
#include <coalesce/io/loop.h>
#include <coalesce/io/watch.h>

#include <algorithm>
#include <functional>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "../catch.h"

using namespace coalesce;
using namespace std::chrono_literals;

namespace {

// What a source was told, and the way to its events; outlives it.
struct Wire {
    RunSource::Events events;
    bool started = false;
    bool gone = false;
    bool terminated = false;
    bool paused = false;
    std::vector<int> signals;
    std::optional<RunSource::Refusal> refusal;

    [[nodiscard]] bool live() const { return started && !gone; }
    void say(std::string_view text) { events.on_output(Stream::out, text); }
    void end(Outcome outcome) {
        auto on_ended = std::move(events.on_ended);
        on_ended(std::move(outcome));
    }
};

class FakeSource final : public RunSource {
  public:
    explicit FakeSource(std::shared_ptr<Wire> wire) : wire_(std::move(wire)) {}
    ~FakeSource() override { wire_->gone = true; }
    std::optional<Refusal> start(Events events) override {
        if (wire_->refusal) return wire_->refusal;
        wire_->events = std::move(events);
        wire_->started = true;
        return {};
    }
    [[nodiscard]] pid_t pid() const noexcept override { return -1; }
    void terminate(std::chrono::milliseconds) override { wire_->terminated = true; }
    void signal(int number) noexcept override { wire_->signals.push_back(number); }
    void pause() noexcept override { wire_->paused = true; }
    void resume() override { wire_->paused = false; }

  private:
    std::shared_ptr<Wire> wire_;
};

// One flight's part, as the other side sees it; outlives its membership.
struct Part {
    FlightId flight = 0;
    Sharing::Answers answers;
    bool withdrawn = false;
    int alone = 0;
    int joined = 0;
    int cancelled = 0;
    int called_off = 0;
    int said = 0;
    int judged = 0;
    std::optional<Outcome> judgement;
    Run* run = nullptr;
    const RunResult* concluded = nullptr;
    UniqueFunction<void()> done;
    std::shared_ptr<Wire> wire = std::make_shared<Wire>();

    [[nodiscard]] bool asked() const { return !withdrawn && concluded == nullptr && !wire->live(); }
    void follow() { answers.follow(std::make_unique<FakeSource>(wire)); }
    void conclude() {
        auto told = std::move(done);
        told();
    }
};

class FakeSharing final : public Sharing {
  public:
    std::unique_ptr<Membership> ask(FlightId id, Job&, Run& run, Answers answers) override {
        // F1: whoever is asked about has no run under way.
        for (const auto& part : parts) CHECK((part->withdrawn || part->flight != id));
        parts.push_back(std::make_shared<Part>());
        parts.back()->flight = id;
        parts.back()->run = &run;
        parts.back()->answers = std::move(answers);
        return std::make_unique<Member>(parts.back());
    }
    std::vector<std::shared_ptr<Part>> parts;

  private:
    class Member final : public Membership {
      public:
        explicit Member(std::shared_ptr<Part> part) : part_(std::move(part)) {}
        ~Member() override { part_->withdrawn = true; }
        void alone() override { ++part_->alone; }
        void joined() override { ++part_->joined; }
        void called_off(bool for_everyone) override { ++(for_everyone ? part_->cancelled : part_->called_off); }
        [[nodiscard]] Outcome judge(Outcome outcome) override {
            ++part_->judged;
            return part_->judgement.value_or(std::move(outcome));
        }
        void conclude(const RunResult& result, UniqueFunction<void()> done) override {
            CHECK(part_->concluded == nullptr);
            part_->concluded = &result;
            part_->done = std::move(done);
        }

      private:
        std::shared_ptr<Part> part_;
    };
};

// Turns that come when the test says so.
class FakeTurnstile final : public Turnstile {
  public:
    struct Place {
        UniqueFunction<void()> on_come;
        std::vector<pid_t> askers;
        bool come = false;
        bool gone = false;
    };
    Result<std::unique_ptr<Turn>> ask(Loop&, const RunClass&, unsigned, const std::vector<pid_t>& askers, Turns::Time,
                                      UniqueFunction<void()> on_come) override {
        if (refuses) return Error{std::make_error_code(std::errc::too_many_files_open), "take a turn"};
        places.push_back(std::make_shared<Place>());
        places.back()->on_come = std::move(on_come);
        places.back()->askers = askers;
        return std::unique_ptr<Turn>(std::make_unique<FakeTurn>(places.back()));
    }
    [[nodiscard]] bool shares_turn(const RunClass&, const std::vector<pid_t>&) override { return false; }
    void let_in(std::size_t number) {
        const auto place = places.at(number);
        place->come = true;
        place->on_come();
    }
    std::vector<std::shared_ptr<Place>> places;
    bool refuses = false;

  private:
    class FakeTurn final : public Turn {
      public:
        explicit FakeTurn(std::shared_ptr<Place> place) : place_(std::move(place)) {}
        ~FakeTurn() override { place_->gone = true; }
        [[nodiscard]] bool has_come() const noexcept override { return place_->come; }
        [[nodiscard]] std::size_t others() const noexcept override { return 1; }
        [[nodiscard]] Turns::Time expected() const override { return {}; }
        [[nodiscard]] ProcessMark mark() noexcept override { return {}; }
        void joined_by(pid_t) override {}

      private:
        std::shared_ptr<Place> place_;
    };
};

struct Asked {
    RunTicket ticket;
    std::vector<std::shared_ptr<const RunResult>> results;
    FlightId flight = 0;
    bool gone = false;
};

class World {
  public:
    explicit World(Loop& on, CommandExecutor::Options options = {.jobs = 1}) : loop(on) {
        options.sharing = &sharing;
        executor.emplace(loop, std::move(options));
    }
    // As long as nobody has an answer there are posted deliveries only.
    ~World() {
        asked.clear();
        executor.reset();
        loop.run();
    }

    Asked& ask(const std::string& line = "line", std::function<void(Job&)> change = {}, JoinOptions options = {}) {
        Asked& who = asked.emplace_back();
        who.ticket = executor->submit(
            RequestKey{canonical, line},
            [this, line, change] {
                Job job{.command = {{"/bin/sh", "-c", line}, surroundings, {}}, .title = line, .shared_as = line};
                if (change) change(job);
                return job;
            },
            std::move(options));
        who.flight = who.ticket.id();
        who.ticket.then([&who](const Landing<RunResult>& landing) { who.results.push_back(landing.value); });
        return who;
    }
    static void leave(Asked& who) {
        who.gone = true;
        who.ticket = {};
    }
    Part& part(std::size_t number = 0) { return *sharing.parts.at(number); }

    Loop& loop;
    FakeSharing sharing;
    std::shared_ptr<const Surroundings> surroundings =
        std::make_shared<const Surroundings>(Surroundings{"/", {"PATH=/usr/bin:/bin"}, 022});
    std::shared_ptr<const CanonicalSurroundings> canonical = std::make_shared<const CanonicalSurroundings>("here");
    std::optional<CommandExecutor> executor;
    std::list<Asked> asked;
};

std::string text_of(const RunResult& result) {
    std::string text;
    SpoolReader reader(*result.spool);
    while (const auto piece = reader.next()) {
        text += piece->extent.bytes;
        reader.advance(piece->extent.length);
    }
    return text;
}

}  // namespace

TEST_CASE("a run is asked about before it begins, and may then be run here", "[sharing]") {
    Loop loop;
    World world(loop);
    Asked& one = world.ask("echo here");
    CHECK(one.ticket.state().phase == Run::Phase::asking);
    CHECK(world.executor->counts().runs == 0);
    world.part().answers.run_here();
    CHECK(one.ticket.state().phase == Run::Phase::running);
    CHECK(one.ticket.state().pid > 0);
    loop.run();
    REQUIRE(world.part().concluded);
    CHECK(one.results.empty());
    world.part().conclude();
    loop.run();
    REQUIRE(one.results.size() == 1);
    CHECK(text_of(*one.results[0]) == "here\n");
    CHECK(world.executor->flights().empty());
}

TEST_CASE("retries are made without asking again, and only the last end is told", "[sharing]") {
    Loop loop;
    World world(loop);
    Asked& one = world.ask("exit 3", [](Job& job) { job.retries = 2; });
    world.part().answers.run_here();
    loop.run();
    CHECK(world.sharing.parts.size() == 1);
    REQUIRE(world.part().concluded);
    CHECK(world.part().concluded->attempts == 3);
    world.part().conclude();
    loop.run();
    CHECK(one.results.at(0)->outcome == Outcome::exited(3));
}

TEST_CASE("F3: who joins a run that is followed has all of it, and it takes no place", "[sharing]") {
    Loop loop;
    World world(loop);
    Asked& one = world.ask();
    world.ask("other");
    CHECK(world.sharing.parts.size() == 1);
    world.part().follow();
    CHECK(world.sharing.parts.size() == 2);
    world.part().wire->say("first ");
    Asked& two = world.ask();
    CHECK(two.flight == one.flight);
    world.part().wire->say("second");
    world.executor->signal(one.flight, 10);
    CHECK(world.part().wire->signals == std::vector{10});
    world.part().wire->end(Outcome::exited(4));
    CHECK(world.part().wire->gone);
    world.part().conclude();
    loop.run();
    REQUIRE(one.results.size() == 1);
    CHECK(text_of(*one.results[0]) == "first second");
    CHECK(two.results == one.results);
    CHECK(world.executor->counts().runs == 0);
    world.part(1).answers.over(Outcome::cancelled(), 0ms);
}

TEST_CASE("F4: a source that refuses to start fails for all, here and elsewhere", "[sharing]") {
    Loop loop;
    World world(loop);
    Asked& one = world.ask();
    world.part().wire->refusal = RunSource::Refusal{Outcome::refused(0, "no"), true};
    world.part().follow();  // there is no other run whose end could help
    REQUIRE(world.part().concluded);
    CHECK(world.part().concluded->outcome == Outcome::refused(0, "no"));
    world.part().conclude();
    loop.run();
    CHECK(one.results.at(0)->outcome == Outcome::refused(0, "no"));
}

TEST_CASE("F9: a followed run is paused where nobody reads, and goes on when somebody does", "[sharing]") {
    Loop loop;
    World world(loop, {.jobs = 1, .spool = {.store = {}, .replay_bytes = 1000}});
    Asked& one = world.ask();
    SpoolReader* reader = nullptr;
    std::unique_ptr<SpoolReader> owned;
    world.part().follow();
    owned = std::make_unique<SpoolReader>(*one.ticket.state().spool);
    reader = owned.get();
    world.part().wire->say(std::string(2000, 'x'));
    CHECK(world.part().wire->paused);
    while (const auto piece = reader->next()) reader->advance(piece->extent.length);
    CHECK_FALSE(world.part().wire->paused);
    world.part().wire->end(Outcome::exited(0));
    world.part().conclude();
    loop.run();
    CHECK(one.results.size() == 1);
}

TEST_CASE("F10: a followed run has no timeout here", "[sharing]") {
    Loop loop;
    World world(loop);
    world.ask("line", [](Job& job) { job.timeout = 0ms; });
    world.part().follow();
    loop.run();  // a timer would be due
    CHECK_FALSE(world.part().wire->terminated);
}

TEST_CASE("F5: who leaves before there is an answer has asked nothing", "[sharing]") {
    Loop loop;
    World world(loop);
    World::leave(world.ask());
    CHECK(world.part().withdrawn);
    CHECK(world.part().alone == 0);
    CHECK(world.part().concluded == nullptr);
    CHECK(world.executor->flights().empty());
    world.part().follow();  // too late
    CHECK(world.part().wire->gone);
    CHECK_FALSE(world.part().wire->started);
}

TEST_CASE("one answer counts, the first", "[sharing]") {
    Loop loop;
    World world(loop);
    world.ask();
    world.part().follow();
    world.part().answers.run_here();
    world.part().answers.follow(std::make_unique<FakeSource>(std::make_shared<Wire>()));
    CHECK(world.part().wire->live());
    CHECK(world.executor->counts().runs == 0);
}

TEST_CASE("F5: the last to leave here asks whether somebody waits elsewhere", "[sharing]") {
    Loop loop;
    World world(loop);
    Asked& one = world.ask();
    world.part().follow();
    World::leave(one);
    CHECK(world.part().alone == 1);
    CHECK_FALSE(world.part().wire->terminated);
    SECTION("nobody does") {
        world.part().answers.nobody_else();
        CHECK(world.part().wire->terminated);
        Asked& next = world.ask();
        CHECK(next.flight != one.flight);  // F6
        world.part().wire->end(Outcome::signalled(15));
        CHECK(world.part().concluded->outcome == Outcome::cancelled());
        world.part().conclude();
        loop.run();
        CHECK(world.part(1).asked());
    }
    SECTION("who asks here meanwhile may have come too late, and waits") {
        Asked& two = world.ask();
        CHECK(two.flight != one.flight);
        world.part().answers.nobody_else();
        CHECK(world.part().wire->terminated);
        World::leave(two);
        world.part().wire->end(Outcome::signalled(15));
        world.part().conclude();
    }
    SECTION("somebody does, and it can be joined as before") {
        world.part().answers.somebody_else();
        Asked& two = world.ask();
        CHECK(two.flight == one.flight);
        CHECK(world.part().joined == 1);
        world.part().answers.nobody_else();  // too late
        CHECK_FALSE(world.part().wire->terminated);
        World::leave(two);
        CHECK(world.part().alone == 2);
    }
}

TEST_CASE("M30: a run that is lost before it gave anything is asked about again, unseen", "[sharing]") {
    Loop loop;
    World world(loop);
    Asked& one = world.ask("echo here");
    world.part().follow();
    const auto lost = world.part().wire;
    SECTION("nothing was given") {
        const auto spool = one.ticket.state().spool;
        CHECK(world.part().answers.again());
        CHECK(lost->gone);
        CHECK(one.ticket.state().phase == Run::Phase::asking);
        CHECK_FALSE(world.part().answers.again());  // it has no source
        CHECK(world.ask("echo here").flight == one.flight);
        world.part().answers.run_here();
        CHECK(one.ticket.state().spool == spool);  // somebody may be reading it
        loop.run();
        REQUIRE(world.part().concluded);
        world.part().conclude();
        loop.run();
        CHECK(text_of(*one.results.at(0)) == "here\n");
        CHECK(world.asked.back().results == one.results);
    }
    SECTION("something came, and nobody reads it before the end: it starts over") {
        lost->say("x");
        const auto spool = one.ticket.state().spool;
        CHECK(world.part().answers.again());
        CHECK(lost->gone);
        world.part().answers.run_here();
        CHECK(one.ticket.state().spool != spool);
        loop.run();
        REQUIRE(world.part().concluded);
        world.part().conclude();
        loop.run();
        CHECK(text_of(*one.results.at(0)) == "here\n");
    }
    SECTION("something was") {
        one.ticket.state().read_live = true;
        lost->say("x");
        CHECK_FALSE(world.part().answers.again());
        CHECK_FALSE(lost->gone);
        world.part().answers.over(Outcome::lost("lost after 1 byte"), 0ms);
        CHECK(lost->terminated);
        lost->end(Outcome::cancelled());
        world.part().conclude();
        loop.run();
        CHECK(one.results.at(0)->outcome == Outcome::lost("lost after 1 byte"));
    }
}

TEST_CASE("F2, M15: who asks when what is followed is known to be over gets another", "[sharing]") {
    Loop loop;
    World world(loop);
    Asked& one = world.ask();
    const bool known_at_once = GENERATE(true, false);
    if (known_at_once) world.part().answers.over_elsewhere();
    world.part().follow();
    if (!known_at_once) {
        CHECK(world.ask().flight == one.flight);
        world.part().answers.over_elsewhere();
    }
    Asked* late = &world.ask();
    CHECK(late->flight != one.flight);
    SECTION("after all of its output has come") {
        world.part().wire->say("x");
        world.part().wire->end(Outcome::exited(0));
        world.part().conclude();
    }
    SECTION("what is asked about anew can be joined, where nobody has come meanwhile") {
        World::leave(*late);
        CHECK(world.part().answers.again());
        CHECK(world.ask().flight == one.flight);
        world.part().answers.over(Outcome::cancelled(), 0ms);
        late = &world.ask();
    }
    loop.run();
    CHECK(one.results.size() == 1);
    CHECK(late->results.empty());
    REQUIRE(world.sharing.parts.size() == 2);
    world.part(1).answers.over(Outcome::cancelled(), 0ms);
    loop.run();
}

TEST_CASE("C2, M25: what waits for a run elsewhere takes neither place nor turn, and asks for both again",
          "[sharing]") {
    Loop loop;
    FakeTurnstile turnstile;
    World world(loop, {.jobs = 1, .turnstile = &turnstile});
    Asked& one = world.ask("echo here", [](Job& job) { job.run_class = RunClass{.name = "heavy"}; });
    turnstile.let_in(0);
    REQUIRE(world.sharing.parts.size() == 1);
    world.ask("other");
    CHECK(world.sharing.parts.size() == 1);
    world.part().answers.waits();
    CHECK(turnstile.places[0]->gone);
    REQUIRE(world.sharing.parts.size() == 2);
    world.part(1).answers.over(Outcome::cancelled(), 0ms);
    SECTION("it is run here after all") {
        world.part().answers.run_here();
        REQUIRE(turnstile.places.size() == 2);
        CHECK(world.part().withdrawn);
        CHECK(world.sharing.parts.size() == 2);
        turnstile.let_in(1);
        world.part(2).answers.run_here();
        loop.run();
        world.part(2).conclude();
        loop.run();
        CHECK(text_of(*one.results.at(0)) == "here\n");
    }
    SECTION("there is no turn to be had: those elsewhere hear of that") {
        turnstile.refuses = true;
        world.part().answers.run_here();
        REQUIRE(world.part().concluded);
        world.part().conclude();
        loop.run();
        CHECK(one.results.at(0)->outcome.kind == Outcome::Kind::refused);
    }
}

TEST_CASE("C3, M25: a turn is asked for on behalf of all, also of who joined while nothing waited for one",
          "[sharing]") {
    Loop loop;
    FakeTurnstile turnstile;
    World world(loop, {.jobs = 1, .turnstile = &turnstile});
    const auto in_class = [](Job& job) {
        job.run_class = RunClass{.name = "heavy"};
        job.asker = 1;
    };
    Asked& one = world.ask("echo here", in_class);
    CHECK(turnstile.places.at(0)->askers == std::vector<pid_t>{1});
    turnstile.let_in(0);
    world.part().answers.waits();
    for (const pid_t asker : {2, 1, 3, 2}) world.executor->joined_by(world.ask("echo here").ticket, asker);
    world.part().answers.run_here();
    REQUIRE(turnstile.places.size() == 2);
    CHECK(turnstile.places[1]->askers == std::vector<pid_t>{1, 2, 3});
    turnstile.let_in(1);
    world.part(1).answers.run_here();
    loop.run();
    world.part(1).conclude();
    loop.run();
    CHECK(text_of(*one.results.at(0)) == "here\n");
}

TEST_CASE("C3, M30: a turn that is waited for goes with the flight, and the lease before that", "[sharing]") {
    Loop loop;
    FakeTurnstile turnstile;
    World world(loop, {.jobs = 1, .turnstile = &turnstile});
    Asked& one = world.ask("echo here", [](Job& job) { job.run_class = RunClass{.name = "heavy"}; });
    turnstile.let_in(0);
    world.part().follow();
    CHECK(world.part().answers.again());
    world.part().answers.run_here();
    REQUIRE(turnstile.places.size() == 2);
    CHECK(world.part().withdrawn);
    world.executor->cancel(one.flight);
    CHECK(turnstile.places[1]->gone);
    turnstile.places[1]->on_come();  // it was on its way
    loop.run();
    CHECK(world.sharing.parts.size() == 1);
    CHECK(one.results.at(0)->outcome.kind == Outcome::Kind::cancelled);
}

TEST_CASE("F12, M14, M35: what is to be run here after all holds no lease while it waits for a place", "[sharing]") {
    Loop loop;
    World world(loop);
    Asked& one = world.ask("echo here", [](Job& job) { job.retries = 1; });
    world.part().follow();
    Asked& other = world.ask("read x");
    world.part(1).answers.run_here();
    REQUIRE(other.ticket.state().phase == Run::Phase::running);
    const auto ends_other = [&] {
        world.executor->cancel(other.flight);
        loop.run();
        REQUIRE(world.part(1).concluded);
        world.part(1).conclude();
        loop.run();
    };
    SECTION("it asks when it has one, and has all its retries") {
        CHECK(world.part().answers.again());
        world.part().answers.run_here();
        CHECK(world.part().withdrawn);
        CHECK(one.ticket.state().phase == Run::Phase::queued);
        CHECK(world.sharing.parts.size() == 2);
        ends_other();
        REQUIRE(world.sharing.parts.size() == 3);
        SECTION("it runs") {
            world.part(2).answers.run_here();
            loop.run();
            CHECK(world.part(2).concluded->attempts == 1);
            world.part(2).conclude();
            loop.run();
            CHECK(text_of(*one.results.at(0)) == "here\n");
        }
        SECTION("another was quicker") {
            world.part(2).follow();
            world.part(2).wire->say("there\n");
            world.part(2).wire->end(Outcome::exited(0));
            world.part(2).conclude();
            loop.run();
            CHECK(text_of(*one.results.at(0)) == "there\n");
        }
    }
    SECTION("who leaves meanwhile leaves nothing behind") {
        CHECK(world.part().answers.again());
        world.part().answers.run_here();
        World::leave(one);
        ends_other();
        CHECK(world.sharing.parts.size() == 2);
    }
    SECTION("who had left before it came has been told of nobody, and waits for no answer") {
        CHECK(world.part().answers.again());
        World::leave(one);
        CHECK(world.part().alone == 1);
        world.part().answers.run_here();
        ends_other();
        CHECK(world.sharing.parts.size() == 2);
    }
    CHECK(world.executor->flights().empty());
}

TEST_CASE("M19: a lease that comes when nothing starts any more is given back", "[sharing]") {
    Loop loop;
    World world(loop);
    Asked& one = world.ask("echo run >>runs");
    world.executor->start_no_more();
    world.part().answers.run_here();
    REQUIRE(world.part().concluded);
    CHECK(world.executor->counts().runs == 0);
    world.part().conclude();
    loop.run();
    CHECK(one.results.at(0)->outcome.kind == Outcome::Kind::cancelled);
}

TEST_CASE("M28: what ends a run from elsewhere gives it a grace period, also between two tries", "[sharing]") {
    Loop loop;
    World world(loop);
    Asked& one = world.ask("exit 3", [](Job& job) { job.retries = 1000; });
    world.part().answers.run_here();
    Timer between(loop);
    between.start(20ms, [&] { world.part().answers.over(Outcome::lost("lost"), 0ms); });
    loop.run();
    REQUIRE(world.part().concluded);
    CHECK(world.part().concluded->outcome == Outcome::lost("lost"));
    world.part().conclude();
    loop.run();
    CHECK(one.results.size() == 1);
}

TEST_CASE("M28: an end of ours may be none of the command's, and then nothing is tried again", "[sharing]") {
    Loop loop;
    World world(loop);
    Asked& one = world.ask("exit 3", [](Job& job) { job.retries = 2; });
    world.part().judgement = Outcome::lost("ended by its guard");
    world.part().answers.run_here();
    loop.run();
    REQUIRE(world.part().concluded);
    CHECK(world.part().judged == 1);
    CHECK(world.part().concluded->attempts == 1);
    world.part().conclude();
    loop.run();
    CHECK(one.results.at(0)->outcome == Outcome::lost("ended by its guard"));
}

TEST_CASE("M14, M21, M28, F5: what ends a run for good while its timeout ends this try leaves no other one",
          "[sharing]") {
    constexpr auto time = 20ms;
    Loop loop;
    World world(loop);
    Asked& one = world.ask("exec sleep 1000", [&](Job& job) {
        job.timeout = time;
        job.retries = 1;
    });
    world.part().answers.run_here();
    Timer then(loop);  // right behind the timeout, before anything is heard of the process
    Outcome expected = Outcome::cancelled();
    SECTION("the last one leaves, and nobody waits elsewhere") {
        then.start(time, [&] {
            World::leave(one);
            world.part().answers.nobody_else();
        });
    }
    SECTION("it is cancelled here") {
        then.start(time, [&] { world.executor->cancel(one.flight); });
    }
    SECTION("it is cancelled elsewhere") {
        expected = Outcome::cancelled_for_everyone();
        then.start(time, [&] { world.part().answers.over(Outcome::cancelled_for_everyone(), 0ms); });
    }
    SECTION("another machine has taken over") {
        expected = Outcome::lost("taken over");
        then.start(time, [&] { world.part().answers.over(Outcome::lost("taken over"), 0ms); });
    }
    SECTION("its lease has passed meanwhile") {
        expected = Outcome::lost("ended by its guard");
        world.part().judgement = expected;
    }
    // Both are due when the loop looks at its timers next, and so nothing is heard between the one and the other.
    loop.post([time] { std::this_thread::sleep_for(2 * time); });
    loop.run();
    REQUIRE(world.part().concluded);
    CHECK(world.part().concluded->outcome == expected);
    CHECK(world.executor->counts().runs == 1);
    world.part().conclude();
    loop.run();
    CHECK(world.executor->flights().empty());
}

TEST_CASE("M15: what is asked about knows its newest request, and whether one is fresh", "[sharing]") {
    Loop loop;
    World world(loop);
    Asked& one = world.ask();
    CHECK_FALSE(world.part().run->fresh);
    const auto first = world.part().run->newest_request;
    CHECK(first > 0ms);
    while (since_boot() == first) {
    }
    world.ask();
    CHECK(world.part().run->newest_request > first);
    CHECK(world.part().joined == 1);
    Asked& fresh = world.ask("line", {}, {.fresh = true});
    CHECK(fresh.flight != one.flight);  // M18: it never joins one that has asked
    CHECK_FALSE(world.part().run->fresh);
    world.part().follow();
    world.part().wire->end(Outcome::exited(0));
    world.part().conclude();
    loop.run();
    REQUIRE(world.sharing.parts.size() == 2);
    CHECK(world.part(1).run->fresh);
    world.part(1).answers.over(Outcome::cancelled(), 0ms);
    loop.run();
}

TEST_CASE("M15, M19: who waits for an earlier run's end has asked when it came, or before it came here", "[sharing]") {
    Loop loop;
    World world(loop);
    Asked& one = world.ask();
    world.part().follow();
    World::leave(one);
    Asked& two = world.ask();
    CHECK(two.flight != one.flight);
    const auto came = since_boot();
    while (since_boot() == came) {
    }
    world.part().answers.nobody_else();
    world.part().wire->end(Outcome::signalled(15));
    world.part().conclude();
    loop.run();
    REQUIRE(world.sharing.parts.size() == 2);
    CHECK(world.part(1).run->newest_request <= came);
    world.part(1).answers.over(Outcome::cancelled(), 0ms);
    loop.run();
    world.ask("line", [](Job& job) { job.asked = 5ms; });
    CHECK(world.part(2).run->newest_request == 5ms);
    world.part(2).answers.over(Outcome::cancelled(), 0ms);
    loop.run();
}

TEST_CASE("a job that is shared by no name is asked about nowhere", "[sharing]") {
    Loop loop;
    World world(loop);
    Asked& one = world.ask("echo here", [](Job& job) { job.shared_as.clear(); });
    loop.run();
    CHECK(world.sharing.parts.empty());
    CHECK(text_of(*one.results.at(0)) == "here\n");
}

TEST_CASE("F2: who asks between a run's end and its landing gets another", "[sharing]") {
    Loop loop;
    World world(loop);
    Asked& one = world.ask();
    world.part().follow();
    world.part().wire->end(Outcome::exited(0));
    Asked& two = world.ask();
    CHECK(two.flight != one.flight);
    CHECK(world.executor->cancel(one.flight));  // it is over: there is nothing to be ended
    CHECK(world.sharing.parts.size() == 1);     // one live run a key
    world.part().conclude();
    loop.run();
    CHECK(one.results.at(0)->outcome == Outcome::exited(0));
    CHECK(two.results.empty());
    REQUIRE(world.sharing.parts.size() == 2);
    world.part(1).answers.over(Outcome::cancelled(), 0ms);
    loop.run();
    CHECK(two.results.at(0)->outcome == Outcome::cancelled());
}

namespace {

// One flight after another of one key, driven by letters; what must hold is checked after each.
class Orders {
  public:
    Orders(Loop& loop, bool prompt) : world_(loop), prompt_(prompt) { world_.ask(); }

    // False where there is nothing to do that to.
    bool play(char letter) {
        Part& part = *world_.sharing.parts.back();
        const bool running = part.wire->live();
        const bool concluding = part.concluded != nullptr && part.done;
        const auto waits = std::find_if(world_.asked.begin(), world_.asked.end(),
                                        [](const Asked& who) { return !who.gone && who.results.empty(); });
        switch (letter) {
            case 'j':
                world_.ask();
                break;
            case 'J':
                world_.ask("line", {}, {.fresh = true});
                break;
            case 'l':
                if (waits == world_.asked.end()) return false;
                World::leave(*waits);
                break;
            case 'f':
                if (!part.asked()) return false;
                part.follow();
                break;
            case 'r':
                if (!part.asked()) return false;
                part.wire->refusal = RunSource::Refusal{Outcome::refused(0, "no"), true};
                part.follow();
                break;
            case 'o':
                if (!running) return false;
                part.wire->say("x");
                ++part.said;
                break;
            case 'e':
                if (!running) return false;
                part.wire->end(Outcome::exited(0));
                break;
            case 'a': {
                if (!running) return false;
                const bool begins_anew = may_end_ != part.flight;  // nobody here reads before the end
                CHECK(part.answers.again() == begins_anew);
                if (begins_anew) part.wire = std::make_shared<Wire>();
                break;
            }
            case 'D':
                if (!running) return false;
                part.answers.over_elsewhere();
                break;
            case 's':
                if (part.alone == 0 || part.withdrawn) return false;
                part.answers.somebody_else();
                break;
            case 'n':
                if (part.alone == 0 || part.withdrawn) return false;
                if (waiting(part.flight) == 0) may_end_ = part.flight;
                part.answers.nobody_else();
                break;
            case 'x':
                if (!running && !part.asked()) return false;
                may_end_ = part.flight;
                part.answers.over(Outcome::lost("lost"), 0ms);
                break;
            case 'c':
                if (!running && !part.asked() && !concluding) return false;
                if (!concluding) may_end_ = part.flight;
                CHECK(world_.executor->cancel(part.flight));
                break;
            case 'd':
                if (!concluding) return false;
                part.conclude();
                break;
        }
        if (prompt_) world_.loop.run();
        look();
        return true;
    }

    // Everything comes to its end, and everybody who waits hears of it once.
    void finish() {
        for (int turns = 0; turns < 50; ++turns) {
            world_.loop.run();
            const bool more = play('d') || play('e') || play('x');
            if (!more) break;
        }
        CHECK(world_.executor->flights().empty());
        for (const Asked& who : world_.asked) CHECK((who.gone ? who.results.size() <= 1 : who.results.size() == 1));
        for (const auto& part : world_.sharing.parts) CHECK(part->withdrawn);
    }

  private:
    [[nodiscard]] std::size_t waiting(FlightId flight) const {
        return static_cast<std::size_t>(std::count_if(
            world_.asked.begin(), world_.asked.end(),
            [flight](const Asked& who) { return who.flight == flight && !who.gone && who.results.empty(); }));
    }

    void look() {
        std::size_t live = 0;
        for (const auto& part : world_.sharing.parts) {
            live += part->wire->live() ? 1 : 0;
            if (part->withdrawn) continue;
            // Nobody here has been told before those elsewhere.
            for (const Asked& who : world_.asked) CHECK((who.flight != part->flight || who.results.empty()));
            // It goes on until it may end.
            if (part->wire->live()) CHECK(part->wire->terminated == (may_end_ == part->flight));
        }
        CHECK(live <= 1);  // F1
        for (const Asked& who : world_.asked)
            for (const Asked& other : world_.asked)
                if (who.flight == other.flight && !who.results.empty() && !other.results.empty())
                    CHECK(who.results == other.results);
    }

    World world_;
    bool prompt_;
    FlightId may_end_ = 0;
};

// Each sequence of letters that all find something to do; true if this one did.
bool play(Loop& loop, const std::string& letters, bool prompt, bool to_the_end) {
    Orders orders(loop, prompt);
    const bool all = std::all_of(letters.begin(), letters.end(), [&](char letter) { return orders.play(letter); });
    if (all && to_the_end) orders.finish();
    return all;
}

}  // namespace

TEST_CASE("F1, F2, F5, F6: whatever order things come in, one run a key, and everybody hears its end once",
          "[sharing]") {
    constexpr std::string_view events = "jJlfroenasxcdD";
    constexpr std::size_t length = 6;
    Loop loop;
    std::size_t played = 0;
    std::vector<std::string> sequences{""};
    while (!sequences.empty()) {
        std::string letters = std::move(sequences.back());
        sequences.pop_back();
        INFO("j, then " << letters);
        // The executor may also go in the middle of it.
        if (!play(loop, letters, true, true)) continue;
        play(loop, letters, false, played % 2 == 0);
        ++played;
        if (letters.size() == length) continue;
        for (const char event : events) sequences.push_back(letters + event);
    }
    CHECK(played > 10'000);
}
