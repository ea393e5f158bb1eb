// SPDX-License-Identifier: MIT
// What batch prints (SPEC B2), where it prints it, and what becomes of it when
// nobody reads.
#include "sandbox.h"

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "../catch.h"
#include "../not_tried.h"

using namespace coalesce;
using Json = nlohmann::json;

namespace {

// Some bytes that no pattern in a pipe or a block size could line up with.
constexpr const char* ten_megabytes = "seq 1 1400000 | head -c 10000000";

std::string ten_megabytes_itself() {
    std::string text;
    for (int i = 1; text.size() < 10'000'000; ++i) text += std::to_string(i) + "\n";
    text.resize(10'000'000);
    return text;
}

}  // namespace

TEST_CASE("B2: stdout goes to stdout, stderr to stderr", "[batch][output]") {
    Sandbox box;
    const Ended ended = box.batch({"-j1"}, "echo out; echo err >&2; echo out again\n");
    CHECK(ended.out == "out\nout again\n");
    CHECK(ended.err == "err\n");
    CHECK(ended.exit == 0);
}

TEST_CASE("B2: a result is printed when it ends, whole", "[batch][output]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    Gate half = box.gate("half");
    Running batch = box.start({.args = {"-j2"}});
    batch.send("echo a1; echo a1 >&2; echo x >half; read x <gate; echo a2; echo a2 >&2\n");
    half.await();  // it has said half, and is not over
    batch.send("echo b\n");
    CHECK(batch.read_line() == "b");
    gate.open();
    const Ended ended = batch.wait();
    CHECK(ended.out == "a1\na2\n");
    CHECK(ended.err == "a1\na2\n");
}

TEST_CASE("B2: results are never mixed with another's", "[batch][output]") {
    Sandbox box;
    // Each prints 40 lines with its number, a write for each, to both streams.
    std::string input;
    for (int n = 0; n < 60; ++n) {
        const std::string number = std::to_string(n);
        input += "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do echo " + number + "; echo " + number +
                 " >&2; done\n";
    }
    const Ended ended = box.batch({"-j8"}, input);
    for (const std::string& text : {ended.out, ended.err}) {
        std::vector<std::string> numbers;
        std::string last;
        std::size_t start = 0;
        while (start < text.size()) {
            const std::size_t end = text.find('\n', start);
            const std::string line = text.substr(start, end - start);
            if (line != last) numbers.push_back(line);
            last = line;
            start = end + 1;
        }
        CHECK(numbers.size() == 60);
        CHECK(std::count(text.begin(), text.end(), '\n') == 60 * 20);
    }
}

TEST_CASE("F3: bytes are bytes", "[batch][output]") {
    Sandbox box;
    const std::string bytes("a\0b\xff\xfe\r\n\n\x1b[31m no newline at the end", 36);
    box.write("bytes", bytes);
    const Ended ended = box.batch({"-j1"}, "cat bytes\ncat bytes\ncat bytes >&2\n");
    CHECK(ended.out == bytes + bytes);
    CHECK(ended.err == bytes);
}

TEST_CASE("F3: 10 MB come out exactly, wherever they go", "[batch][output]") {
    Sandbox box;
    const std::string wanted = ten_megabytes_itself();
    const std::string line = std::string(ten_megabytes) + "\n";
    SECTION("to a pipe") { CHECK((box.batch({}, line).out == wanted)); }
    SECTION("twice, one run") {
        const std::string logged = "echo x >>runs; " + line;
        CHECK((box.batch({"-j1"}, "echo first\n" + logged + logged).out == "first\n" + wanted + wanted));
        CHECK(box.lines("runs") == 1);
    }
    SECTION("to stderr") { CHECK((box.batch({}, "(" + std::string(ten_megabytes) + ") >&2\n").err == wanted)); }
    SECTION("to a file, behind what is in it") {
        box.write("out", "before\n");
        const Descriptor file = open_file(box.path("out"), O_WRONLY | O_APPEND);
        CHECK(box.run({.input = line + line, .stdout_fd = file.get()}).exit == 0);
        CHECK((box.read("out") == "before\n" + wanted + wanted));
    }
    SECTION("to a file that is not opened for appending, from where it stands") {
        const Descriptor file = open_file(box.path("out"), O_WRONLY | O_CREAT);
        REQUIRE(::write(file.get(), "before\n", 7) == 7);
        CHECK(box.run({.input = line, .stdout_fd = file.get()}).exit == 0);
        REQUIRE(::write(file.get(), "after\n", 6) == 6);  // the shared offset has moved along
        CHECK((box.read("out") == "before\n" + wanted + "after\n"));
    }
    SECTION("to a socket") {
        int ends[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
        const Descriptor ours(ends[0]);
        Descriptor theirs(ends[1]);
        Running batch = box.start({.input = line, .stdout_fd = theirs.get()});
        theirs.reset();
        CHECK((read_all(ours.get()) == wanted));
        CHECK(batch.wait().exit == 0);
    }
    SECTION("to a terminal") {
        Terminal terminal = open_terminal(80);
        Running batch = box.start(
            {.input = "head -c 200000 /dev/zero | tr '\\0' x; echo end\n", .stdout_fd = terminal.slave.get()});
        terminal.slave.reset();
        const std::string seen = read_all(terminal.master.get(), "end\r\n");
        CHECK(seen == std::string(200'000, 'x') + "end\r\n");
        CHECK(batch.wait().exit == 0);
    }
    SECTION("through a spool in a directory") {
        ::mkdir(box.path("spool").c_str(), 0755);
        CHECK((box.batch({"--spool-dir", "spool"}, line).out == wanted));
        CHECK(box.batch({}, "ls spool\n").out.empty());  // nothing has a name there
    }
    SECTION("as JSON") {
        const Json result = Json::parse(box.batch({"--format", "json"}, line).out);
        CHECK((result["stdout"].get<std::string>() == wanted));
    }
    SECTION("tagged") {
        const auto lines_of_it = std::count(wanted.begin(), wanted.end(), '\n') + (wanted.back() == '\n' ? 0 : 1);
        const Ended ended = box.batch({"--tag"}, line);
        CHECK(std::count(ended.out.begin(), ended.out.end(), '\t') == lines_of_it);
        CHECK(ended.out.size() == wanted.size() + line.size() * static_cast<std::size_t>(lines_of_it));
    }
}

TEST_CASE("F3: order is kept within each stream, across both", "[batch][output]") {
    Sandbox box;
    // One process writes to both in turn, in pieces of every size up to past the heap limit.
    box.script("both",
               "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo out $i $filler; echo err $i $filler >&2; done\n");
    const Ended ended = box.batch({}, "filler=" + std::string(900, 'f') + " ./both\n");
    for (const auto& [text, name] : {std::pair{ended.out, "out"}, std::pair{ended.err, "err"}}) {
        std::string wanted;
        for (int i = 1; i <= 3000; ++i) wanted += std::string(name) + " " + std::to_string(i) + " \n";
        std::string seen = text;
        std::string filler(900, 'f');
        for (std::size_t at = seen.find(filler); at != std::string::npos; at = seen.find(filler, at))
            seen.erase(at, 900);
        CHECK((seen == wanted || text == wanted));
    }
}

TEST_CASE("B2: -k prints in the order of the input", "[batch][output]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    Gate begun = box.gate("begun");
    Running batch = box.start({.args = {"-k", "-j2"}});
    batch.send(
        "echo x >begun; read x <gate; echo first; echo first >&2\necho second\nexit 3\necho fourth; echo x >begun\n");
    begun.await();
    begun.await();  // the fourth is over, or nearly, while the first is held
    batch.send("echo second\n");
    gate.open();
    const Ended ended = batch.wait();
    CHECK(ended.out == "first\nsecond\nfourth\nsecond\n");
    CHECK(ended.exit == 123);
}

TEST_CASE("B2: -k with a first line that is slow keeps reading and running the others", "[batch][output]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    Gate begun = box.gate("begun");
    std::string input = "read x <gate; echo 0\n";
    std::string wanted = "0\n";
    for (int i = 1; i <= 50; ++i) {
        input += "echo " + std::to_string(i) + (i == 50 ? "; echo x >begun" : "") + "\n";
        wanted += std::to_string(i) + "\n";
    }
    Running batch = box.start({.args = {"-k", "-j2", "--read-ahead", "2"}});
    batch.send(input);
    begun.await();  // the last has run, though reading ahead is bounded and nothing could be printed
    gate.open();
    CHECK(batch.wait().out == wanted);
}

TEST_CASE("B2: -k keeps a joined line in its own place", "[batch][output]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    gate.open(2);
    const std::string slow = "echo x >>runs; read x <gate; echo slow\n";
    CHECK(box.batch({"-k", "-j2"}, slow + "echo a\n" + slow + "echo b\n").out == "slow\na\nslow\nb\n");
    CHECK(box.lines("runs") == 1);
}

TEST_CASE("B2: --tag begins each line with the command and a tab", "[batch][output]") {
    Sandbox box;
    const Ended ended = box.batch({"--tag", "-j1"}, "echo a; echo b; echo e >&2\nprintf 'no newline'\n:\n");
    CHECK(ended.out == "echo a; echo b; echo e >&2\ta\necho a; echo b; echo e >&2\tb\nprintf 'no newline'\tno newline");
    CHECK(ended.err == "echo a; echo b; echo e >&2\te\n");
    CHECK(box.batch({"--tag", "--json"},
                    "{\"argv\":[\"echo\",\"a b\"]}\n{\"argv\":[\"echo\",\"c\"],\"output\":\"none\"}\n")
              .out == "echo 'a b'\ta b\n");
}

TEST_CASE("B2: --format json prints one result object a request", "[batch][output]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    gate.open();
    const Ended ended = box.batch(
        {"--format", "json", "-j1"},
        "read x <gate; echo out; echo \"e\trr\" >&2; exit 7\nread x <gate; echo out; echo \"e\trr\" >&2; exit 7\n"
        "sh -c 'kill -9 $$'\nprintf 'a\\0b\\377'\nprintf '\\0\\1\\177\"\\\\'\n/no/such/program\n");
    std::vector<Json> results;
    for (const std::string& line : sorted_lines(ended.out)) results.push_back(Json::parse(line));
    REQUIRE(results.size() == 6);
    const auto of = [&](const std::string& command) {
        const auto found = std::find_if(results.begin(), results.end(),
                                        [&](const Json& result) { return result["command"] == command; });
        REQUIRE(found != results.end());
        return *found;
    };
    const Json shared = of("read x <gate; echo out; echo \"e\trr\" >&2; exit 7");
    CHECK(shared["exit"] == 7);
    CHECK(shared["stdout"] == "out\n");
    CHECK(shared["stderr"] == "e\trr\n");
    CHECK(shared["requesters"] == 2);
    CHECK(shared["duration"].is_number());
    CHECK(shared["started"].get<double>() > 1e9);
    CHECK(std::count_if(results.begin(), results.end(), [](const Json& result) { return result["joined"] == true; }) ==
          1);
    CHECK(of("sh -c 'kill -9 $$'")["exit"] == 137);
    CHECK(of("printf 'a\\0b\\377'")["stdout_base64"] == "YQBi/w==");
    CHECK_FALSE(of("printf 'a\\0b\\377'").contains("stdout"));
    CHECK(of("printf '\\0\\1\\177\"\\\\'")["stdout"] == std::string("\0\1\x7f\"\\", 5));
    CHECK(of("/no/such/program")["exit"] == 127);
    CHECK(ended.exit == 123);
    CHECK(ended.err.empty());
}

TEST_CASE("B2: --format json of a signalled request that no shell ran names the signal", "[batch][output]") {
    Sandbox box;
    const Ended ended = box.batch({"--format", "json", "--json"}, "{\"argv\":[\"sh\",\"-c\",\"kill -9 $$\"]}\n");
    const Json result = Json::parse(ended.out);
    CHECK(result["signal"] == 9);
    CHECK_FALSE(result.contains("exit"));
}

TEST_CASE("B2: --unique prints a shared result once", "[batch][output]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    Gate all_in = box.gate("all_in");
    const std::string shared = "read x <gate; echo shared\n";
    gate.open();
    CHECK(box.batch({"--unique", "-j1"}, shared + shared + "echo other\n" + shared).out == "shared\nother\n");
    CHECK(box.batch({"--unique", "--once", "-j1"}, "echo a\necho b\necho a\n").out == "a\nb\n");
    const std::string wants_it = R"({"line":"echo a"})";
    const std::string wants_no_output = R"({"line":"echo a","output":"none"})";
    CHECK(box.batch({"--unique", "--once", "-j1", "--json"},
                    wants_no_output + "\n" + wants_it + "\n" + wants_no_output + "\n" + wants_it + "\n")
              .out == "a\n");
    const Ended json = box.batch({"--unique", "--once", "-j1", "--format", "json"}, "echo a\necho a\n");
    CHECK(sorted_lines(json.out).size() == 1);
}

TEST_CASE("B2: what --unique leaves to one who gives up waiting is printed by the next", "[batch][output]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    const std::string line = R"("line":"read x <gate; echo came")";
    Running batch = box.start({.args = {"--json", "--unique", "-v"},
                               .input = "{" + line +
                                        R"(,"wait":0})"
                                        "\n{" +
                                        line + "}\n"});
    CHECK_THAT(batch.read_error_line(), Contains("gave up"));
    gate.open();
    CHECK(batch.wait().out == "came\n");
}

TEST_CASE("B2, B6: --unique wants no output twice, and so it cannot be too long for that", "[batch][output]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    const std::string line = "read x <gate; head -c 300000 /dev/zero\n";
    Running batch = box.start({.args = {"--unique", "--replay-limit", "64K"}, .input = line + line});
    gate.open();
    const Ended ended = batch.wait();
    CHECK(ended.out.size() == 300'000);
    CHECK(ended.err.empty());
    CHECK(ended.exit == 0);
}

// --- the other side

TEST_CASE("B2: a reader that stalls loses nothing", "[batch][output]") {
    Sandbox box;
    std::string input;
    std::string wanted;
    for (int i = 0; i < 300; ++i) {
        input += "echo " + std::to_string(i) + "; head -c 3000 /dev/zero | tr '\\0' " + (i % 2 == 0 ? "a" : "b") + "\n";
        wanted += std::to_string(i) + "\n" + std::string(3000, i % 2 == 0 ? 'a' : 'b');
    }
    Gate last = box.gate("last");
    Running batch = box.start({.args = {"-k", "-j4"}, .input = input + "echo x >last\n"});
    CHECK(batch.read_bytes(10) == wanted.substr(0, 10));
    last.await();  // all have run, though the pipe is full
    CHECK((batch.wait().out == wanted.substr(10)));
}

TEST_CASE("R3: when the reader goes away batch ends as SIGPIPE would end it, and says nothing", "[batch][output]") {
    Sandbox box;
    SECTION("with lines that go on for ever") {
        Running batch = box.start({.args = {"-j2"}, .input = repeated("echo y\n", 100'000)});
        CHECK(batch.read_line() == "y");
        batch.stop_reading();
        const Ended over = batch.wait();
        CHECK(over.signal == SIGPIPE);
        CHECK(over.err.empty());
    }
    SECTION("with a command that never ends by itself") {
        Gate gate = box.gate("gate");
        Gate begun = box.gate("begun");
        Running batch = box.start({.args = {"-j2"}});
        batch.send("echo first; seq 100000\necho $$ >begun; read x <gate; echo never\n");
        const pid_t held = std::stoi(begun.await());
        CHECK(batch.read_line() == "first");
        batch.stop_reading();
        const Ended ended = batch.wait();
        CHECK(ended.signal == SIGPIPE);
        CHECK(ended.err.empty());
        CHECK_FALSE(alive(held));
    }
    SECTION("in a pipeline with head") {
        const Ended ended =
            box.run({.args = {"-c", "seq 1 200 | sed 's/.*/seq & 2000/' | \"$0\" -j2 | head -1", tested_program()},
                     .input = "",
                     .program = "/bin/bash"});
        CHECK(std::count(ended.out.begin(), ended.out.end(), '\n') == 1);
        CHECK(ended.err.empty());
    }
}

TEST_CASE("B6: output that cannot be written is our own failure", "[batch][output]") {
    Sandbox box;
    SECTION("stdout closed") {
        const Ended ended = box.run({.input = "echo x\n", .closed = {1}});
        CHECK(ended.exit == 125);
        CHECK_THAT(ended.err, StartsWith("coalesce: cannot write to standard output: "));
    }
    SECTION("stdout closed, and nothing to print") { CHECK(box.run({.input = ":\ntrue\n", .closed = {1}}).exit == 0); }
    SECTION("a full device") {
        const Descriptor full = open_file("/dev/full", O_WRONLY);
        const Ended ended = box.run({.input = "echo x\n", .stdout_fd = full.get()});
        CHECK(ended.exit == 125);
        CHECK(ended.err == "coalesce: cannot write to standard output: No space left on device\n");
    }
    SECTION("a full device, from a file of output") {
        const Descriptor full = open_file("/dev/full", O_WRONLY);
        const Ended ended = box.run({.input = "head -c 3000000 /dev/zero\n", .stdout_fd = full.get()});
        CHECK(ended.exit == 125);
        CHECK(ended.err == "coalesce: cannot write to standard output: No space left on device\n");
    }
    SECTION("a disk that gets full") {
        if (!box.mount_small_disk("disk", 64))
            return not_tried("output to a full disk", "mounting is not allowed here");
        const Descriptor file = open_file(box.path("disk/out"), O_WRONLY | O_CREAT);
        const Ended ended = box.run(
            {.args = {"-j1"}, .input = "echo first\nhead -c 200000 /dev/zero\necho x\n", .stdout_fd = file.get()});
        CHECK(ended.exit == 125);
        CHECK(ended.err == "coalesce: cannot write to standard output: No space left on device\n");
        CHECK_THAT(box.read("disk/out"), StartsWith("first\n"));
    }
    SECTION("stderr closed") {
        CHECK(box.run({.input = "echo x >&2\n", .closed = {2}}).exit == 125);
        const Ended quiet = box.run({.input = "echo x\n", .closed = {2}});
        CHECK(quiet.exit == 0);
        CHECK(quiet.out == "x\n");
    }
    SECTION("all closed") { CHECK(box.run({.closed = {0, 1, 2}}).exit == 125); }
    SECTION("the help") {
        const Descriptor full = open_file("/dev/full", O_WRONLY);
        CHECK(box.run({.args = {"--help"}, .input = "", .stdout_fd = full.get()}).exit == 125);
        CHECK(box.run({.args = {"batch", "--help"}, .input = "", .stdout_fd = full.get()}).exit == 125);
    }
    for (const std::vector<std::string>& args :
         std::vector<std::vector<std::string>>{{"status"}, {"stats"}, {"key", "true"}, {"--help"}}) {
        DYNAMIC_SECTION(args.front() << " to a full device") {
            const Descriptor full = open_file("/dev/full", O_WRONLY);
            const Ended ended = box.run({.args = args, .input = "", .stdout_fd = full.get()});
            CHECK(ended.exit == 125);
            CHECK(ended.err == "coalesce: cannot write to standard output: No space left on device\n");
        }
        DYNAMIC_SECTION(args.front() << " to nobody") {
            int ends[2];
            REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
            ::close(ends[0]);
            const Descriptor nobody(ends[1]);
            const Ended ended = box.run({.args = args, .input = "", .stdout_fd = nobody.get()});
            CHECK(ended.signal == SIGPIPE);
            CHECK(ended.err.empty());
        }
    }
}

TEST_CASE("B2: the flags of a shared output are left alone", "[batch][output]") {
    Sandbox box;
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    const Descriptor read_end(ends[0]);
    Descriptor write_end(ends[1]);
    Running batch = box.start({.stdout_fd = write_end.get(), .stderr_fd = write_end.get()});
    batch.send("echo x; echo y >&2\n");
    std::array<char, 4> bytes{};
    REQUIRE(::read(read_end.get(), bytes.data(), 2) == 2);
    CHECK((::fcntl(write_end.get(), F_GETFL) & O_NONBLOCK) == 0);
    REQUIRE(::read(read_end.get(), bytes.data(), 2) == 2);
    CHECK(batch.wait().exit == 0);
    CHECK((::fcntl(write_end.get(), F_GETFL) & O_NONBLOCK) == 0);
}

// Another user's pipe cannot be opened again through /proc, so it is written with care.
TEST_CASE("B2: a pipe that belongs to somebody else is written whole, and does not block the loop", "[batch][output]") {
    if (::geteuid() != 0) return not_tried("root is needed");
    Sandbox box;
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    Descriptor read_end(ends[0]);
    Descriptor write_end(ends[1]);
    REQUIRE(::fchmod(write_end.get(), 0600) == 0);
    Gate begun = box.gate("begun");
    ::chmod(begun.path().c_str(), 0666);
    Running batch = box.start({.stdout_fd = write_end.get(),
                               .in_child =
                                   [] {
                                       if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(98);
                                   },
                               .program = box.program_for_all()});
    write_end.reset();
    batch.send("seq 1 50000\necho x >begun\n");
    begun.await();  // the second ran although nobody reads the first's output
    batch.end_input();
    std::string wanted;
    for (int i = 1; i <= 50000; ++i) wanted += std::to_string(i) + "\n";
    CHECK((read_all(read_end.get()) == wanted));
    CHECK(batch.wait().exit == 0);
}
