// SPDX-License-Identifier: MIT
// What batch reads (SPEC B1), wherever it comes from and however broken it is.
#include "sandbox.h"

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../catch.h"

using namespace coalesce;
using Json = nlohmann::json;

TEST_CASE("B1: each line is a command, blank lines are none", "[batch][input]") {
    Sandbox box;
    const Ended ended = box.batch({"-j1"}, "echo one\n\n   \t\necho two; echo three\n\n");
    CHECK(ended.out == "one\ntwo\nthree\n");
    CHECK(ended.err.empty());
    CHECK(ended.exit == 0);
}

TEST_CASE("B1: a last line without newline is run", "[batch][input]") {
    Sandbox box;
    CHECK(box.batch({"-j1"}, "echo one\necho two").out == "one\ntwo\n");
    CHECK(box.batch({}, "echo only").out == "only\n");
}

// What such a line costs while it waits was reckoned by its bytes, and given back by those of its title, which are
// more.
TEST_CASE("B1: after a line that cannot be shown as it is the next are still read", "[batch][input]") {
    Sandbox box;
    for (const char* odd : {"echo\ta\n", "echo a\r\n", "echo a; : \x1b\n", "echo a; : \xff\n"}) {
        Running batch = box.start({});
        batch.send(odd);
        CHECK(batch.read_line().starts_with("a"));
        batch.send("echo b\n");
        CHECK(batch.read_line() == "b");
        CHECK(batch.wait().exit == 0);
    }
}

TEST_CASE("B1: no lines at all succeed and print nothing", "[batch][input]") {
    Sandbox box;
    for (const char* input : {"", "\n", "\n\n\n"}) {
        const Ended ended = box.batch({}, input);
        CHECK(ended.exit == 0);
        CHECK(ended.out.empty());
        CHECK(ended.err.empty());
    }
}

TEST_CASE("B1: batch is the name of what runs without one", "[batch][input]") {
    Sandbox box;
    CHECK(box.batch({"batch", "-j1"}, "echo x\n").out == "x\n");
}

TEST_CASE("B1: with -0 lines end with NUL and may hold newlines", "[batch][input]") {
    Sandbox box;
    const Ended ended = box.batch({"-0", "-j1"}, std::string("echo one\necho two\0echo three\0\0echo four", 39));
    CHECK(ended.out == "one\ntwo\nthree\nfour\n");
    CHECK(ended.exit == 0);
}

TEST_CASE("B1: -a reads a file, and - is standard input", "[batch][input]") {
    Sandbox box;
    box.write("lines", "echo from the file\n");
    CHECK(box.batch({"-a", "lines"}, "echo from stdin\n").out == "from the file\n");
    CHECK(box.batch({"-a", "-"}, "echo from stdin\n").out == "from stdin\n");
}

TEST_CASE("B1: shell syntax is the shell's", "[batch][input]") {
    Sandbox box;
    const Ended ended = box.batch({"-j1"},
                                  "for i in 1 2; do echo $i; done\necho a | tr a b\nx=5; echo \"$((x * 2))\"\n(exit 0) "
                                  "&& echo yes\necho \"a  b\"\n");
    CHECK(ended.out == "1\n2\nb\n10\nyes\na  b\n");
    CHECK(ended.exit == 0);
}

TEST_CASE("B1: a line without shell syntax ends with the same status and bytes as through the shell",
          "[batch][input]") {
    Sandbox box;
    const std::string program = box.script("say", "printf '%s|' \"$@\"; echo err >&2; exit 3\n");
    const std::string signalled = box.script("die", "echo before; kill -SEGV $$\n");
    const std::string terminated = box.script("term", "kill -TERM $$\n");
    for (const std::string& line : {program + " a b", signalled, terminated, program}) {
        const Ended direct = box.batch({"--format", "json"}, line + "\n");
        const Ended shell = box.batch({"--format", "json"}, "eval '" + line + "'\n");  // doubtless the shell's
        Json one = Json::parse(direct.out);
        Json other = Json::parse(shell.out);
        for (const char* differs : {"command", "started", "duration"}) {
            one.erase(differs);
            other.erase(differs);
        }
        INFO(line);
        CHECK(one == other);
        CHECK(direct.exit == shell.exit);
    }
}

TEST_CASE("B1: --shell names another shell", "[batch][input]") {
    Sandbox box;
    const std::string shell = box.script("shell", "printf '<%s>' \"$@\"\necho\n");
    CHECK(box.batch({"--shell", shell}, "echo a;b\n").out == "<-c><echo a;b>\n");
    CHECK(box.batch({"--shell", shell}, "/bin/true\n").out == "<-c></bin/true>\n");  // no plain line goes past it
    CHECK(box.batch({"--shell", "bash"}, "echo ${BASH_VERSION:+bash}\n").out == "bash\n");
    const Ended missing = box.batch({"--shell", "/no/such/shell"}, "echo a;b\n");
    CHECK(missing.exit == 123);
    CHECK_THAT(missing.err, Contains("/no/such/shell") && Contains("No such file"));
}

TEST_CASE("B1: commands get /dev/null as input, so they eat no lines", "[batch][input]") {
    Sandbox box;
    CHECK(box.batch({"-j1"}, "cat; echo first\nwc -c\nread x || echo nothing to read\n").out ==
          "first\n0\nnothing to read\n");
}

TEST_CASE("B1: a line is run although the input stays open", "[batch][input]") {
    Sandbox box;
    Running batch = box.start({});
    batch.send("echo one\n");
    CHECK(batch.read_line() == "one");
    batch.send("echo two\necho thr");
    CHECK(batch.read_line() == "two");
    batch.send("ee\n");
    CHECK(batch.read_line() == "three");
    CHECK(batch.wait().exit == 0);
}

// Reading had paused because enough was read ahead; after the pause the rest was
// handed out, and then a read was made that the input had nothing for.
TEST_CASE("B1: lines read after a pause are run although the input stays open", "[batch][input]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    Gate begun = box.gate("begun");
    const auto held = [](int number) {
        return "echo begun >begun; read x <gate; echo " + std::to_string(number) + "\n";
    };
    Running batch = box.start({.args = {"-j2", "--read-ahead", "1"}});
    batch.send(held(1) + held(2) + held(3) + held(4) + "echo unfinis");
    begun.await();
    begun.await();
    gate.open(2);
    begun.await();
    begun.await();
    gate.open(2);
    for (int i = 0; i < 4; ++i) batch.read_line();
    batch.send("hed\n");
    CHECK(batch.read_line() == "unfinished");
    CHECK(batch.wait().exit == 0);
}

TEST_CASE("B1: input from a file, a socket, a terminal or nowhere", "[batch][input]") {
    Sandbox box;
    SECTION("a regular file, from where it stands") {
        box.write("lines", "skipped\necho from the file\n");
        const Descriptor file = open_file(box.path("lines"), O_RDONLY);
        REQUIRE(::lseek(file.get(), 8, SEEK_SET) == 8);
        CHECK(box.run({.stdin_fd = file.get()}).out == "from the file\n");
    }
    SECTION("a socket") {
        int ends[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
        const Descriptor ours(ends[0]);
        Descriptor theirs(ends[1]);
        Running batch = box.start({.stdin_fd = theirs.get()});
        theirs.reset();
        REQUIRE(::send(ours.get(), "echo sock", 9, 0) == 9);
        REQUIRE(::send(ours.get(), "et\n", 3, 0) == 3);
        CHECK(batch.read_line() == "socket");
        REQUIRE(::shutdown(ours.get(), SHUT_WR) == 0);
        CHECK(batch.wait().exit == 0);
    }
    SECTION("a terminal, when it is told to be a batch") {
        const Terminal terminal = open_terminal(80);
        Running batch = box.start({.args = {"batch"}, .stdin_fd = terminal.slave.get()});
        REQUIRE(::write(terminal.master.get(), "echo typed\n", 11) == 11);
        CHECK(batch.read_line() == "typed");
        REQUIRE(::write(terminal.master.get(), "\x04", 1) == 1);
        CHECK(batch.wait().exit == 0);
    }
    SECTION("/dev/null") {
        const Descriptor null = open_file("/dev/null", O_RDONLY);
        CHECK(box.run({.stdin_fd = null.get()}).exit == 0);
    }
    SECTION("closed") {
        const Ended ended = box.run({.closed = {0}});
        CHECK(ended.exit == 125);
        CHECK_THAT(ended.err, StartsWith("coalesce: cannot read standard input: "));
    }
    SECTION("a directory") {
        const Descriptor directory = open_file(box.directory(), O_RDONLY);
        const Ended ended = box.run({.stdin_fd = directory.get()});
        CHECK(ended.exit == 125);
        CHECK(ended.err == "coalesce: cannot read standard input: Is a directory\n");
    }
}

TEST_CASE("B1: the input's flags are left alone, for whoever shares it", "[batch][input]") {
    Sandbox box;
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    const Descriptor read_end(ends[0]);
    Descriptor write_end(ends[1]);
    Running batch = box.start({.stdin_fd = read_end.get()});
    REQUIRE(::write(write_end.get(), "echo x\n", 7) == 7);
    CHECK(batch.read_line() == "x");
    CHECK((::fcntl(read_end.get(), F_GETFL) & O_NONBLOCK) == 0);
    write_end.reset();
    CHECK(batch.wait().exit == 0);
    CHECK((::fcntl(read_end.get(), F_GETFL) & O_NONBLOCK) == 0);
}

TEST_CASE("B1: an input that somebody made non-blocking is read all the same", "[batch][input]") {
    Sandbox box;
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    const Descriptor read_end(ends[0]);
    Descriptor write_end(ends[1]);
    ::fcntl(read_end.get(), F_SETFL, O_NONBLOCK);
    Running batch = box.start({.stdin_fd = read_end.get()});
    for (int i = 0; i < 3; ++i) {
        REQUIRE(::write(write_end.get(), "echo x\n", 7) == 7);
        CHECK(batch.read_line() == "x");
    }
    write_end.reset();
    CHECK(batch.wait().exit == 0);
}

TEST_CASE("B1: a line with a NUL byte is refused by its number, the others run", "[batch][input]") {
    Sandbox box;
    const Ended ended = box.batch({"-j1"}, std::string("echo one\necho t\0wo\necho three\n", 30));
    CHECK(ended.out == "one\nthree\n");
    CHECK_THAT(ended.err, Contains("line 2") && Contains("NUL") && StartsWith("coalesce: "));
    CHECK(ended.exit == 123);
}

TEST_CASE("B1: a line of 100 MB is refused by its number, the others run", "[batch][input]") {
    Sandbox box;
    const Ended ended = box.batch({"-j1"}, "echo one\necho " + std::string(100'000'000, 'x') + "\necho three\n");
    CHECK(ended.out == "one\nthree\n");
    CHECK_THAT(ended.err, Contains("line 2") && Contains("8 MiB") && Contains("'echo xxx") && StartsWith("coalesce: "));
    CHECK(ended.err.size() < 300);
    CHECK(ended.exit == 123);
}

TEST_CASE("B1: a line longer than the system takes is a failed command that says so", "[batch][input]") {
    Sandbox box;
    const Ended ended = box.batch({"-j1"}, "echo one; : " + std::string(200'000, 'x') + "\necho two\n");
    CHECK(ended.out == "two\n");
    CHECK_THAT(ended.err, Contains("Argument list too long"));
    CHECK(ended.err.size() < 300);
    CHECK(ended.exit == 123);
}

// --- JSON

namespace {

// Results by id.
std::map<std::string, Json> results(const std::string& out) {
    std::map<std::string, Json> by_id;
    for (const std::string& line : sorted_lines(out)) {
        Json result = Json::parse(line);
        const std::string id = result.contains("id") ? result["id"].dump() : std::string();
        by_id.emplace(id, std::move(result));
    }
    return by_id;
}

}  // namespace

TEST_CASE("B1: with --json each line is a request", "[batch][json]") {
    Sandbox box;
    const Ended ended = box.batch({"--json", "-j1"},
                                  "{\"argv\":[\"printf\",\"%s|\",\"a b\",\"$HOME\",\"\"]}\n"
                                  "\n"
                                  "  {\"line\":\"echo; echo $((1+1))\"}  \n");
    CHECK(ended.out == "a b|$HOME||\n2\n");
    CHECK(ended.err.empty());
    CHECK(ended.exit == 0);
}

TEST_CASE("B1: every field of a JSON request does what it says", "[batch][json]") {
    Sandbox box;
    box.environment.emplace_back("OLD=old");
    box.environment.emplace_back("GONE=gone");
    ::mkdir(box.path("sub").c_str(), 0755);
    const auto one = [&](const std::string& request) {
        const Ended ended = box.batch({"--json", "--format", "json"}, request + "\n");
        CHECK(ended.err.empty());
        return Json::parse(ended.out);
    };
    SECTION("id comes back as it was") {
        CHECK(one(R"({"id":"a \"b\"","argv":["true"]})")["id"] == "a \"b\"");
        CHECK(one(R"({"id":18446744073709551615,"argv":["true"]})")["id"] == 18446744073709551615U);
        CHECK(one(R"({"id":-7,"argv":["true"]})")["id"] == -7);
        CHECK_FALSE(one(R"({"argv":["true"]})").contains("id"));
    }
    SECTION("cwd") {
        CHECK(one(R"({"argv":["/bin/pwd"],"cwd":")" + box.path("sub") + "\"}")["stdout"] == box.path("sub") + "\n");
    }
    SECTION("umask") { CHECK(one(R"({"line":"umask","umask":63})")["stdout"] == "0077\n"); }
    SECTION("env as an object changes the environment, null removes") {
        const Json result = one(R"({"line":"echo $OLD$NEW${GONE-none}","env":{"NEW":"new","GONE":null}})");
        CHECK(result["stdout"] == "oldnewnone\n");
    }
    SECTION("env as an array is the whole environment") {
        // Less the variable by which the guard knows what it may end (F13): the last one.
        const auto environment = [&](const std::string& request) {
            const std::string all = one(request)["stdout"];
            const std::size_t guard = all.find("COALESCE_GUARD=");
            CHECK(all.find('\n', guard) == all.size() - 1);
            return all.substr(0, guard);
        };
        CHECK(environment(R"({"argv":["/usr/bin/env"],"env":["A=1","B="]})") == "A=1\nB=\n");
        CHECK(environment(R"({"argv":["/usr/bin/env"],"env":[]})") == "");
    }
    SECTION("stdin") {
        CHECK(one(R"({"argv":["cat"],"stdin":"a\u0000b\n"})")["stdout"] == std::string("a\0b\n", 4));
        CHECK(one(R"({"line":"cat; echo; wc -c","stdin":""})")["stdout"] == "\n0\n");
        CHECK(one(R"({"argv":["cat"],"stdin_base64":"/wAK"})")["stdout_base64"] == "/wAK");
    }
    SECTION("output none") {
        const Json result = one(R"({"line":"echo x; echo y >&2; exit 3","output":"none"})");
        CHECK(result["exit"] == 3);
        CHECK_FALSE(result.contains("stdout"));
        CHECK_FALSE(result.contains("stderr"));
    }
    SECTION("timeout, in seconds") {
        Gate gate = box.gate("gate");
        const Json late = one(R"({"line":"read x < gate","timeout":0.05})");
        CHECK(late["exit"] == 124);
        CHECK(late["error"]["code"] == "timed_out");
        CHECK(one(R"({"line":"echo x","timeout":0})")["exit"] == 0);  // none, as with --timeout 0
    }
}

TEST_CASE("B1: what a JSON request says besides its words makes it another command", "[batch][json]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    const std::string head = R"({"line":"echo run >>runs; read x <gate")";
    ::mkdir(box.path("sub").c_str(), 0755);
    ::symlink("../gate", box.path("sub/gate").c_str());
    ::symlink("../runs", box.path("sub/runs").c_str());
    std::string input;
    for (const std::string& more :
         {std::string(), std::string(R"(,"env":{"CI_JOB_ID":"7"})"), std::string(R"(,"stdin":"x")"),
          std::string(R"(,"scope":"s")"), R"(,"cwd":")" + box.path("sub") + "\""})
        input += head + more + "}\n";
    input += head + R"(,"stdin":""})" + "\n";                                      // nothing to read is nothing to read
    input += head + R"(,"id":1,"timeout":50,"wait":50,"output":"whole"})" + "\n";  // these are no part of a key
    gate.open(10);
    const Ended ended = box.batch({"--json", "-j0"}, input);
    CHECK(ended.exit == 0);
    CHECK(box.lines("runs") == 5);
}

TEST_CASE("B1: a JSON key replaces argv, cwd, env and stdin", "[batch][json]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    gate.open();
    const Ended ended = box.batch({"--json", "-j1"},
                                  "{\"line\":\"echo run >>runs; read x <gate; echo $$ >pid; cat pid\",\"key\":\"k\"}\n"
                                  "{\"argv\":[\"something\",\"else\"],\"key\":\"k\",\"stdin\":\"x\",\"cwd\":\"/\"}\n");
    CHECK(ended.out == repeated(box.read("pid"), 2));
    CHECK(box.lines("runs") == 1);
}

TEST_CASE("B1: a malformed JSON line is named by its number, the others run", "[batch][json]") {
    Sandbox box;
    const Ended ended = box.batch({"--json", "-j1"},
                                  "{\"argv\":[\"echo\",\"one\"]}\n\nnot json\n{\"argv\":[\"echo\",\"two\"]\n"
                                  "{\"argv\":[\"echo\",\"three\"]}\n[1]\n{\"argv\":[\"echo\"],\"colour\":1}\n{}\n");
    CHECK(ended.out == "one\nthree\n");
    CHECK(ended.exit == 123);
    const auto lines = sorted_lines(ended.err);
    REQUIRE(lines.size() == 5);
    CHECK_THAT(lines[0], StartsWith("coalesce: standard input, line 3: not JSON: "));
    CHECK_THAT(lines[1], StartsWith("coalesce: standard input, line 4: not JSON: "));
    CHECK_THAT(lines[2], StartsWith("coalesce: standard input, line 6: a request must be an object"));
    CHECK_THAT(lines[3], StartsWith("coalesce: standard input, line 7: unknown field \"colour\""));
    CHECK_THAT(lines[4], StartsWith("coalesce: standard input, line 8: neither \"argv\" nor \"line\""));
}

TEST_CASE("B1: a malformed request gets a result object that says why", "[batch][json]") {
    Sandbox box;
    box.write("requests", "{\"id\":5,\"argv\":\"echo\"}\n{\"id\":6,\"argv\":[\"echo\"]}\n");
    const Ended ended = box.batch({"--json", "--format", "json", "-a", "requests"}, "");
    const auto by_id = results(ended.out);
    REQUIRE(by_id.count("5") == 1);
    CHECK(by_id.at("5")["exit"] == 125);
    CHECK(by_id.at("5")["error"]["code"] == "refused");
    CHECK_THAT(by_id.at("5")["error"]["message"].get<std::string>(),
               Contains("requests, line 1") && Contains("\"argv\" must be an array"));
    CHECK(by_id.at("6")["exit"] == 0);
    CHECK(ended.exit == 123);
}

TEST_CASE("B1: hostile JSON ends no batch", "[batch][json]") {
    Sandbox box;
    const std::string deep = std::string(500'000, '[') + std::string(500'000, ']');
    const Ended ended = box.batch(
        {"--json", "-j1"}, "{\"argv\":" + deep + "}\n" + "{\"argv\":[\"echo\",\"\xff\"]}\n" +
                               "{\"argv\":[\"echo\"],\"timeout\":1e999}\n{\"argv\":[\"a\\u0000b\"]}\n" +
                               "{\"argv\":[\"echo\"],\"argv\":[\"echo\",\"twice\"]}\n" +
                               "{\"argv\":[\"echo\"],\"\\u001b[31mred\":1}\n" + "{\"argv\":[\"echo\",\"end\"]}\n");
    CHECK(ended.out == "end\n");
    CHECK(ended.exit == 123);
    CHECK(sorted_lines(ended.err).size() == 6);
    CHECK(ended.err.find('\x1b') == std::string::npos);  // the terminal is not the input's to steer
}

TEST_CASE("B1: a request in a directory that cannot be entered fails alone", "[batch][json]") {
    Sandbox box;
    const Ended ended = box.batch({"--json", "-j1"}, "{\"argv\":[\"pwd\"],\"cwd\":\"" + box.path("missing") +
                                                         "\"}\n{\"argv\":[\"echo\",\"x\"],\"cwd\":\"/etc/passwd\"}\n"
                                                         "{\"argv\":[\"echo\",\"y\"],\"cwd\":\"relative\"}\n"
                                                         "{\"argv\":[\"echo\",\"fine\"]}\n");
    CHECK(ended.out == "fine\n");
    CHECK(ended.exit == 123);
    CHECK_THAT(ended.err, Contains("cannot enter " + box.path("missing") + ": No such file or directory") &&
                              Contains("cannot enter /etc/passwd: Not a directory") && Contains("absolute"));
}
