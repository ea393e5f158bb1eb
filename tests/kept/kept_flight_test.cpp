// SPDX-License-Identifier: MIT
// What becomes of one run's result, where a test from outside cannot have the machine or the disk stand still.
#include <coalesce/kept/kept_desk.h>

#include <fcntl.h>

#include "../catch.h"

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <coalesce/io/descriptor.h>
#include <coalesce/io/loop.h>

#include "../scratch.h"
#include "kept_flights.h"

using namespace coalesce;
using namespace std::chrono_literals;

namespace {

// Whoever writes there waits, as long as it lives.
Descriptor lock_all_of(const StorePlace& place) {
    Descriptor file(::open((place.path() + "/lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    struct flock all {};
    all.l_type = F_WRLCK;
    REQUIRE(::fcntl(file.get(), F_OFD_SETLK, &all) == 0);
    return file;
}

RunResult with_output(std::size_t bytes, const SpoolLimits& limits) {
    RunResult result;
    result.outcome = Outcome::exited(0);
    result.started = std::chrono::system_clock::now();
    result.spool = std::make_shared<Spool>(limits);
    REQUIRE(result.spool->append(Stream::out, std::string(bytes, 'x')));
    result.spool->close();
    return result;
}

// A desk whose disk is busy until it goes on.
struct KeptStoreAtWork {
    const Scratch scratch;
    const StorePlace place{.base = scratch.path("cache"), .name = "1"};
    std::optional<KeptStore> store = KeptStore::open(place, true).value();
    Loop loop;
    MemoryBudget budget{3'000'000};
    const SpoolLimits limits{.store = {.budget = &budget}};
    std::vector<std::string> not_written;
    KeptDesk desk{loop,
                  limits,
                  {.place = place, .make_refresh_program = {}, .in_child = {}},
                  {.on_not_written = [this](const std::string& words) { not_written.push_back(words); }}};
    Job job = job_of_true();
    std::shared_ptr<const CanonicalSurroundings> canonical = some_surroundings();
    const Wish wish{.ttl = 1h};
    std::optional<Descriptor> lock;

    static Job job_of_true() {
        Job job;
        job.command = {.argv = {"true"}, .surroundings = std::make_shared<const Surroundings>(), .stdin_bytes = {}};
        return job;
    }
    KeptQuestion question(std::string_view words) const {
        return {.job = job, .surroundings = canonical, .words = words, .wish = wish};
    }
    StoreKey key_of(std::string_view words) const { return store_key({canonical, words}); }

    void keep(std::string_view words, std::size_t bytes) {
        if (!lock) {
            lock = lock_all_of(place);
            desk.forget({canonical, "something"}, [](const Result<>&) {});  // what is to be kept is kept after that
        }
        desk.keeper(question(words))->keep(std::make_shared<const RunResult>(with_output(bytes, limits)), [] {});
    }
    void go_on() {
        lock.reset();
        loop.run();
    }
};

// Whether somebody looked while a result was being kept, and was given it. Not if it took a second: then nobody waits.
bool waited_for_it() {
    KeptStoreAtWork at_work;
    at_work.keep("words", 0);
    bool answered = false;
    std::shared_ptr<const RunResult> found;
    at_work.desk.look(at_work.question("words"), [&](std::shared_ptr<const RunResult> result) {
        answered = true;
        found = std::move(result);
        at_work.loop.stop();
    });
    bool looked = false;
    at_work.desk.look(at_work.question("other words"), [&](const std::shared_ptr<const RunResult>&) {
        looked = true;
        at_work.loop.stop();
    });
    while (!looked) at_work.loop.run();
    if (answered) return false;
    at_work.lock.reset();
    while (!answered) at_work.loop.run();
    return found != nullptr;
}

}  // namespace

TEST_CASE("T13: who looks while a result is being kept is given it", "[kept]") {
    bool waited = false;
    for (int attempt = 0; attempt < 20 && !waited; ++attempt) waited = waited_for_it();
    CHECK(waited);
}

TEST_CASE("T2: how old a result is counts from its run's end, however long the disk is busy", "[kept]") {
    KeptStoreAtWork at_work;
    at_work.keep("words", 0);
    const Moment over = now();
    at_work.go_on();
    const auto kept = at_work.store->look(at_work.key_of("words").name, Entry::Check::all);
    REQUIRE(kept);
    REQUIRE(kept.value());
    CHECK(kept.value()->facts().ended.boot_ns <= over.boot_ns);
}

TEST_CASE("F9, T15: what waits to be written is bounded", "[kept]") {
    KeptStoreAtWork at_work;
    at_work.keep("first", 1'000'000);  // one alone may be as long as it likes
    CHECK(at_work.not_written.empty());
    at_work.keep("second", 1'000'000);
    REQUIRE(at_work.not_written.size() == 1);
    CHECK(at_work.not_written.front().find("too much waits to be written") != std::string::npos);
    at_work.go_on();
    CHECK(at_work.store->look(at_work.key_of("first").name, Entry::Check::all).value());
    at_work.keep("third", 1'000'000);
    at_work.go_on();
    CHECK(at_work.not_written.size() == 1);
    CHECK(at_work.store->look(at_work.key_of("third").name, Entry::Check::all).value());
}

TEST_CASE("T13: what cannot be written in time is written when nobody waits", "[kept]") {
    const Scratch scratch;
    const StorePlace place{.base = scratch.path("cache"), .name = "1"};
    const SpoolLimits limits;
    const auto result = std::make_shared<const RunResult>(with_output(100'000, limits));
    KeptFlight flight = some_flight(place, {.ttl = 1h}, limits);
    flight.keep(result, now(), std::chrono::steady_clock::now() - 1s);
    CHECK(flight.words().empty());
    flight.after_delivery();
    CHECK(flight.words() == "kept for 1h");
}

TEST_CASE("T11: what a program made that is not known is not kept", "[kept]") {
    const Scratch scratch;
    const StorePlace place{.base = scratch.path("cache"), .name = "1"};
    const SpoolLimits limits;
    const auto result = std::make_shared<const RunResult>(without_output(Outcome::exited(0), limits));
    KeptFlight flight = some_flight(place, {.ttl = 1h}, limits, {});
    flight.keep(result, now(), std::nullopt);
    CHECK(flight.words() == "not kept: it is not known of which program it is");
    KeptFlight known = some_flight(place, {.ttl = 1h}, limits);
    known.keep(result, now(), std::nullopt);
    CHECK_FALSE(known.words().starts_with("not kept"));
}

TEST_CASE("T21: a run goes on for as long as the machine was suspended, too", "[kept]") {
    const Scratch scratch;
    const StorePlace place{.base = scratch.path("cache"), .name = "1"};
    auto store = KeptStore::open(place, true);
    REQUIRE(store);
    const SpoolLimits limits;
    KeptFlight flight = some_flight(place, {.ttl = 1h}, limits);
    REQUIRE(store.value()->forget(flight.key_name(), now()));
    RunResult result = without_output(Outcome::exited(0), limits);
    result.started -= 1h;
    result.duration = 1ns;
    flight.keep(std::make_shared<const RunResult>(std::move(result)), now(), std::nullopt);
    CHECK(flight.words() == "not kept: it was forgotten during the run");
}
