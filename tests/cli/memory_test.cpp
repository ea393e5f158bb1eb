// SPDX-License-Identifier: MIT
// Memory stays bounded whatever comes in (SPEC B4, F9). Sanitizers multiply it, so it
// is the release program that is measured; theirs is asked for less, and only looked
// at. Each input ends with a line that is held, and then the program is asked for the
// most memory it has had.
#include "sandbox.h"

#include <poll.h>
#include <signal.h>

#include <algorithm>

#include "../catch.h"

using namespace coalesce;

namespace {

constexpr const char* last_line = "echo x >last; read x <end\n";

void check_bound(long kib, long most) {
    if (!sanitized()) CHECK(kib < most);
}

// What a program of ours takes before it has done anything.
long at_rest() {
    static const long kib = [] {
        const Sandbox box;
        Gate last = box.gate("last");
        Gate end = box.gate("end");
        Running batch = box.start({.input = last_line});
        last.await();
        const long peak = batch.peak_kib();
        end.open();
        batch.wait();
        return peak;
    }();
    return kib;
}

struct Measured {
    Ended ended;
    std::string out;
    long kib = 0;  ///< beyond what it takes at rest
};

// A script prints the lines that are too long to have them in the test as well: that takes longer than the program
// does.
Running print_into(const Running& batch, const Sandbox& box, const std::string& script) {
    return box.start({.args = {"-c", "long() { head -c $1 /dev/zero | tr '\\0' x; echo; }; " + script},
                      .stdout_fd = batch.input_fd(),
                      .program = "/bin/sh"});
}

// Runs lines, which come on stdin and print so many bytes, and the last line. `script` prints them, if it is one.
Measured measure(Sandbox& box, std::vector<std::string> args, std::string lines, std::size_t out_bytes,
                 const std::string& script = {}) {
    Gate last = box.gate("last");
    Gate end = box.gate("end");
    const long before = at_rest();
    How how{.args = std::move(args)};
    if (script.empty()) how.input = std::move(lines) + last_line;
    Running batch = box.start(std::move(how));
    std::optional<Running> printing;
    if (!script.empty()) printing.emplace(print_into(batch, box, script));
    batch.end_input();
    Measured measured;
    measured.out = batch.read_bytes(out_bytes);
    last.await();
    measured.kib = batch.peak_kib() - before;
    end.open();
    measured.ended = batch.wait();
    return measured;
}

}  // namespace

TEST_CASE("B4: two million identical lines stay under 150 MB", "[batch][memory]") {
    Sandbox box;
    const std::size_t count = sanitized() ? 200'000 : 2'000'000;
    SECTION("while their run goes on") {
        Gate gate = box.gate("gate");
        Gate last = box.gate("last");
        Gate end = box.gate("end");
        const std::string input = repeated("read x <gate; echo x\n", count) + last_line;
        Running batch = box.start({.args = {"-j2"}, .input = input});
        last.await();  // so all have been read, and wait
        check_bound(batch.peak_kib(), 150'000);
        gate.open();
        CHECK((batch.read_bytes(2 * count) == repeated("x\n", count)));
        check_bound(batch.peak_kib(), 150'000);
        end.open();
        CHECK(batch.wait().exit == 0);
    }
    SECTION("with --once") {
        const Measured measured = measure(box, {"--once"}, repeated("echo x\n", count), 2 * count);
        CHECK(measured.ended.exit == 0);
        CHECK((measured.out == repeated("x\n", count)));
        check_bound(measured.kib, 30'000);
    }
}

TEST_CASE("B4: the memory for distinct lines is bounded by the read-ahead, and none is lost", "[batch][memory]") {
    const auto lines = [](std::size_t count) {
        std::string input;
        for (std::size_t i = 0; i < count; ++i)
            input += "echo x >>runs; : " + std::to_string(i) + std::string(2'000, 'x') + "\n";
        return input;
    };
    const std::size_t count = sanitized() ? 600 : 1'500;
    Sandbox few;
    Sandbox many;
    const Measured small = measure(few, {"-j1", "--read-ahead", "100"}, lines(300), 0);
    const Measured large = measure(many, {"-j1", "--read-ahead", "100"}, lines(count), 0);
    check_bound(large.kib, small.kib + 2'000);
    CHECK(many.lines("runs") == count);  // they print nothing, so nothing but their end makes it read on
    CHECK(large.ended.exit == 0);
}

TEST_CASE("B4: a million distinct lines wait outside until it is their turn", "[batch][memory]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    Gate begun = box.gate("begun");
    std::string input = "echo x >begun; read x <gate; exit 3\n";
    for (int i = 0; i < 1'000'000; ++i) input += "true " + std::to_string(i) + "\n";
    Running batch = box.start({.args = {"-j1", "--halt", "now,fail=1"}, .input = input});
    begun.await();
    gate.open();
    CHECK(batch.wait().exit == 3);
}

TEST_CASE("B4: long lines are bounded by their bytes, not only by their number", "[batch][memory]") {
    Sandbox box;
    Gate never = box.gate("never");
    Gate begun = box.gate("begun");
    Running batch = box.start({.args = {"-j1"}});
    batch.send("echo x >begun; read x <never\n");
    begun.await();
    const long before = batch.peak_kib();
    const Running printing = print_into(batch, box, "for i in $(seq 40); do printf ': %s' $i; long 7000000; done");
    // Until it reads no further although there is more.
    wait_until([&] {
        pollfd full{.fd = batch.input_fd(), .events = POLLOUT, .revents = 0};
        return asleep(batch.pid()) && ::poll(&full, 1, 0) == 0 && asleep(batch.pid());
    });
    CHECK(batch.peak_kib() - before > 50'000);
    check_bound(batch.peak_kib() - before, 350'000);
    batch.signal(SIGTERM);
    CHECK(batch.wait().exit == 143);
}

TEST_CASE("B4: lines of 100 MB, one after another, are never kept", "[batch][memory]") {
    Sandbox box;
    const std::string line = "printf 'echo '; long " + std::string(sanitized() ? "20000000" : "100000000") + "; ";
    const Measured measured =
        measure(box, {}, {}, 6, line + line + "echo echo small; " + line + "cat <<'END'\n" + last_line + "END\n");
    CHECK(measured.out == "small\n");
    CHECK(measured.ended.exit == 123);
    check_bound(measured.kib, 30'000);
}

TEST_CASE("B4: results that wait for a slow first line are bounded by their bytes", "[batch][memory]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    std::string input = "read x <gate\n";
    for (int i = 0; i < 300; ++i) input += "echo x >>runs; head -c 1000000 /dev/zero; : " + std::to_string(i) + "\n";
    const long before = at_rest();
    Running batch = box.start({.args = {"-k", "-j2"}, .input = input});
    // Until it starts no further one although there are more: the guard and the first line are its children then.
    wait_until([&] {
        const std::size_t runs = box.lines("runs");
        return runs >= 60 && rests(batch.pid(), 2) && box.lines("runs") == runs;
    });
    CHECK(box.lines("runs") < 120);  // the others are held, not only what they print
    check_bound(batch.peak_kib() - before, 120'000);
    gate.open();
    for (int i = 0; i < 300; ++i) CHECK(batch.read_bytes(1'000'000).size() == 1'000'000);
    const Ended ended = batch.wait();
    CHECK(ended.out.empty());
    CHECK(ended.exit == 0);
}

TEST_CASE("B4, F9: results for a reader that does not read are bounded by their bytes", "[batch][memory]") {
    Sandbox box;
    std::string input;
    for (int i = 0; i < 300; ++i) input += "echo x >>runs; head -c 1000000 /dev/zero; : " + std::to_string(i) + "\n";
    const long before = at_rest();
    Running batch = box.start({.args = {"-j2"}, .input = input});
    // It waits for its reader, and the guard is its only child then.
    wait_until([&] {
        const std::size_t runs = box.lines("runs");
        return runs >= 60 && rests(batch.pid(), 1) && box.lines("runs") == runs;
    });
    CHECK(box.lines("runs") < 120);
    check_bound(batch.peak_kib() - before, 120'000);
    CHECK((batch.read_bytes(300'000'000).size() == 300'000'000));
    const Ended ended = batch.wait();
    CHECK(box.lines("runs") == 300);
    CHECK(ended.exit == 0);
}

TEST_CASE("B4: a request's own environment counts among what is read ahead", "[batch][memory]") {
    Sandbox box;
    Gate last = box.gate("last");
    Gate end = box.gate("end");
    const std::string value(100'000, 'x');
    std::string input;
    for (int i = 0; i < (sanitized() ? 100 : 3'000); ++i)
        input += R"({"argv":["true"],"env":["BIG=)" + std::to_string(i) + value + "\"]}\n";
    const long before = at_rest();
    Running batch =
        box.start({.args = {"--json", "-j1"}, .input = input + R"({"line":"echo x >last; read x <end"})" + "\n"});
    last.await();
    check_bound(batch.peak_kib() - before, 250'000);
    end.open();
    CHECK(batch.wait().exit == 0);
}

TEST_CASE("F9: a long output that one requester reads is not kept", "[batch][memory]") {
    Sandbox box;
    const std::string last = sanitized() ? "2000000" : "20000000";
    const Measured measured =
        measure(box, {"--replay-limit", "1M", "-j1"}, "seq 1 " + last + "\n", sanitized() ? 14'888'896 : 168'888'897);
    CHECK(measured.out.ends_with("\n" + last + "\n"));
    CHECK(measured.ended.exit == 0);
    check_bound(measured.kib, 10'000);
}
