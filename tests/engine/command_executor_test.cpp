// Command flights with real processes: who runs, who shares, who waits.

#include <coalesce/engine/command_executor.h>
#include <coalesce/io/loop.h>

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

using namespace coalesce;
using namespace std::chrono_literals;

namespace {

struct TemporaryDirectory {
    TemporaryDirectory() {
        char name[] = "/tmp/coalesce-engine-XXXXXX";
        path = ::mkdtemp(name);
    }
    ~TemporaryDirectory() { std::system(("rm -rf " + path).c_str()); }  // NOLINT: a test's own directory
    std::string read(const std::string& name) const {
        std::ifstream file(path + "/" + name);
        return {std::istreambuf_iterator<char>(file), {}};
    }
    std::string path;
};

// An executor whose commands run in a directory of their own, and what became of
// each request, in the order of the landings.
struct World {
    explicit World(unsigned jobs = 1) : executor(loop, {.jobs = jobs}) {}

    RunTicket ask(const std::string& line, JoinOptions options = {}, Job job = {}) {
        words.clear();
        append_canonical_line(words, "/bin/sh", line);
        job.command = {.argv = {"/bin/sh", "-c", line}, .surroundings = surroundings, .stdin_bytes = {}};
        job.title = line;
        RunTicket ticket = executor.submit(RequestKey{canonical, words},
                                           [job = std::move(job)]() mutable { return std::move(job); }, std::move(options));
        ticket.then([this, line](const Landing<RunResult>& landing) {
            landings.push_back(line);
            results.push_back(landing.value);
        });
        return ticket;
    }
    void ask_and_wait(const std::string& line, JoinOptions options = {}, Job job = {}) {
        ask(line, std::move(options), std::move(job)).detach();
    }

    TemporaryDirectory directory;
    std::shared_ptr<const Surroundings> surroundings = std::make_shared<const Surroundings>(
        Surroundings{.cwd = directory.path, .env = {"PATH=/usr/bin:/bin"}, .umask = 022});
    std::shared_ptr<const CanonicalSurroundings> canonical =
        std::make_shared<const CanonicalSurroundings>(canonical_surroundings(*surroundings, {}));
    std::string words;
    Loop loop;
    CommandExecutor executor;
    std::vector<std::string> landings;
    std::vector<std::shared_ptr<const RunResult>> results;
};

std::string output_of(const RunResult& result) {
    std::string text;
    SpoolReader reader(*result.spool);
    while (const auto piece = reader.next()) {
        text += piece->extent.bytes;
        reader.advance(piece->extent.length);
    }
    return text;
}

}  // namespace

TEST_CASE("F1, F4: a hundred requests for one failing command are one run and a hundred failures", "[executor]") {
    World world;
    for (int i = 0; i < 100; ++i) world.ask_and_wait("echo ran >> runs; echo out; exit 3");
    world.loop.run();
    CHECK(world.directory.read("runs") == "ran\n");
    REQUIRE(world.results.size() == 100);
    for (const auto& result : world.results) {
        CHECK(result->outcome == Outcome::exited(3));
        CHECK(result.get() == world.results.front().get());
    }
    CHECK(output_of(*world.results.front()) == "out\n");
}

TEST_CASE("F2: three who ask again on completion share one second run", "[executor]") {
    World world;
    int again = 0;
    const std::string line = "echo ran >> runs";
    std::vector<RunTicket> tickets;
    for (int i = 0; i < 3; ++i) {
        world.words.clear();
        append_canonical_line(world.words, "/bin/sh", line);
        auto ticket = world.executor.submit(RequestKey{world.canonical, world.words}, [&world, line] {
            return Job{.command = {.argv = {"/bin/sh", "-c", line}, .surroundings = world.surroundings, .stdin_bytes = {}}};
        });
        ticket.then([&](const Landing<RunResult>&) {
            ++again;
            world.ask_and_wait(line);
        });
        std::move(ticket).detach();
    }
    world.loop.run();
    CHECK(again == 3);
    CHECK(world.results.size() == 3);
    CHECK(world.directory.read("runs") == "ran\nran\n");
}

TEST_CASE("F12: flights wait in the order of their first request, and joining takes no place", "[executor]") {
    World world(1);
    for (const char* const name : {"a", "b", "a", "c", "b", "a"}) world.ask_and_wait(std::string("echo ") + name + " >> order");
    world.loop.run();
    CHECK(world.directory.read("order") == "a\nb\nc\n");
    CHECK(world.results.size() == 6);
}

TEST_CASE("F12: a queued flight that everybody left never starts", "[executor]") {
    World world(1);
    world.ask_and_wait("true");
    auto ticket = world.ask("echo ran >> never");
    ticket.leave();
    world.ask_and_wait("echo ran >> after");
    world.loop.run();
    CHECK(world.directory.read("never").empty());
    CHECK(world.directory.read("after") == "ran\n");
}

TEST_CASE("F12: a run that waits for another lends its place", "[executor]") {
    World world(1);
    REQUIRE(::mkfifo((world.directory.path + "/gate").c_str(), 0600) == 0);
    auto outer = world.ask("read line < gate; echo outer >> order");
    CommandExecutor::Loan loan = world.executor.lend_place_of(outer.id());
    world.ask_and_wait("echo inner >> order; echo go > gate");  // would wait for ever for its place
    std::move(outer).detach();
    world.loop.run();
    CHECK(world.directory.read("order") == "inner\nouter\n");
}

TEST_CASE("F5, F6: the last to leave ends the run, and who asks meanwhile waits for its end and runs anew", "[executor]") {
    World world(4);
    REQUIRE(::mkfifo((world.directory.path + "/ready").c_str(), 0600) == 0);
    // The first run says that it is there, and takes its time to die.
    const std::string line =
        "if mkdir first 2>/dev/null; then trap 'echo first ends >> order; exit 9' TERM; echo up > ready; while :; do "
        "sleep 0.01; done; else echo second >> order; fi";
    auto leaving = world.ask(line);
    const int ready = ::open((world.directory.path + "/ready").c_str(), O_RDONLY);  // waits for the trap to be set
    char up[3];
    REQUIRE(::read(ready, up, sizeof up) == 3);
    ::close(ready);
    leaving.leave();
    CHECK(world.executor.flights().size() == 1);
    world.ask_and_wait(line);
    world.loop.run();
    CHECK(world.directory.read("order") == "first ends\nsecond\n");
    REQUIRE(world.results.size() == 1);
    CHECK(world.results.front()->outcome == Outcome::exited(0));
}

TEST_CASE("F7: fresh requests during a run share the next", "[executor]") {
    World world(4);
    REQUIRE(::mkfifo((world.directory.path + "/gate").c_str(), 0600) == 0);
    const std::string line = "echo ran >> runs; if mkdir first 2>/dev/null; then read line < gate; fi";
    world.ask_and_wait(line);
    const int gate = ::open((world.directory.path + "/gate").c_str(), O_WRONLY);  // the run is there now
    for (int i = 0; i < 5; ++i) world.ask_and_wait(line, {.fresh = true});
    REQUIRE(::write(gate, "go\n", 3) == 3);
    ::close(gate);
    world.loop.run();
    CHECK(world.directory.read("runs") == "ran\nran\n");
    CHECK(world.results.size() == 6);
}

TEST_CASE("F10: a timeout ends the run for all, also one that ignores TERM", "[executor]") {
    World world;
    Job job;
    job.timeout = 50ms;
    job.grace = 20ms;
    world.ask_and_wait("trap '' TERM; echo said; while :; do sleep 1; done", {}, std::move(job));
    world.ask_and_wait("trap '' TERM; echo said; while :; do sleep 1; done");
    world.loop.run();
    REQUIRE(world.results.size() == 2);
    for (const auto& result : world.results) {
        CHECK(result->outcome == Outcome::timed_out());
        CHECK(output_of(*result) == "said\n");
    }
}

TEST_CASE("B5: a failed command is tried again, and only the last attempt's output counts", "[executor]") {
    World world;
    Job job;
    job.retries = 5;
    world.ask_and_wait("echo try >> runs; echo attempt $(wc -l < runs); [ $(wc -l < runs) -ge 3 ]", {}, std::move(job));
    world.loop.run();
    CHECK(world.directory.read("runs") == "try\ntry\ntry\n");
    REQUIRE(world.results.size() == 1);
    CHECK(world.results.front()->outcome == Outcome::exited(0));
    CHECK(world.results.front()->attempts == 3);
    CHECK(output_of(*world.results.front()) == "attempt 3\n");
}

TEST_CASE("F4: a directory that is not there is everybody's failure, with the reason", "[executor]") {
    World world;
    world.surroundings = std::make_shared<const Surroundings>(Surroundings{.cwd = "/no/such/place", .env = {"PATH=/bin"}});
    world.ask_and_wait("true");
    world.ask_and_wait("true");
    world.loop.run();
    REQUIRE(world.results.size() == 2);
    CHECK(world.results.front()->outcome.status() == 125);
    CHECK(world.results.front()->outcome.reason == "cannot enter /no/such/place: No such file or directory");
}

TEST_CASE("F9: while held nothing new starts", "[executor]") {
    World world;
    world.executor.hold(true);
    world.ask_and_wait("echo ran >> runs");
    world.loop.run();
    CHECK(world.executor.counts().queued == 1);
    CHECK(world.directory.read("runs").empty());
    world.executor.hold(false);
    world.loop.run();
    CHECK(world.directory.read("runs") == "ran\n");
}

TEST_CASE("B1: a plain line and the same line through the shell end alike", "[executor]") {
    World world;
    for (const char* const line : {"/bin/echo plain", "/bin/sh -c 'kill -TERM $$'", "/bin/false", "no-such-command x"}) {
        Job direct;
        direct.line = line;
        world.ask_and_wait(line, {}, std::move(direct));
        world.loop.run();
        world.ask_and_wait(line);
        world.loop.run();
        REQUIRE(world.results.size() == 2);
        CHECK(world.results[0]->outcome == world.results[1]->outcome);
        CHECK(output_of(*world.results[0]) == output_of(*world.results[1]));
        world.results.clear();
    }
}
