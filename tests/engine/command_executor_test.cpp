// SPDX-License-Identifier: MIT
// Command flights with a real loop and real processes: SPEC F1, F2, F4–F7, F9, F10, F12,
// retries and refusals. Callbacks record; what they recorded is checked after the loop.
// Commands are held on named pipes that the test holds open at both ends.
#include <coalesce/engine/command_executor.h>

#include <coalesce/command/shell_line.h>
#include <coalesce/io/loop.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <list>
#include <string>

#include "../catch.h"
#include "../time_enough.h"

using namespace coalesce;
using namespace std::chrono_literals;

namespace {

// Whoever asks, and what it was told.
struct Requester {
    RunTicket ticket;
    std::vector<std::shared_ptr<const RunResult>> results;
    std::size_t requesters = 0;
    bool lost = false;  // landed without a result
    std::function<void()> then;

    [[nodiscard]] const RunResult& result() const {
        REQUIRE(results.size() == 1);
        return *results.front();
    }
    [[nodiscard]] std::string out() const { return text(Stream::out); }
    [[nodiscard]] std::string err() const { return text(Stream::err); }

  private:
    [[nodiscard]] std::string text(Stream stream) const {
        std::string bytes;
        if (!result().spool) return bytes;
        SpoolReader reader(*result().spool);
        while (const auto piece = reader.next()) {
            REQUIRE(piece->extent.file < 0);
            if (piece->stream == stream) bytes += piece->extent.bytes;
            reader.advance(piece->extent.length);
        }
        CHECK(reader.finished());
        return bytes;
    }
};

class Room {
  public:
    explicit Room(CommandExecutor::Options options = {.jobs = 4}) : executor(loop, std::move(options)) {
        directory = std::filesystem::temp_directory_path() / "coalesce-engine-XXXXXX";
        REQUIRE(::mkdtemp(directory.data()) != nullptr);
        surroundings = std::make_shared<const Surroundings>(Surroundings{directory, {"PATH=/usr/bin:/bin"}, 022});
        for (const char* name : {"gate", "begun"}) {
            REQUIRE(::mkfifo((directory + "/" + name).c_str(), 0666) == 0);
            (name[0] == 'g' ? gate : begun) =
                Descriptor(::open((directory + "/" + name).c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
        }
    }
    ~Room() {
        std::error_code ignored;
        std::filesystem::remove_all(directory, ignored);
    }

    Requester& ask(const std::string& line, JoinOptions options = {}, std::function<void(Job&)> change = {}) {
        Requester& requester = requesters.emplace_back();
        requester.ticket = executor.submit(
            RequestKey{canonical, line},
            [this, line, change] {
                Job job{.command = {argv_of_line("/bin/sh", line), surroundings, {}}, .title = line, .grace = 5s};
                if (change) change(job);
                return job;
            },
            std::move(options));
        requester.ticket.then([&requester](const Landing<RunResult>& landing) {
            requester.requesters = landing.requesters;
            if (landing.value)
                requester.results.push_back(landing.value);
            else
                requester.lost = true;
            if (requester.then) requester.then();
        });
        return requester;
    }
    void open_gate(int count = 1) const {
        for (int i = 0; i < count; ++i) static_cast<void>(::write(gate.get(), "\n", 1));
    }
    // Calls `then` when that many commands have written to "begun" altogether.
    void when_begun(std::size_t count, std::function<void()> then) {
        auto watch = Watch::start(loop, begun.get(), Readiness::readable, [this, count, then = std::move(then)] {
            char bytes[256];
            const ssize_t got = ::read(begun.get(), bytes, sizeof bytes);
            begun_count += static_cast<std::size_t>(std::count(bytes, bytes + std::max<ssize_t>(got, 0), '\n'));
            if (begun_count < count) return;
            const auto call = then;
            begun_watch.reset();
            call();
        });
        begun_watch = std::move(*watch);
    }
    [[nodiscard]] std::string read(const std::string& name) const {
        std::ifstream file(directory + "/" + name);
        return {std::istreambuf_iterator<char>(file), {}};
    }
    void run() { loop.run(); }

    Loop loop;
    std::string directory;
    Descriptor gate;
    Descriptor begun;
    std::size_t begun_count = 0;
    Watch begun_watch;
    std::shared_ptr<const Surroundings> surroundings;
    std::shared_ptr<const CanonicalSurroundings> canonical = std::make_shared<const CanonicalSurroundings>("here");
    CommandExecutor executor;
    std::list<Requester> requesters;  // last: their tickets leave before the executor goes
};

}  // namespace

TEST_CASE("F1: who asks while the command runs shares its result object", "[executor]") {
    Room room;
    Requester& leader = room.ask("echo run >>runs; read x <gate; echo out; echo err >&2; exit 3");
    Requester& joiner = room.ask("echo run >>runs; read x <gate; echo out; echo err >&2; exit 3");
    Requester& other = room.ask("echo other");
    CHECK(leader.ticket.leader());
    CHECK_FALSE(joiner.ticket.leader());
    room.open_gate();
    room.run();
    CHECK(leader.result().outcome == Outcome::exited(3));
    CHECK(&leader.result() == &joiner.result());
    CHECK(leader.requesters == 2);
    CHECK(leader.out() == "out\n");
    CHECK(leader.err() == "err\n");
    CHECK(other.out() == "other\n");
    CHECK(room.read("runs") == "run\n");
    CHECK(room.executor.counts().runs == 2);
    CHECK(room.executor.flights().empty());
}

TEST_CASE("F2: three who ask again on completion are one second run", "[executor]") {
    Room room;
    const std::string line = "echo run >>runs";
    for (int i = 0; i < 3; ++i) {
        Requester& requester = room.ask(line);
        requester.then = [&] { room.ask(line); };
    }
    room.run();
    CHECK(room.read("runs") == "run\nrun\n");
    CHECK(room.requesters.size() == 6);
    for (const Requester& requester : room.requesters) CHECK(requester.results.size() == 1);
}

TEST_CASE("F4: a command that cannot be started fails for all with the reason", "[executor]") {
    Room room;
    const auto argv = [](const char* word) { return [word](Job& job) { job.command.argv = {word}; }; };
    Requester& missing = room.ask("a", {}, argv("./missing"));
    Requester& joined = room.ask("a", {}, argv("./missing"));
    Requester& directory = room.ask("b", {}, argv("/"));
    Requester& nowhere = room.ask("c", {}, [](Job& job) {
        job.command.surroundings = std::make_shared<const Surroundings>(Surroundings{"/nowhere", {}, 022});
    });
    room.run();
    CHECK(missing.result().outcome == Outcome::not_started(ENOENT, "cannot run ./missing: No such file or directory"));
    CHECK(missing.result().outcome.status() == 127);
    CHECK(joined.results.size() + room.requesters.size() == 5);  // it was over before the second asked, or not
    CHECK(directory.result().outcome.status() == 126);
    CHECK(nowhere.result().outcome == Outcome::refused(ENOENT, "cannot enter /nowhere: No such file or directory"));
    CHECK(room.executor.counts().runs == 0);
}

TEST_CASE("F5: who leaves disturbs no one, the last who leaves ends the run", "[executor]") {
    Room room;
    SECTION("the leader") {
        Requester& leader = room.ask("echo x >begun; read x <gate; echo out");
        Requester& joiner = room.ask("echo x >begun; read x <gate; echo out");
        room.when_begun(1, [&] {
            leader.ticket = {};
            room.open_gate();
        });
        room.run();
        CHECK(leader.results.empty());
        CHECK(joiner.out() == "out\n");
    }
    SECTION("the last") {
        Requester& leader =
            room.ask("trap 'echo TERM >>log; exit' TERM; echo x >begun; while :; do sleep 1000 >&- 2>&- & wait; done");
        Requester& joiner =
            room.ask("trap 'echo TERM >>log; exit' TERM; echo x >begun; while :; do sleep 1000 >&- 2>&- & wait; done");
        room.when_begun(1, [&] {
            joiner.ticket = {};
            leader.ticket = {};
        });
        room.run();
        CHECK(room.read("log") == "TERM\n");
        CHECK(leader.results.empty());
        CHECK(room.executor.flights().empty());
    }
    SECTION("the last, of a command that ignores TERM") {
        Requester& only = room.ask("trap '' TERM; echo x >begun; while :; do sleep 1000; done", {},
                                   [](Job& job) { job.grace = 50ms; });
        room.when_begun(1, [&] { only.ticket = {}; });
        room.run();
        CHECK(room.executor.flights().empty());
        CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);
    }
}

TEST_CASE("F6: a run being cancelled cannot be joined: who asks waits for its end and runs anew", "[executor]") {
    Room room;
    const std::string line =
        "trap 'read x <gate; echo over >>log; exit 9' TERM; echo run >>log; echo x >begun; sleep 1000 >&- 2>&- & wait; "
        "exit 4";
    Requester& first = room.ask(line);
    room.when_begun(1, [&] {
        first.ticket = {};
        Requester& second = room.ask(line, {}, [](Job& job) { job.command.argv[2] = "echo second >>log"; });
        Requester& third = room.ask(line);
        CHECK(second.ticket.leader());
        CHECK_FALSE(third.ticket.leader());
        second.then = [&] { CHECK(room.read("log") == "run\nover\nsecond\n"); };
        room.open_gate();
    });
    room.run();
    for (const Requester& requester : room.requesters)
        if (&requester != &first) CHECK(requester.result().outcome == Outcome::exited(0));
    CHECK(room.read("log") == "run\nover\nsecond\n");
}

TEST_CASE("F7: fresh requests wait for the next run, and share it", "[executor]") {
    Room room;
    const std::string line = "echo run >>runs; echo x >begun; read x <gate; wc -l <runs";
    Requester& first = room.ask(line);
    room.when_begun(1, [&] {
        Requester& fresh = room.ask(line, {.fresh = true});
        Requester& also = room.ask(line, {.fresh = true});
        Requester& plain = room.ask(line);
        CHECK(fresh.ticket.leader());
        CHECK(fresh.ticket.id() == also.ticket.id());
        CHECK(plain.ticket.id() == first.ticket.id());
        room.open_gate(2);
    });
    room.run();
    CHECK(first.out() == "1\n");
    auto at = std::next(room.requesters.begin());
    CHECK((at++)->out() == "2\n");
    CHECK((at++)->out() == "2\n");
    CHECK((at++)->out() == "1\n");
}

TEST_CASE("F7: a fresh request shares a run that is queued and has not begun", "[executor]") {
    Room room({.jobs = 1});
    room.ask("echo x >begun; read x <gate");
    Requester& queued = room.ask("echo run >>runs");
    room.when_begun(1, [&] {
        Requester& fresh = room.ask("echo run >>runs", {.fresh = true});
        CHECK(fresh.ticket.id() == queued.ticket.id());
        room.open_gate();
    });
    room.run();
    CHECK(room.read("runs") == "run\n");
}

TEST_CASE("F10: a timeout bounds the run, for all who share it", "[executor]") {
    with_time_enough([](std::chrono::milliseconds time) {
        Room room;
        const auto in_time = [time](Job& job) { job.timeout = time; };
        Requester& leader = room.ask("echo said; read x <gate", {}, in_time);
        Requester& joiner = room.ask("echo said; read x <gate", {}, in_time);
        Requester& quick = room.ask("echo quick", {}, [](Job& job) { job.timeout = 1h; });
        room.run();
        CHECK(leader.result().outcome == Outcome::timed_out());
        CHECK(joiner.result().outcome.status() == 124);
        CHECK(quick.result().outcome.success());
        return leader.out() == "said\n";
    });
}

TEST_CASE("F10: who asks while a run is ended by its timeout runs anew", "[executor]") {
    with_time_enough([](std::chrono::milliseconds time) {
        Room room;
        const std::string line = "trap 'echo x >begun; read x <gate; exit' TERM; sleep 1000 >&- 2>&- & wait";
        Requester& first = room.ask(line, {}, [time](Job& job) { job.timeout = time; });
        first.then = [&] { room.begun_watch.reset(); };  // the time was up before the trap was set
        room.when_begun(1, [&] {
            Requester& second = room.ask(line, {}, [](Job& job) { job.command.argv[2] = "echo second"; });
            CHECK(second.ticket.leader());
            room.open_gate();
        });
        room.run();
        CHECK(first.result().outcome == Outcome::timed_out());
        if (room.requesters.size() == 1) return false;
        CHECK(room.requesters.back().out() == "second\n");
        return true;
    });
}

TEST_CASE("F10: a timeout behind which there is no other try is told, whatever comes in its grace", "[executor]") {
    with_time_enough([](std::chrono::milliseconds time) {
        Room room;
        Requester& requester = room.ask("trap 'echo x >begun; read x <gate; exit' TERM; sleep 1000 >&- 2>&- & wait", {},
                                        [time](Job& job) { job.timeout = time; });
        requester.then = [&] { room.begun_watch.reset(); };  // the time was up before the trap was set
        bool cancelled = false;
        room.when_begun(1, [&] {
            cancelled = room.executor.cancel(requester.ticket.id());
            room.open_gate();
        });
        room.run();
        CHECK(requester.result().outcome == Outcome::timed_out());
        return cancelled;
    });
}

TEST_CASE("F12: flights wait in the order of their first request; joining takes no place", "[executor]") {
    Room room({.jobs = 1});
    room.ask("read x <gate");
    std::string wanted;
    for (int i = 0; i < 20; ++i) {
        room.ask("echo " + std::to_string(i) + " >>order");
        room.ask("echo 0 >>order");
        wanted += std::to_string(i) + "\n";
    }
    CHECK(room.executor.counts().queued == 20);
    CHECK(room.executor.counts().running == 1);
    room.open_gate();
    room.run();
    CHECK(room.read("order") == wanted);
}

TEST_CASE("F12: who waits for the end of a run of its key is before those that came later", "[executor]") {
    Room room({.jobs = 1});
    room.ask("echo same >>order; read x <gate");
    room.ask("echo same >>order; read x <gate", {.fresh = true});
    room.ask("echo later >>order");
    CHECK(room.executor.counts().queued == 1);  // the fresh one has yet to be admitted
    room.open_gate(2);
    room.run();
    CHECK(room.read("order") == "same\nsame\nlater\n");
}

TEST_CASE("F12: a queued flight that everybody left never starts", "[executor]") {
    Room room({.jobs = 1});
    room.ask("read x <gate");
    Requester& leader = room.ask("echo run >>runs");
    Requester& joiner = room.ask("echo run >>runs");
    room.ask("echo last >>order");
    leader.ticket = {};
    CHECK(room.executor.counts().queued == 2);
    joiner.ticket = {};
    CHECK(room.executor.counts().queued == 1);
    Requester& again = room.ask("echo run >>order");  // another key
    Requester& anew = room.ask("echo run >>runs");    // the same key: a new flight, behind the others
    CHECK(anew.ticket.leader());
    room.open_gate();
    room.run();
    CHECK(again.results.size() == 1);
    CHECK(room.read("order") == "last\nrun\n");
    CHECK(room.read("runs") == "run\n");
}

TEST_CASE("F12: a run that waits for another lends its place", "[executor]") {
    Room room({.jobs = 1});
    Requester& asking = room.ask("echo x >begun; read x <gate; echo asking >>order");
    CommandExecutor::Loan loan;
    room.when_begun(1, [&] {
        // It asks for another command, as a wrapper inside it would.
        loan = room.executor.lend_place_of(asking.ticket.id());
        Requester& asked = room.ask("echo asked >>order; echo $$ >pid");
        Requester& queued = room.ask("echo queued >>order");
        CHECK(room.executor.counts().running == 2);
        CHECK(room.executor.counts().queued == 1);
        static_cast<void>(queued);
        asked.then = [&] {
            loan = {};  // it has its answer; what runs in its place by now stays
            room.open_gate();
        };
    });
    room.run();
    CHECK(room.read("order").starts_with("asked\n"));
    CHECK(room.read("order").size() == std::string("asked\nqueued\nasking\n").size());
    CHECK(room.executor.counts().running == 0);
}

TEST_CASE("F12: a loan given back twice, or after its run, is given back once", "[executor]") {
    Room room({.jobs = 1});
    Requester& asking = room.ask("echo x >begun; read x <gate");
    std::optional<CommandExecutor::Loan> first;
    std::optional<CommandExecutor::Loan> second;
    room.when_begun(1, [&] {
        first.emplace(room.executor.lend_place_of(asking.ticket.id()));
        second.emplace(room.executor.lend_place_of(asking.ticket.id()));
        auto moved = std::move(*first);
        first.emplace(std::move(moved));
        room.open_gate();
    });
    asking.then = [&] {
        first.reset();
        second.reset();
        // The limit holds again: of two, one is queued.
        room.ask("echo a >>order");
        room.ask("echo b >>order");
        CHECK(room.executor.counts().running == 1);
        CHECK(room.executor.counts().queued == 1);
        auto none = room.executor.lend_place_of(987);
        static_cast<void>(none);
    };
    room.run();
    CHECK(room.read("order") == "a\nb\n");
}

TEST_CASE("F12: a loan outlasts a try: its flight's next one lends its own place, and gets it back", "[executor]") {
    Room room({.jobs = 1});
    Requester& asking = room.ask("echo run >>runs; echo x >begun; read x <gate; test $(wc -l <runs) -ge 2", {},
                                 [](Job& job) { job.retries = 1; });
    std::optional<CommandExecutor::Loan> loan;
    room.when_begun(1, [&] {
        loan.emplace(room.executor.lend_place_of(asking.ticket.id()));
        room.open_gate();  // it fails, with its place lent
        room.when_begun(2, [&] {
            CHECK(room.executor.counts().running == 1);
            loan.reset();
            room.ask("echo a >>order");
            room.ask("echo b >>order");
            CHECK(room.executor.counts().queued == 2);  // behind the second try, which has its place again
            room.open_gate();
        });
    });
    room.run();
    CHECK(asking.result().outcome.success());
    CHECK(room.read("runs") == "run\nrun\n");
    CHECK(room.read("order") == "a\nb\n");
}

TEST_CASE("L1: a result is read when executor and loop have gone, and a loan may outlive both", "[executor]") {
    std::shared_ptr<const RunResult> result;
    std::optional<CommandExecutor::Loan> loan;
    {
        Room room({.jobs = 1, .spool = {.store = {.heap_bytes = 100}, .replay_bytes = 10'000}});
        Requester& requester = room.ask("echo x >begun; read x <gate; head -c 5000 /dev/zero");
        room.when_begun(1, [&] {
            loan.emplace(room.executor.lend_place_of(requester.ticket.id()));
            room.open_gate();
        });
        room.run();
        result = requester.results.at(0);
    }
    loan.reset();
    CHECK(result->spool->replayable());
    SpoolReader reader(*result->spool);
    std::uint64_t read = 0;
    while (const auto piece = reader.next()) {
        read += piece->extent.length;
        reader.advance(piece->extent.length);
    }
    CHECK(read == 5000);
    CHECK(reader.finished());
}

TEST_CASE("L1: a spool is read when the executor has gone in the middle of its run", "[executor]") {
    std::shared_ptr<Spool> spool;
    {
        Room room({.jobs = 1, .spool = {.store = {.heap_bytes = 100}, .replay_bytes = 50'000}});
        Requester& requester = room.ask("yes");
        room.executor.on_stalled([&](FlightId) {
            spool = requester.ticket.state().spool;
            room.loop.stop();
        });
        room.loop.run();
    }
    REQUIRE(spool);
    SpoolReader reader(*spool);
    while (const auto piece = reader.next()) reader.advance(piece->extent.length);
    CHECK(reader.position() == spool->size());
}

TEST_CASE("B5: retries run a failed command again; the last attempt's output is kept alone", "[executor]") {
    Room room({.jobs = 1});
    Requester& requester =
        room.ask("echo run >>runs; wc -l <runs; test $(wc -l <runs) -ge 3", {}, [](Job& job) { job.retries = 4; });
    room.ask("echo next >>runs");
    room.run();
    CHECK(requester.result().outcome.success());
    CHECK(requester.result().attempts == 3);
    CHECK(requester.out() == "3\n");
    CHECK(room.read("runs") == "run\nrun\nrun\nnext\n");  // it keeps its turn
    CHECK(room.executor.counts().runs == 4);
}

TEST_CASE("B5: nothing is tried again once everybody has left, or the run was cancelled", "[executor]") {
    Room room;
    Requester& left =
        room.ask("echo run >>left; echo x >begun; read x <gate; exit 1", {}, [](Job& job) { job.retries = 9; });
    Requester& cancelled =
        room.ask("echo run >>cancelled; echo x >begun; exec sleep 1000", {}, [](Job& job) { job.retries = 9; });
    room.when_begun(2, [&] {
        left.ticket = {};
        CHECK(room.executor.cancel(cancelled.ticket.id()));
        CHECK_FALSE(room.executor.cancel(12345));
        room.open_gate();
    });
    room.run();
    CHECK(room.read("left") == "run\n");
    CHECK(room.read("cancelled") == "run\n");
    CHECK(cancelled.result().outcome == Outcome::cancelled());
}

TEST_CASE("F9: output that cannot be kept refuses the run, and what was kept can be read", "[executor]") {
    Room room({.jobs = 1, .spool = {.store = {.heap_bytes = 1000, .directory = "/no/such/directory"}}});
    Requester& requester = room.ask("echo first; echo x >begun; read x <gate; head -c 5000 /dev/zero; sleep 1000");
    Requester& next = room.ask("echo next");
    std::unique_ptr<SpoolReader> reader;
    room.when_begun(1, [&] {
        // What has been said may be in the pipe still; only what has been read can be kept.
        const auto go_on = [&] {
            if (requester.results.empty() && reader->next()) room.open_gate();
        };
        reader = std::make_unique<SpoolReader>(*room.executor.spool_of(requester.ticket.id()), go_on);
        go_on();
    });
    room.run();
    reader.reset();
    CHECK(requester.result().outcome.kind == Outcome::Kind::refused);
    CHECK(requester.result().outcome.reason ==
          "cannot make a file for the output in /no/such/directory: No such file or directory");
    CHECK(requester.out() == "first\n");
    CHECK(next.out() == "next\n");
}

TEST_CASE("F9: past the replay limit nobody joins, and the run is paused until somebody reads", "[executor]") {
    Room room({.jobs = 4, .spool = {.store = {.heap_bytes = 1 << 20}, .replay_bytes = 100'000}});
    const std::string line = "head -c 900000 /dev/zero; echo done >>log";
    Requester& requester = room.ask(line);
    std::unique_ptr<SpoolReader> reader;
    std::size_t seen = 0;
    int stalled = 0;
    std::uint64_t most = 0;
    room.executor.on_stalled([&](FlightId id) {
        if (++stalled > 1) return;
        room.loop.post([&, id] {
            const auto spool = room.executor.spool_of(id);
            CHECK(room.read("log").empty());
            CHECK_FALSE(spool->replayable());
            CHECK(room.ask(line, {}, [](Job& job) { job.command.argv[2] = "echo anew"; }).ticket.leader());
            const auto read_on = [&, spool = spool.get()] {
                most = std::max(most, spool->size() - seen);
                while (const auto piece = reader->next()) {
                    seen += piece->extent.length;
                    reader->advance(piece->extent.length);
                }
            };
            reader = std::make_unique<SpoolReader>(*spool, read_on);
            read_on();
        });
    });
    room.run();
    CHECK(stalled >= 1);
    CHECK(seen == 900'000);
    CHECK(most <= 100'000 + 65'536);
    CHECK(requester.result().outcome.success());
    CHECK_FALSE(requester.result().spool->whole());
    CHECK(room.requesters.back().out() == "anew\n");
    reader.reset();
}

// The reader outlived the run, and making room it resumed a child that was gone.
TEST_CASE("F9: a spool that is full when its run lands resumes nobody", "[executor]") {
    with_time_enough([](std::chrono::milliseconds time) {
        Room room({.jobs = 4, .spool = {.store = {}, .replay_bytes = 1000}});
        Requester& requester = room.ask("trap '' TERM; exec yes", {}, [time](Job& job) {
            job.timeout = time;
            job.grace = 50ms;
        });
        std::unique_ptr<SpoolReader> reader;
        room.executor.on_stalled([&](FlightId id) {
            if (!reader) reader = std::make_unique<SpoolReader>(*room.executor.spool_of(id));  // and reads nothing
        });
        room.run();
        CHECK(requester.result().outcome == Outcome::timed_out());
        if (!reader) return false;
        CHECK(requester.result().spool->full());
        while (const auto piece = reader->next()) reader->advance(piece->extent.length);
        CHECK(reader->finished());
        room.run();
        return true;
    });
}

TEST_CASE("F9: what nobody will read is not kept while a cancelled run takes its grace period", "[executor]") {
    Room room({.jobs = 1, .spool = {.store = {}, .replay_bytes = 200'000}});
    const std::string line = "trap '' TERM; echo x >begun; exec yes";
    Requester& requester = room.ask(line, {}, [](Job& job) { job.grace = 300ms; });
    std::uint64_t kept = 0;
    SECTION("everybody has left") {
        std::shared_ptr<Spool> spool;
        room.when_begun(1, [&] {
            spool = room.executor.spool_of(requester.ticket.id());
            requester.ticket = {};
        });
        room.run();
        kept = spool->size();
    }
    SECTION("it was cancelled for all") {
        room.when_begun(1, [&] { room.executor.cancel(requester.ticket.id()); });
        room.run();
        CHECK(requester.result().outcome == Outcome::cancelled());
        kept = requester.result().spool->size();
    }
    CHECK(kept < 400'000);
}

TEST_CASE("B6: refuse() ends one run at once, with the given outcome", "[executor]") {
    Room room;
    Requester& refused = room.ask("trap '' TERM; echo x >begun; while :; do sleep 1000; done");
    Requester& other = room.ask("echo other");
    room.when_begun(1, [&] {
        room.executor.refuse(refused.ticket.id(), Outcome::refused(0, "because"));
        room.executor.refuse(4711, Outcome::refused(0, "there is none"));
    });
    room.run();
    CHECK(refused.result().outcome == Outcome::refused(0, "because"));
    CHECK(other.out() == "other\n");
}

TEST_CASE("B4: while held nothing new starts", "[executor]") {
    Room room({.jobs = 2});
    room.executor.hold(true);
    room.ask("echo a >>order");
    room.ask("echo b >>order");
    room.run();
    CHECK(room.executor.counts().queued == 2);
    CHECK(room.read("order").empty());
    room.executor.hold(false);
    CHECK(room.executor.counts().running == 2);
    room.run();
    CHECK(room.read("order").size() == 4);
}

// It was put back into the queue, which nobody looked at again: the results that had led to the hold waited for it.
TEST_CASE("B5: what is tried again starts though nothing new may", "[executor]") {
    Room room({.jobs = 2});
    Requester& again = room.ask("echo run >>runs; echo x >begun; read x <gate; test $(wc -l <runs) -ge 2", {},
                                [](Job& job) { job.retries = 1; });
    room.when_begun(1, [&] {
        room.executor.hold(true);
        room.ask("echo next >>next");
        room.open_gate(2);
    });
    room.run();
    CHECK(again.result().outcome.success());
    CHECK(again.result().attempts == 2);
    CHECK(room.read("next").empty());
    room.executor.hold(false);
    room.run();
    CHECK(room.read("next") == "next\n");
}

TEST_CASE("B6: start_no_more() drops what is queued, pending, retried or asked for later", "[executor]") {
    Room room({.jobs = 1});
    const std::string line = "echo run >>runs; echo x >begun; read x <gate; exit 1";
    Requester& running = room.ask(line, {}, [](Job& job) { job.retries = 5; });
    Requester& queued = room.ask("echo run >>runs; :");
    room.when_begun(1, [&] {
        Requester& pending = room.ask(line, {.fresh = true});
        CHECK(pending.ticket.leader());
        room.executor.start_no_more();
        room.ask("echo run >>runs; : later");
        room.open_gate();
    });
    room.run();
    CHECK(running.result().outcome == Outcome::exited(1));
    CHECK(queued.result().outcome == Outcome::cancelled());
    auto at = std::next(room.requesters.begin(), 2);
    CHECK((at++)->result().outcome == Outcome::cancelled());
    CHECK((at++)->result().outcome == Outcome::cancelled());
    CHECK(room.read("runs") == "run\n");
    CHECK(room.executor.flights().empty());
}

TEST_CASE("B5: on_over is told of a failure before the next run takes its place", "[executor]") {
    Room room({.jobs = 1});
    room.executor.on_over([&](FlightId, const std::shared_ptr<const RunResult>& result) {
        if (!result->outcome.success()) room.executor.start_no_more();
    });
    room.ask("exit 1");
    room.ask("echo run >>runs");
    room.run();
    CHECK(room.read("runs").empty());
}

TEST_CASE("B3: on_over is told of a result while its key is still taken", "[executor]") {
    Room room;
    std::vector<std::uint64_t> over;
    room.executor.on_over([&](FlightId, const std::shared_ptr<const RunResult>& result) {
        over.push_back(result->run);
        if (over.size() == 1) CHECK_FALSE(room.ask("echo run >>runs").ticket.leader());
    });
    Requester& first = room.ask("echo run >>runs");
    const FlightId id = first.ticket.id();
    room.run();
    CHECK(room.requesters.back().result().run == id);
    // A command that cannot be started is over while it is being asked for.
    Requester& missing = room.ask("missing", {}, [](Job& job) { job.command.argv = {"./missing"}; });
    CHECK(over == std::vector<std::uint64_t>{id, missing.ticket.id()});
    room.run();
    CHECK(room.read("runs") == "run\n");
}

TEST_CASE("B6: an executor that is dropped kills what runs and starts nothing", "[executor]") {
    pid_t pid = 0;
    std::string runs;
    {
        Room room({.jobs = 1});
        room.ask("echo run >>runs; echo x >begun; trap '' TERM; while :; do sleep 1000; done");
        room.ask("echo run >>runs");
        for (auto& requester : room.requesters) std::move(requester.ticket).detach();
        room.when_begun(1, [&] { room.loop.stop(); });
        room.run();
        room.executor.flights().for_each([&](const Key&, const auto& view) {
            if (view.state.pid > 0) pid = view.state.pid;
        });
        runs = room.read("runs");
    }
    CHECK(runs == "run\n");
    CHECK(::kill(pid, 0) == -1);
    CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);
}

TEST_CASE("B1: input bytes are what the command reads, once an attempt", "[executor]") {
    Room room;
    Requester& requester = room.ask("echo run >>runs; cat; test $(wc -l <runs) -eq 2", {}, [](Job& job) {
        job.command.stdin_bytes = std::string("a\0b\n", 4);
        job.retries = 1;
    });
    Requester& empty = room.ask("wc -c; readlink /proc/self/fd/0", {}, [](Job& job) { job.command.stdin_bytes = ""; });
    room.run();
    CHECK(requester.out() == std::string("a\0b\n", 4));
    CHECK(empty.out().starts_with("0\n/memfd"));
}

TEST_CASE("B4: with no process to be had, runs wait for those before them", "[executor]") {
    // RLIMIT_NPROC does not bind root, so somebody else runs it.
    const bool root = ::geteuid() == 0;
    const pid_t tester = ::fork();
    REQUIRE(tester >= 0);
    if (tester == 0) {
        int failures = 1;
        {
            Room room({.jobs = 0});
            if (root && ::chown(room.directory.c_str(), 62345, 62345) != 0) ::_exit(91);
            if (root && (::setgid(62345) != 0 || ::setuid(62345) != 0)) ::_exit(90);
            const rlimit few{3, 3};
            ::setrlimit(RLIMIT_NPROC, &few);
            for (int i = 0; i < 40; ++i) room.ask("exec /bin/true " + std::to_string(i));
            room.run();
            failures = static_cast<int>(
                std::count_if(room.requesters.begin(), room.requesters.end(), [](const Requester& requester) {
                    return requester.results.size() != 1 || !requester.results[0]->outcome.success();
                }));
        }
        ::_exit(failures);
    }
    int status = -1;
    REQUIRE(::waitpid(tester, &status, 0) == tester);
    REQUIRE(WIFEXITED(status));
    // Where even the first could not start there is nobody to wait for.
    CHECK(WEXITSTATUS(status) == 0);
}

// It waited for another run's end, though there was room again.
TEST_CASE("F14: what could not start for want of something starts once there is room, while others go on",
          "[executor]") {
    Room room({.jobs = 4});
    bool first_is_over = false;
    Requester& first = room.ask("echo x >begun; read x <gate");
    first.then = [&] { first_is_over = true; };
    Timer too_late(room.loop);
    bool while_first_runs = false;
    room.when_begun(1, [&] {
        rlimit before{};
        REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
        const Descriptor next_free(::open("/dev/null", O_RDONLY | O_CLOEXEC));
        const rlimit none{static_cast<rlim_t>(next_free.get()), before.rlim_max};
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
        Requester& put_off = room.ask("echo there is room");
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &before) == 0);
        CHECK(room.executor.counts().queued == 1);
        put_off.then = [&] {
            while_first_runs = !first_is_over;
            too_late.stop();
            room.open_gate();
        };
        too_late.start(20s, [&] { room.open_gate(); });
    });
    room.run();
    CHECK(while_first_runs);
    CHECK(room.requesters.back().out() == "there is room\n");
}

TEST_CASE("F12: a hundred thousand queued flights cancelled at once start nothing", "[executor]") {
    Room room({.jobs = 1});
    room.executor.hold(true);
    for (int i = 0; i < 100'000; ++i) room.ask("false " + std::to_string(i));
    room.executor.start_no_more();
    room.run();
    CHECK(room.executor.counts().runs == 0);
    CHECK(room.executor.flights().empty());
    CHECK(std::all_of(room.requesters.begin(), room.requesters.end(),
                      [](const Requester& requester) { return requester.results.size() == 1; }));
}

TEST_CASE("B1: a plain line executed directly and the same line through the shell end alike", "[executor]") {
    for (const char* const line : {"/bin/echo plain", "/bin/sh -c 'kill -TERM $$'", "/bin/sh -c 'kill -SEGV $$'",
                                   "/bin/false", "no-such-command x", "./not-executable", "-e x"}) {
        Room room;
        std::ofstream(room.directory + "/not-executable") << "x";
        Requester& direct = room.ask(line, {}, [&](Job& job) { job.line = line; });
        room.run();
        Requester& shell = room.ask(line);
        room.run();
        INFO(line);
        CHECK(direct.result().outcome == shell.result().outcome);
        CHECK(direct.out() == shell.out());
        CHECK(direct.err() == shell.err());
    }
}

namespace {

// Remembers one result, and what it was asked and told.
struct Memory final : Retention {
    explicit Memory(CommandExecutor& of) : executor(of) {}
    std::shared_ptr<const RunResult> find() override {
        log += "find ";
        return result;
    }
    void keep(const std::shared_ptr<const RunResult>& told, UniqueFunction<void()> done) override {
        // Whoever asks when it is told must find it: so it is told while the key is taken.
        log += executor.flights().empty() ? "keep-too-late " : "keep ";
        result = told;
        if (later_on) return later.push_back(std::move(done));
        done();
    }
    CommandExecutor& executor;
    bool later_on = false;  // it answers when it is told to
    std::vector<UniqueFunction<void()>> later;
    std::shared_ptr<const RunResult> result;
    std::string log;
};

}  // namespace

TEST_CASE("T13: a result is told before its key is free, and served without a process or a place", "[executor]") {
    Room room({.jobs = 1});
    const auto memory = std::make_shared<Memory>(room.executor);
    const auto kept = [&](Job& job) { job.retention = memory; };
    const std::string line = "echo run >>runs; echo out; exit 3";
    Requester& first = room.ask(line, {}, kept);
    first.then = [&] { room.ask(line, {}, kept); };  // on completion
    room.run();
    CHECK(memory->log == "find keep find ");
    CHECK(room.read("runs") == "run\n");
    CHECK(room.executor.counts().runs == 1);
    CHECK(&room.requesters.back().result() == &first.result());

    room.executor.hold(true);  // no place is free
    Requester& served = room.ask(line, {}, kept);
    room.run();
    CHECK(served.out() == "out\n");
    CHECK(served.result().outcome == Outcome::exited(3));
    CHECK(room.executor.flights().empty());
}

TEST_CASE("T13: keeping may take its time: until then nobody is told, joins, or has the place", "[executor]") {
    Room room({.jobs = 1});
    const auto memory = std::make_shared<Memory>(room.executor);
    memory->later_on = true;
    const auto kept = [&](Job& job) { job.retention = memory; };
    const std::string line = "echo run >>runs; echo out";
    Requester& first = room.ask(line, {}, kept);
    Requester& other = room.ask("echo other >>runs");
    room.run();
    REQUIRE(memory->later.size() == 1);
    CHECK(first.results.empty());
    CHECK(other.results.empty());
    CHECK(room.read("runs") == "run\n");
    Requester& late = room.ask(line, {}, kept);  // not served by a run that was over when it came
    memory->later.front()();
    memory->later_on = false;
    room.run();
    CHECK(first.out() == "out\n");
    CHECK(late.out() == "out\n");
    CHECK(room.read("runs") == "run\nother\n");
}

TEST_CASE("T1: a flight without a retention runs each time", "[executor]") {
    Room room;
    const std::string line = "echo run >>runs";
    room.ask(line);
    room.run();
    room.ask(line);
    room.run();
    CHECK(room.read("runs") == "run\nrun\n");
}
