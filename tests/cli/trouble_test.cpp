// SPDX-License-Identifier: MIT
// What is typed wrongly, and what is asked of a program before it does anything:
// options, help, suggestions (SPEC O2, and the command line of B).
#include "sandbox.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <regex>

#include "../catch.h"
#include "../not_tried.h"

using namespace coalesce;

TEST_CASE("O2: an unknown option is named, the near one suggested, and nothing runs", "[cli][trouble]") {
    Sandbox box;
    const auto said = [&](std::vector<std::string> args) {
        const Ended ended = box.batch(std::move(args), "echo x >>runs\n");
        CHECK(ended.exit == 125);
        CHECK(ended.out.empty());
        CHECK_THAT(ended.err, StartsWith("coalesce: ") && EndsWith("\n"));
        CHECK(std::count(ended.err.begin(), ended.err.end(), '\n') == 1);
        return ended.err;
    };
    CHECK_THAT(said({"--jobz", "3"}), Contains("unknown option --jobz; did you mean --jobs?"));
    CHECK_THAT(said({"--keeporder"}), Contains("did you mean --keep-order?"));
    CHECK_THAT(said({"--joblog", "x", "--html", "x"}), Contains("cannot write --html to x: it is also --joblog"));
    CHECK_THAT(said({"--joblogs=x"}), Contains("unknown option --joblogs") && Contains("did you mean --joblog?"));
    CHECK_THAT(said({"--zzzzzzzzzz"}), Contains("unknown option --zzzzzzzzzz") && !Contains("mean"));
    CHECK_THAT(said({"-Z"}), Contains("unknown option -Z"));
    CHECK_THAT(said({"-kZ"}), Contains("unknown option -Z"));
    CHECK_THAT(said({"batch", "extra"}), Contains("unexpected argument 'extra'"));
    CHECK_THAT(said({"batch", "--", "extra"}), Contains("unexpected argument 'extra'"));
    CHECK_THAT(said({"-j2", "extra"}), Contains("unexpected argument 'extra'"));
    CHECK_THAT(said({"--ignore-env", "A", "extra"}), Contains("unexpected argument 'extra'"));
    CHECK_THAT(said({"bacth"}), Contains("no command 'bacth'; did you mean batch?"));
    CHECK_THAT(said({"nonsense"}), Contains("no command 'nonsense'; to run it: coalesce run nonsense"));
    CHECK_THAT(said({"--key", ""}), Contains("--key is empty"));
    CHECK_THAT(said({"run", "--key", "", "true"}), Contains("--key is empty"));
    CHECK_FALSE(box.exists("runs"));
}

TEST_CASE("O2: a value that makes no sense is named with its option", "[cli][trouble]") {
    Sandbox box;
    for (const auto& [option, value] :
         std::vector<std::pair<std::string, std::string>>{{"--jobs", "1%%"},
                                                          {"--jobs", "many"},
                                                          {"--jobs", "1.5"},
                                                          {"--jobs", "99999999999999999999"},
                                                          {"--jobs", ""},
                                                          {"--retries", "-1"},
                                                          {"--timeout", "soon"},
                                                          {"--timeout", "-1"},
                                                          {"--grace", "1 h"},
                                                          {"--halt", "later"},
                                                          {"--halt", "now,fail=0"},
                                                          {"--halt", "now,fail="},
                                                          {"--halt", "soon,fail=1x"},
                                                          {"--replay-limit", "1Q"},
                                                          {"--replay-limit", "-1"},
                                                          {"--format", "xml"},
                                                          {"--read-ahead", "-5"},
                                                          {"--timeout", ""},
                                                          {"--halt", ""},
                                                          {"--replay-limit", ""}}) {
        const Ended ended = box.batch({option, value}, "echo x >>runs\n");
        INFO(option << " '" << value << "'");
        CHECK(ended.exit == 125);
        CHECK_THAT(ended.err, StartsWith("coalesce: ") && Contains(option));
    }
    for (const char* option : {"-j", "--jobs", "-a", "--joblog", "--key", "--timeout"}) {
        const Ended ended = box.batch({option}, "echo x >>runs\n");
        CHECK(ended.exit == 125);
        CHECK_THAT(ended.err, StartsWith("coalesce: "));
    }
    CHECK(box.batch({"--tag", "--format", "json"}, "echo x >>runs\n").exit == 125);
    CHECK_FALSE(box.exists("runs"));
}

TEST_CASE("O2: options may be given as users give them", "[cli][trouble]") {
    Sandbox box;
    const auto out = [&](std::vector<std::string> args) { return box.batch(std::move(args), "echo x\n").out; };
    CHECK(out({"-j", "2"}) == "x\n");
    CHECK(out({"-j2"}) == "x\n");
    CHECK(out({"--jobs=2"}) == "x\n");
    CHECK(out({"--jobs", "2", "-k"}) == "x\n");
    for (const char* jobs : {"50%", "+1", "-1", "0"}) {
        CHECK(out({"-j", jobs}) == "x\n");
        CHECK(out({std::string("-j") + jobs}) == "x\n");
        CHECK(out({std::string("--jobs=") + jobs, "-k"}) == "x\n");
    }
    CHECK(out({"-kj2"}) == "x\n");
    CHECK(out({"-j1", "-j2"}) == "x\n");  // an alias gave the first
    CHECK(out({"-k", "-k", "--tag", "--tag"}) == "echo x\tx\n");
    CHECK(out({"--format", "json", "--format", "text"}) == "x\n");
    CHECK(out({"--only-env="}) == "x\n");
    CHECK(out({"--only-env", ""}) == "x\n");
    CHECK(out({"--only-env", "A,B", "--ignore-env", "C*", "--ignore-env=D", "--ignore-cwd", "--scope", "s"}) == "x\n");
    CHECK(out({"--scope="}) == "x\n");
    CHECK(out({"--"}) == "x\n");
}

TEST_CASE("O2: --help of every command fits 52 lines, with examples", "[cli][trouble]") {
    Sandbox box;
    const auto columns = [](const std::string& line) {  // of UTF-8
        return std::count_if(line.begin(), line.end(), [](char byte) { return (byte & 0xc0) != 0x80; });
    };
    for (const char* const command :
         {"", "run", "batch", "key", "status", "cancel", "stats", "cache", "rules", "cluster", "serve"}) {
        INFO(command);
        const std::string name = command;
        const Ended ended =
            box.batch(name.empty() ? std::vector<std::string>{"--help"} : std::vector<std::string>{name, "--help"}, "");
        CHECK(ended.exit == 0);
        CHECK_THAT(ended.out, Contains("\nExample"));
        const auto lines = sorted_lines(ended.out);
        CHECK(lines.size() <= 52);
        for (const std::string& line : lines) {
            INFO(line);
            CHECK(columns(line) <= 80);
        }
    }
}

TEST_CASE("O2: --help of batch shows every option, and starts nothing", "[cli][trouble]") {
    Sandbox box;
    for (const std::vector<std::string>& args :
         std::vector<std::vector<std::string>>{{"batch", "--help"}, {"batch", "-h"}, {"-j2", "--help"}}) {
        const Ended ended = box.batch(args, "echo x >>runs\n");
        CHECK(ended.exit == 0);
        CHECK_THAT(ended.out, StartsWith("Usage: coalesce [batch]"));
        CHECK(ended.err.empty());
        for (const char* option :
             {"-j, --jobs N", "-k, --keep-order", "--replay-limit SIZE", "--no-progress", "Examples:"})
            CHECK_THAT(ended.out, Contains(option));
    }
    CHECK_FALSE(box.exists("runs"));
    CHECK(box.batch({"help", "run"}, "").out == box.batch({"run", "--help"}, "").out);
    const Ended general = box.batch({"--help"}, "");
    CHECK(general.exit == 0);
    CHECK_THAT(general.out, Contains("batch") && Contains("Example"));
}

TEST_CASE("O2: --version names the program's version on the first line, its libraries' on the second",
          "[cli][trouble]") {
    Sandbox box;
    const Ended ended = box.batch({"--version"}, "echo x >>runs\n");
    CHECK(ended.exit == 0);
    const std::string number = " [0-9]+\\.[0-9]+\\.[0-9]+";
    CHECK(std::regex_match(
        ended.out, std::regex("coalesce" + number + "\nwith libuv" + number + ", libsodium" + number + ", hiredis" +
                              number + ", toml\\+\\+" + number + ", CLI11" + number + ", fmt" + number + ", spdlog" +
                              number + ", nlohmann-json" + number +
                              "\nCopyright the coalesce authors\\. Licence: MIT\\. No warranty\\.\n")));
    CHECK_FALSE(box.exists("runs"));
    const Descriptor full = open_file("/dev/full", O_WRONLY);
    CHECK(box.run({.args = {"--version"}, .stdout_fd = full.get()}).exit == 125);
}

TEST_CASE("O2: bare coalesce with a terminal on stdin prints the help", "[cli][trouble]") {
    Sandbox box;
    const Terminal terminal = open_terminal(80);
    const Ended ended = box.run({.stdin_fd = terminal.slave.get()});
    CHECK(ended.exit == 0);
    CHECK_THAT(ended.out, StartsWith("Usage: coalesce"));
}

TEST_CASE("B1: an input file that cannot be read is our own failure", "[cli][trouble]") {
    Sandbox box;
    const Ended missing = box.batch({"-a", "missing"}, "");
    CHECK(missing.exit == 125);
    CHECK(missing.err == "coalesce: cannot open missing: No such file or directory\n");
    const Ended directory = box.batch({"-a", "."}, "");
    CHECK(directory.exit == 125);
    CHECK(directory.err == "coalesce: cannot read .: Is a directory\n");
    if (::geteuid() != 0) return not_tried("a file that may not be read, as another user", "root is needed");
    const std::string program = box.program_for_all();
    ::mkdir(box.path("private").c_str(), 0700);
    box.write("private/lines", "echo x\n");
    const Ended unreadable = box.run({.args = {"-a", "private/lines"},
                                      .input = "",
                                      .in_child =
                                          [] {
                                              if (::setgid(65534) != 0 || ::setuid(65534) != 0) ::_exit(98);
                                          },
                                      .program = program});
    CHECK(unreadable.exit == 125);
    CHECK(unreadable.err == "coalesce: cannot open private/lines: Permission denied\n");
}

TEST_CASE("B1: results before an error of the input are delivered", "[cli][trouble]") {
    Sandbox box;
    // A directory gives the error at once; a terminal that hangs up gives it later.
    Terminal terminal = open_terminal(80);
    Running batch = box.start({.args = {"batch"}, .stdin_fd = terminal.slave.get()});
    terminal.slave.reset();
    REQUIRE(::write(terminal.master.get(), "echo x\n", 7) == 7);
    CHECK(batch.read_line() == "x");
    terminal.master.reset();
    const Ended ended = batch.wait();
    CHECK((ended.exit == 125 || ended.exit == 0 || ended.exit == 129));
    CHECK(ended.out.empty());
}

TEST_CASE("B6: with too few descriptors to begin it says so", "[cli][trouble]") {
    if (sanitized()) return;  // left to the release: the sanitizer itself needs two to look at memory
    Sandbox box;
    box.write("lines", "echo x >>runs\n");
    for (rlim_t few = 3; few <= 13; ++few) {
        const Ended ended = box.run({.args = {"-a", "lines"}, .input = "", .in_child = [few] {
                                         const rlimit limit{few, few};
                                         ::setrlimit(RLIMIT_NOFILE, &limit);
                                     }});
        INFO(few);
        CHECK((ended.exit == 125 || ended.exit == 123));
        CHECK_THAT(ended.err, StartsWith("coalesce: cannot ") && Contains("Too many open files"));
    }
    CHECK_FALSE(box.exists("runs"));
}
