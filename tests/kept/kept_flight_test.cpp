// SPDX-License-Identifier: MIT
// What becomes of one run's result, where a test from outside cannot have the machine or the disk stand still.
#include <coalesce/kept/kept_desk.h>

#include <fcntl.h>

#include "../catch.h"

#include <memory>
#include <string>

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

// Whether somebody looked while a result was being kept, and was given it. Not if it took a second: then nobody waits.
bool waited_for_it() {
    const Scratch scratch;
    const StorePlace place{.base = scratch.path("cache"), .name = "1"};
    REQUIRE(KeptStore::open(place, true));
    Loop loop;
    const SpoolLimits limits;
    KeptDesk desk(loop, limits, {.place = place, .make_refresh_program = {}, .in_child = {}},
                  {.on_not_written = [](const std::string&) {}});
    Job job;
    job.command = {.argv = {"true"}, .surroundings = std::make_shared<const Surroundings>(), .stdin_bytes = {}};
    const auto canonical = some_surroundings();
    const Wish wish{.ttl = 1h};
    const auto question = [&](std::string_view words) {
        return KeptQuestion{.job = job, .surroundings = canonical, .words = words, .wish = wish};
    };
    Descriptor lock = lock_all_of(place);
    desk.forget({canonical, "something"}, [](const Result<>&) {});  // what is to be kept is kept after that
    desk.keeper(question("words"))
        ->keep(std::make_shared<const RunResult>(without_output(Outcome::exited(0), limits)), [] {});
    bool answered = false;
    std::shared_ptr<const RunResult> found;
    desk.look(question("words"), [&](std::shared_ptr<const RunResult> result) {
        answered = true;
        found = std::move(result);
        loop.stop();
    });
    bool looked = false;
    desk.look(question("other words"), [&](const std::shared_ptr<const RunResult>&) {
        looked = true;
        loop.stop();
    });
    while (!looked) loop.run();
    if (answered) return false;
    lock.reset();
    while (!answered) loop.run();
    return found != nullptr;
}

}  // namespace

TEST_CASE("T13: who looks while a result is being kept is given it", "[kept]") {
    bool waited = false;
    for (int attempt = 0; attempt < 20 && !waited; ++attempt) waited = waited_for_it();
    CHECK(waited);
}

TEST_CASE("T11: what a program made that is not known is not kept", "[kept]") {
    const Scratch scratch;
    const StorePlace place{.base = scratch.path("cache"), .name = "1"};
    const SpoolLimits limits;
    const auto result = std::make_shared<const RunResult>(without_output(Outcome::exited(0), limits));
    KeptFlight flight = some_flight(place, {.ttl = 1h}, limits, {});
    flight.keep(result);
    CHECK(flight.words() == "not kept: it is not known of which program it is");
    KeptFlight known = some_flight(place, {.ttl = 1h}, limits);
    known.keep(result);
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
    flight.keep(std::make_shared<const RunResult>(std::move(result)));
    CHECK(flight.words() == "not kept: it was forgotten during the run");
}
