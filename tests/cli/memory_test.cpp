// Memory stays bounded whatever comes in (SPEC B4, F9). Sanitizers multiply the
// memory and the time, so their build is asked for less, and for what grows.
#include "sandbox.h"

#include <catch2/catch.hpp>

#include <algorithm>

using namespace coalesce;

namespace {

// So that what the sanitizer keeps of what was freed does not count.
std::vector<std::string> lean() { return sanitized ? std::vector<std::string>{"ASAN_OPTIONS=quarantine_size_mb=1:malloc_context_size=0"} : std::vector<std::string>{}; }

}  // namespace

TEST_CASE("B4: two million identical lines stay under 150 MB", "[batch][memory]") {
    Sandbox box;
    const std::size_t count = sanitized ? 200'000 : 2'000'000;
    Gate gate = box.gate("gate");
    SECTION("while their run goes on") {
        Gate last = box.gate("last");
        Running batch = box.start({.args = {"-j2"}, .input = repeated("read x <gate; echo x\n", count) + "echo x >last\n", .env = lean()});
        last.await();  // so all have been read, and wait
        gate.open();
        const Ended ended = batch.wait();
        CHECK(ended.exit == 0);
        CHECK(ended.out.size() == 2 * count);
        WARN(count << " waiters on one run: " << ended.peak_kib / 1024 << " MiB");
        CHECK(ended.peak_kib < 150'000);
    }
    SECTION("with --once") {
        const Ended ended = box.run({.args = {"--once"}, .input = repeated("echo x\n", count), .env = lean()});
        CHECK(ended.exit == 0);
        CHECK(ended.out.size() == 2 * count);
        CHECK(ended.peak_kib < 150'000);
    }
}

TEST_CASE("B4: the memory for distinct lines is bounded by the read-ahead, whatever their number", "[batch][memory]") {
    Sandbox box;
    const auto peak = [&](int count) {
        std::string input;
        for (int i = 0; i < count; ++i) input += "true " + std::to_string(i) + "; : " + std::string(200, 'x') + "\n";
        const Ended ended = box.run({.args = {"-j2", "--read-ahead", "100"}, .input = input, .env = lean()});
        CHECK(ended.exit == 0);
        return ended.peak_kib;
    };
    const long small = peak(500);
    const long large = peak(sanitized ? 4000 : 20'000);
    CHECK(large < small + (sanitized ? 30'000 : 4'000));
}

TEST_CASE("B4: a million distinct lines wait outside until it is their turn", "[batch][memory]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    Gate begun = box.gate("begun");
    std::string input = "echo x >begun; read x <gate\n";
    for (int i = 0; i < 1'000'000; ++i) input += "true " + std::to_string(i) + "\n";
    // The first is held and then fails, which stops the batch: none of the others needs to run.
    Running batch = box.start({.args = {"-j1", "--halt", "now,fail=1"}, .input = "echo x >begun; read x <gate; exit 3\n" + input, .env = lean()});
    begun.await();
    gate.open();
    const Ended ended = batch.wait();
    CHECK(ended.exit == 3);
    CHECK(ended.peak_kib < (sanitized ? 150'000 : 20'000));
}

TEST_CASE("B4: long lines are bounded by their bytes, not only by their number", "[batch][memory]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    Gate begun = box.gate("begun");
    std::string input = "echo x >begun; read x <gate; exit 3\n";
    for (int i = 0; i < 60; ++i) input += ": " + std::to_string(i) + std::string(7'000'000, 'x') + "\n";
    Running batch = box.start({.args = {"-j1", "--halt", "now,fail=1"}, .input = input, .env = lean()});
    begun.await();
    gate.open();
    const Ended ended = batch.wait();
    CHECK(ended.exit == 3);
    CHECK(ended.peak_kib < (sanitized ? 500'000 : 250'000));
}

TEST_CASE("B4: lines of 100 MB, one after another, are never kept", "[batch][memory]") {
    Sandbox box;
    const std::string line = "echo " + std::string(100'000'000, 'x') + "\n";
    const Ended ended = box.run({.input = line + line + "echo small\n" + line, .env = lean()});
    CHECK(ended.out == "small\n");
    CHECK(ended.exit == 123);
    CHECK(ended.peak_kib < (sanitized ? 150'000 : 40'000));
}

TEST_CASE("B4: results that wait for a slow first line are bounded by their bytes", "[batch][memory]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    Gate begun = box.gate("begun");
    std::string input = "echo x >begun; read x <gate; exit 3\n";
    for (int i = 0; i < 600; ++i) input += "head -c 1000000 /dev/zero; : " + std::to_string(i) + "\n";
    Running batch = box.start({.args = {"-k", "-j2", "--halt", "now,fail=1"}, .input = input, .env = lean()});
    begun.await();
    // Held long enough for the others to have run, had they been let.
    box.batch({"-j1"}, repeated("head -c 1000000 /dev/zero\n", 100));
    gate.open();
    const Ended ended = batch.wait();
    CHECK(ended.exit == 3);
    CHECK(ended.peak_kib < (sanitized ? 400'000 : 200'000));
}

TEST_CASE("F9: a long output that one requester reads slowly is not kept", "[batch][memory]") {
    Sandbox box;
    Running batch = box.start({.args = {"--replay-limit", "1M"}, .input = "seq 1 20000000\n", .env = lean()});
    CHECK(batch.read_line() == "1");
    std::size_t seen = 0;
    const Ended ended = batch.wait();
    seen = ended.out.size();
    CHECK(seen == 168'888'897 - 2);
    CHECK(ended.exit == 0);
    CHECK(ended.peak_kib < (sanitized ? 150'000 : 30'000));
}
