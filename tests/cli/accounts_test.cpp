// SPDX-License-Identifier: MIT
// The accounts a batch gives of itself: SPEC B5's joblog, report, page, summary,
// list and progress.
#include "sandbox.h"

#include <nlohmann/json.hpp>

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <regex>
#include <set>

#include "../catch.h"
#include "../not_tried.h"

using namespace coalesce;
using Json = nlohmann::json;

namespace {

std::vector<std::vector<std::string>> table(const std::string& text) {
    std::vector<std::vector<std::string>> rows;
    std::size_t start = 0;
    while (start < text.size()) {
        const std::size_t end = text.find('\n', start);
        std::vector<std::string> row{""};
        for (const char byte : text.substr(start, end - start)) {
            if (byte == '\t')
                row.emplace_back();
            else
                row.back() += byte;
        }
        rows.push_back(row);
        start = end + 1;
    }
    return rows;
}

}  // namespace

TEST_CASE("B5: --joblog has GNU parallel's nine columns", "[batch][accounts]") {
    Sandbox box;
    const std::string lines = "echo some output\nsh -c 'exit 3'\nexit 7\necho err >&2\n";
    box.write("lines", lines);
    CHECK(box.batch({"-j1", "--joblog", "ours"}, lines).exit == 123);
    const auto ours = table(box.read("ours"));
    REQUIRE(ours.size() == 5);
    CHECK(ours[0] == std::vector<std::string>{"Seq", "Host", "Starttime", "JobRuntime", "Send", "Receive", "Exitval",
                                              "Signal", "Command"});
    for (std::size_t row = 1; row < ours.size(); ++row) {
        REQUIRE(ours[row].size() == 9);
        CHECK(ours[row][0] == std::to_string(row));
        CHECK(std::regex_match(ours[row][2], std::regex("[0-9]{10}\\.[0-9]{3}")));
        CHECK(std::regex_match(ours[row][3], std::regex(" *[0-9]+\\.[0-9]{3}")));
    }
    if (!std::filesystem::exists("/usr/bin/parallel"))
        return not_tried("the same columns as parallel", "it is not installed");
    const Ended peer = box.run({.args = {"-j1", "--will-cite", "--joblog", "theirs", "-a", "lines"},
                                .input = "",
                                .env = {"SHELL=/bin/sh"},
                                .program = "/usr/bin/parallel"});
    REQUIRE(peer.exit == 2);  // so many have failed
    const auto theirs = table(box.read("theirs"));
    REQUIRE(theirs.size() == ours.size());
    for (std::size_t row = 0; row < ours.size(); ++row) {
        REQUIRE(theirs[row].size() == 9);
        for (const std::size_t column : {0, 1, 4, 5, 6, 7, 8}) {
            INFO("row " << row << " column " << column);
            CHECK(ours[row][column] == theirs[row][column]);
        }
        CHECK(ours[row][3].size() == theirs[row][3].size());
    }
}

TEST_CASE("B5: the joblog has a row for each request, shared or not, and none is split", "[batch][accounts]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    gate.open();
    const std::string slow = "read x <gate; echo 12345\n";
    box.batch({"-j1", "--joblog", "log"}, slow + slow + "printf 'a\tb'\nkill -9 $$\n");
    const auto rows = table(box.read("log"));
    REQUIRE(rows.size() == 5);
    CHECK(rows[1][5] == "6");
    CHECK(rows[2][5] == "6");
    CHECK(rows[1][8] == "read x <gate; echo 12345");
    for (const auto& row : rows) CHECK(row.size() == 9);
    CHECK(rows[3][8] == "$'printf \\'a\\tb\\''");
    CHECK(rows[4][6] == "0");
    CHECK(rows[4][7] == "9");
    const Ended nul = box.batch({"-0", "-j1", "--joblog", "log"}, std::string("echo a\necho b\0", 14));
    CHECK(table(box.read("log")).size() == 2);
}

TEST_CASE("B5: a result is in the joblog before it is printed", "[batch][accounts]") {
    Sandbox box;
    Running batch = box.start({.args = {"--joblog", "log", "--report", "report"}});
    for (std::size_t i = 1; i <= 3; ++i) {
        batch.send("echo " + std::to_string(i) + "\n");
        batch.read_line();
        CHECK(box.lines("log") == i + 1);
        CHECK(box.lines("report") == i);
    }
    batch.signal(SIGKILL);
    batch.wait();
    CHECK(box.lines("log") == 4);
}

TEST_CASE("B5: --report writes one JSON line a request", "[batch][accounts]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    gate.open();
    const std::string slow = "read x <gate; echo out; echo error >&2; exit 3\n";
    box.batch({"-j1", "--report", "report"}, slow + slow + "echo \xff\n/no/such/thing\nkill -9 $$\n");
    std::vector<Json> rows;
    for (const std::string& line : sorted_lines(box.read("report"))) rows.push_back(Json::parse(line));
    REQUIRE(rows.size() == 5);
    std::sort(rows.begin(), rows.end(), [](const Json& a, const Json& b) { return a["sequence"] < b["sequence"]; });
    CHECK(rows[0]["run"] == rows[1]["run"]);
    CHECK(rows[0]["key"] == rows[1]["key"]);
    CHECK(rows[0]["key"].get<std::string>().size() == 32);
    CHECK(rows[2]["key"] != rows[1]["key"]);
    CHECK(rows[0]["joined"] == false);
    CHECK(rows[1]["joined"] == true);
    CHECK(rows[1]["requesters"] == 2);
    CHECK(rows[0]["exit"] == 3);
    CHECK(rows[0]["end"] == "exit 3");
    CHECK(rows[0]["stdout_bytes"] == 4);
    CHECK(rows[0]["stderr_bytes"] == 6);
    CHECK(rows[0]["attempts"] == 1);
    CHECK(rows[0]["waited"].get<double>() >= rows[0]["run_time"].get<double>());
    CHECK(rows[2]["command"] == "echo \xef\xbf\xbd");
    CHECK_FALSE(rows[2].contains("end"));
    CHECK(rows[3]["exit"] == 127);
    CHECK(rows[4]["signal"] == 9);
    CHECK(rows[4]["end"] == "killed by KILL");
    CHECK(box.batch({"--json", "--report", "report", "--retries", "2"}, "{\"id\":\"x\",\"argv\":[\"false\"]}\n").exit ==
          123);
    const Json row = Json::parse(box.read("report"));
    CHECK(row["id"] == "x");
    CHECK(row["attempts"] == 3);
}

TEST_CASE("B5: --html writes one self-contained page", "[batch][accounts]") {
    Sandbox box;
    CHECK(box.batch({"--html", "page.html"}, "echo '</script>'\necho two\nfalse\n").exit == 123);
    const std::string page = box.read("page.html");
    CHECK_THAT(page, StartsWith("<!doctype html>") || StartsWith("<!DOCTYPE html>"));
    CHECK_THAT(page, Contains("</html>"));
    CHECK(page.find("src=\"http") == std::string::npos);
    CHECK(page.find("href=\"http") == std::string::npos);
    CHECK(page.find("echo '</script>'") == std::string::npos);  // escaped, or it would end the script
}

TEST_CASE("B5: a file that cannot be opened is known before anything runs", "[batch][accounts]") {
    Sandbox box;
    for (const char* option : {"--joblog", "--report", "--html"}) {
        const Ended ended = box.batch({option, "no/such/directory/file"}, "echo x >>runs\n");
        CHECK(ended.exit == 125);
        CHECK_THAT(ended.err,
                   StartsWith("coalesce: cannot ") && Contains("no/such/directory/file: No such file or directory\n"));
        const Ended directory = box.batch({option, "."}, "echo x >>runs\n");
        CHECK(directory.exit == 125);
        CHECK_THAT(directory.err, Contains("Is a directory"));
    }
    CHECK_FALSE(box.exists("runs"));
}

TEST_CASE("B5: a full disk under an account is told once, the batch goes on", "[batch][accounts]") {
    Sandbox box;
    std::string input;
    for (int i = 0; i < 400; ++i) input += "echo " + std::to_string(i) + "; : " + std::string(200, 'x') + "\n";
    SECTION("a device") {
        const Ended report = box.batch({"--report", "/dev/full", "-j2"}, "echo a\necho b\n");
        CHECK(sorted_lines(report.out) == std::vector<std::string>{"a", "b"});
        CHECK(report.err == "coalesce: cannot write /dev/full: No space left on device\n");
        CHECK(report.exit == 125);
        const Ended log = box.batch({"--joblog", "/dev/full"}, "echo a >>runs\n");  // its head cannot be written
        CHECK(log.exit == 125);
        CHECK_FALSE(box.exists("runs"));
    }
    SECTION("a disk that gets full") {
        if (!box.mount_small_disk("disk", 16))
            return not_tried("a full disk under the joblog", "mounting is not allowed here");
        for (const char* option : {"--joblog", "--report"}) {
            const Ended ended = box.batch({option, "disk/account", "-j2"}, input);
            INFO(option);
            CHECK(sorted_lines(ended.out).size() == 400);
            CHECK(ended.err == "coalesce: cannot write disk/account: No space left on device\n");
            CHECK(ended.exit == 125);
            CHECK(box.lines("disk/account") > 10);  // what fitted is there
        }
    }
    SECTION("a disk that gets full, under the page") {
        if (!box.mount_small_disk("disk", 128))
            return not_tried("a full disk under the page", "mounting is not allowed here");
        const Ended ended = box.batch({"--html", "disk/account", "-j2"}, repeated("echo x\n", 1) + input);
        CHECK(sorted_lines(ended.out).size() == 401);
        CHECK(ended.exit == 125);
        CHECK_THAT(ended.err, StartsWith("coalesce: cannot ") && Contains("No space left on device"));
        CHECK(sorted_lines(ended.err).size() == 1);
    }
    SECTION("two accounts are each told of") {
        const Ended ended = box.batch({"--report", "/dev/full", "--html", "page.html"}, "echo a\n");
        CHECK(ended.err == "coalesce: cannot write /dev/full: No space left on device\n");
        CHECK_THAT(box.read("page.html"), Contains("</html>"));
    }
}

TEST_CASE("F9: a full disk under the spool fails the run that needed it, no other", "[batch][accounts]") {
    Sandbox box;
    if (!box.mount_small_disk("disk", 2048)) return not_tried("mounting is not allowed here");
    Gate gate = box.gate("gate");
    Running batch = box.start({.args = {"--spool-dir", "disk", "-j1"},
                               .input = "echo before\nhead -c 5000000 /dev/zero\necho after\n"
                                        "read x <gate; head -c 1500000 /dev/zero | tr '\\0' x\n"});
    CHECK(batch.read_line() == "before");
    CHECK_THAT(batch.read_line(), EndsWith("after"));  // so what had been kept has been delivered
    gate.open();
    const Ended ended = batch.wait();
    CHECK_THAT(ended.err, Contains("coalesce: cannot keep the output in disk: No space left on device\n"));
    CHECK(ended.exit == 123);
    CHECK((ended.out == std::string(1'500'000, 'x')));  // the space was given back
}

TEST_CASE("F9: a spool directory that is not there fails only runs that need it", "[batch][accounts]") {
    Sandbox box;
    const Ended ended = box.batch({"--spool-dir", "missing", "-j1"}, "echo small\nhead -c 2000000 /dev/zero\n");
    CHECK_THAT(ended.out, StartsWith("small\n"));
    CHECK_THAT(ended.err,
               Contains("coalesce: cannot make a file for the output in missing: No such file or directory\n"));
    CHECK(ended.exit == 123);
}

TEST_CASE("B5: --dry-run lists each distinct command with its count and runs none", "[batch][accounts]") {
    Sandbox box;
    const Ended ended = box.batch({"--dry-run"}, "echo b >>runs\necho a >>runs\n\necho b >>runs\necho b >>runs\n");
    CHECK(ended.out == "      3 echo b >>runs\n      1 echo a >>runs\n");
    CHECK(ended.exit == 0);
    CHECK_FALSE(box.exists("runs"));
    const Ended json =
        box.batch({"--dry-run", "--json"}, "{\"argv\":[\"echo\",\"a b\"]}\n{\"line\":\"echo x\"}\nbad\n");
    CHECK(json.out == "      1 echo 'a b'\n      1 echo x\n");
    CHECK(json.exit == 123);
    box.batch({"--dry-run", "--joblog", "log", "--report", "report", "--html", "page"}, "echo x\n");
    for (const char* account : {"log", "report", "page"}) CHECK_FALSE(box.exists(account));
    const Descriptor full = open_file("/dev/full", O_WRONLY);
    CHECK(box.run({.args = {"--dry-run"}, .input = "echo x\n", .stdout_fd = full.get()}).exit == 125);
}

TEST_CASE("B5: --dry-run tells commands apart as their keys do, and says what differs", "[batch][accounts]") {
    Sandbox box;
    const Ended ended =
        box.batch({"--dry-run", "--json"},
                  "{\"argv\":[\"pwd\"]}\n{\"argv\":[\"pwd\"],\"cwd\":\"/tmp\"}\n{\"argv\":[\"pwd\"],\"cwd\":\"/\"}\n"
                  "{\"argv\":[\"pwd\"],\"cwd\":\"/tmp\"}\n{\"argv\":[\"cat\"],\"stdin\":\"a\\nb\"}\n"
                  "{\"argv\":[\"cat\"],\"stdin\":\"c\"}\n{\"argv\":[\"env\"],\"env\":{\"X\":\"1 2\",\"HOME\":null}}\n");
    CHECK_THAT(ended.out, StartsWith("      1 pwd\n      2 pwd  # directory /tmp"));
    CHECK_THAT(ended.out, Contains("\n      1 pwd  # directory /"));
    CHECK_THAT(ended.out, Contains("\n      1 cat  # stdin $'a\\nb'\n      1 cat  # stdin c\n"));
    CHECK_THAT(ended.out, Contains("environment: 'X=1 2'") && Contains("no environment: HOME"));
    CHECK(sorted_lines(ended.out).size() == 6);
    CHECK(box.batch({"--dry-run", "--key", "k"}, "echo a\necho b\n").out == "      2 echo a\n");
}

TEST_CASE("O0: --dry-run, --tag, complaints and the joblog show what a terminal would obey", "[batch][accounts]") {
    Sandbox box;
    const std::string line = ": \x1b]0;owned\x07\xc2\x9b; echo a\n\necho b";
    const std::string shown = "$': \\033]0;owned\\007\\302\\233; echo a\\n\\necho b'";
    CHECK(box.batch({"-0", "--dry-run"}, line + '\0').out == "      1 " + shown + "\n");
    CHECK(box.batch({"-0", "--tag"}, line + '\0').out == shown + "\ta\n" + shown + "\tb\n");
    CHECK(box.batch({"-0", "--tag", "--joblog", "log"}, line + '\0').out == shown + "\ta\n" + shown + "\tb\n");
    CHECK_THAT(box.read("log"), EndsWith("\t" + shown + "\n"));
    CHECK(box.batch({"-0", "--timeout", "0.01"}, "exec sleep 100 # \x1b\n" + std::string(1, '\0')).err ==
          "coalesce: $'exec sleep 100 # \\033\\n': timed out\n");
    CHECK(box.batch({"-a", "no\x1b[31m"}, "").err.find('\x1b') == std::string::npos);
    box.write("in\x1b[31m", std::string("a\0\n", 3));
    CHECK(box.batch({"-a", "in\x1b[31m"}, "").err.find('\x1b') == std::string::npos);
}

TEST_CASE("B5: --dry-run is written whole to a pipe that blocks nobody, and hears signals there", "[batch][accounts]") {
    Sandbox box;
    std::string input;
    for (int i = 0; i < 20'000; ++i) input += "echo number " + std::to_string(i) + "\n";
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0);
    const Descriptor read_end(ends[0]);
    Descriptor write_end(ends[1]);
    Running batch = box.start({.args = {"--dry-run"}, .input = input, .stdout_fd = write_end.get()});
    write_end.reset();
    wait_until([&] { return asleep(batch.pid()); });
    SECTION("read after a while") {
        ::fcntl(read_end.get(), F_SETFL, 0);
        const std::string listed = read_all(read_end.get());
        CHECK(sorted_lines(listed).size() == 20'000);
        CHECK(batch.wait().exit == 0);
    }
    SECTION("never read") {
        // It is asleep too where it waits for more to list; there, too, the second is enough.
        batch.signal(SIGTERM);
        batch.signal(SIGINT);
        const int status = batch.wait().exit;  // whichever it was told of first
        CHECK((status == 128 + SIGTERM || status == 128 + SIGINT));
    }
}

TEST_CASE("B5: a file given twice, or as input and output, is refused whatever its name", "[batch][accounts]") {
    Sandbox box;
    box.write("lines", "echo x >>ran\n");
    box.write("log", "what it has\n");
    std::filesystem::create_symlink("log", box.path("link"));
    std::filesystem::create_hard_link(box.path("log"), box.path("hard"));
    const std::string itself = box.path("../") + std::filesystem::path(box.directory()).filename().string() + "/log";
    const auto said = [&](How how) {
        if (!how.input && how.stdin_fd < 0) how.input = "";
        const Ended ended = box.run(std::move(how));
        CHECK(ended.exit == 125);
        return ended.err;
    };
    for (const std::string& other : {std::string("log"), std::string("./log"), box.path("log"), itself,
                                     std::string("link"), std::string("hard")}) {
        INFO(other);
        CHECK(said({.args = {"-a", "lines", "--joblog", "log", "--report", other}}) ==
              "coalesce: cannot write --report to " + other + ": it is also --joblog\n");
        CHECK(said({.args = {"-a", "lines", "--joblog", other, "--html", "log"}}) ==
              "coalesce: cannot write --html to log: it is also --joblog\n");
        CHECK(said({.args = {"-a", "log", "--joblog", other}}) ==
              "coalesce: cannot write --joblog to " + other + ": it is also the input\n");
        CHECK(said({.args = {"-a", "log", "--joblog", "+" + other}}) ==
              "coalesce: cannot write --joblog to " + other + ": it is also the input\n");
        const Descriptor input = open_file(box.path("log"), O_RDONLY);
        CHECK(said({.args = {"--html", other}, .stdin_fd = input.get()}) ==
              "coalesce: cannot write --html to " + other + ": it is also the input\n");
        const Descriptor output = open_file(box.path("log"), O_WRONLY | O_APPEND);
        CHECK(said({.args = {"-a", "lines", "--report", other}, .stdout_fd = output.get()}) ==
              "coalesce: cannot write --report to " + other + ": it is also standard output\n");
        CHECK(said({.args = {"-a", other}, .stdout_fd = output.get()}) ==
              "coalesce: cannot write to the input: it is also standard output\n");
        CHECK(box.run({.args = {"-a", "lines", "--report", other}, .input = "", .stderr_fd = output.get()}).exit ==
              125);
        CHECK_THAT(box.read("log"), StartsWith("what it has\n"));
        box.write("log", "what it has\n");
    }
    CHECK_FALSE(box.exists("ran"));
    // A name that is not there yet is compared too, and no device or pipe is mistaken for a file.
    CHECK_THAT(said({.args = {"-a", "lines", "--joblog", "new", "--report", "./new"}}),
               Contains("it is also --joblog"));
    const Descriptor null = open_file("/dev/null", O_RDWR);
    CHECK(box.run({.args = {"-a", "lines", "--joblog", "/dev/null", "--report", "/dev/null"},
                   .stdin_fd = null.get(),
                   .stdout_fd = null.get()})
              .exit == 0);
    CHECK(box.lines("ran") == 1);
}

TEST_CASE("B5: an account on /dev/stderr goes to where that is, and truncates nothing", "[batch][accounts]") {
    Sandbox box;
    box.write("log", "before\n");
    for (const char* name : {"/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"}) {
        const Descriptor log = open_file(box.path("log"), O_WRONLY | O_APPEND);
        CHECK(box.run({.args = {"--joblog", name}, .input = "echo complaint >&2\n", .stderr_fd = log.get()}).exit == 0);
    }
    CHECK_THAT(box.read("log"), StartsWith("before\nSeq\t") && Contains("complaint\nSeq\t"));
    CHECK(box.lines("log") == 1 + 3 * 3);
    const Descriptor output = open_file(box.path("out"), O_WRONLY | O_CREAT);  // no O_APPEND: they share a position
    CHECK(box.run({.args = {"--report", "/dev/stdout"}, .input = "echo result\n", .stdout_fd = output.get()}).exit ==
          0);
    CHECK_THAT(box.read("out"), StartsWith("{\"sequence\":1,") && EndsWith("}\nresult\n"));
}

TEST_CASE("B5: no account has more runs at once than there may be", "[batch][accounts]") {
    Sandbox box;
    std::string lines;
    for (int i = 0; i < 200; ++i) lines += "true " + std::to_string(i) + "\n";
    box.batch({"-j4", "--html", "page"}, lines + "true 0\ntrue 1\n");
    std::set<std::string> runs;
    std::vector<std::pair<std::string, int>> changes;  // times are of equal length: text will do
    const std::string page = box.read("page");
    const auto field = [&page](const char* name, std::size_t from) {
        const std::size_t at = page.find(std::string("\"") + name + "\":", from) + std::string(name).size() + 3;
        return page.substr(at, page.find_first_of(",}", at) - at);
    };
    for (auto at = page.find("\n{\"n\":"); at != std::string::npos; at = page.find("\n{\"n\":", at + 1)) {
        if (!runs.insert(field("run", at)).second) continue;
        changes.emplace_back(field("started", at), +1);
        changes.emplace_back(field("ended", at), -1);
    }
    REQUIRE(runs.size() >= 200);
    std::sort(changes.begin(), changes.end());
    int running = 0;
    int most = 0;
    for (const auto& [when, change] : changes) most = std::max(most, running += change);
    CHECK(most <= 4);
}

TEST_CASE("B5: -v closes with a summary", "[batch][accounts]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    gate.open();
    const Ended ended = box.batch({"-v", "-j1"}, repeated("read x <gate\n", 3) + "false\n");
    CHECK(std::regex_match(
        ended.err,
        std::regex("coalesce: 4 requests, 2 runs, 2 shared, 1 failed, [0-9.ms ]+ in all, [0-9.ms ]+ saved\n")));
    CHECK(box.batch({}, "true\n").err.empty());
}

TEST_CASE("B5: --progress draws on a terminal and clears its line", "[batch][accounts]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    Terminal terminal = open_terminal(100);
    SECTION("asked for") {
        Running batch = box.start({.args = {"--progress", "-j1"},
                                   .input = "read x <gate\nread x <gate\nfalse\n",
                                   .stderr_fd = terminal.slave.get()});
        terminal.slave.reset();
        const std::string seen = read_all(terminal.master.get(), "0/3 done, 1 running, 0 shared, 0 failed");
        CHECK_THAT(seen, Contains("\r[--------------------] 0/3"));
        gate.open(2);
        const std::string rest = read_all(terminal.master.get());
        CHECK_THAT(rest, EndsWith("\r\x1b[K"));  // taken away at the end
        CHECK(batch.wait().exit == 123);
    }
    SECTION("by default, when stderr is a terminal and the output is not") {
        Running batch = box.start({.input = "read x <gate\n", .stderr_fd = terminal.slave.get()});
        terminal.slave.reset();
        CHECK_THAT(read_all(terminal.master.get(), "1 running"), Contains("0/1 done"));
        gate.open();
        CHECK(batch.wait().exit == 0);
    }
    SECTION("not by default when output and stderr are the same terminal, or with --no-progress") {
        for (const bool same : {true, false}) {
            Terminal other = open_terminal(100);
            Running batch =
                box.start({.args = same ? std::vector<std::string>{} : std::vector<std::string>{"--no-progress"},
                           .input = "sleep 0.3; echo x >&2\n",
                           .stdout_fd = same ? other.slave.get() : -1,
                           .stderr_fd = other.slave.get()});
            other.slave.reset();
            CHECK(read_all(other.master.get(), "x\r\n") == "x\r\n");
            CHECK(batch.wait().exit == 0);
        }
    }
    SECTION("a narrow terminal") {
        Terminal narrow = open_terminal(20);
        Running batch = box.start({.args = {"--progress"}, .input = "read x <gate\n", .stderr_fd = narrow.slave.get()});
        narrow.slave.reset();
        std::string seen = read_all(narrow.master.get(), "\x1b[K");
        CHECK(seen.size() <= 1 + 19 + 3);
        gate.open();
        CHECK(batch.wait().exit == 0);
    }
}

TEST_CASE("B5: output takes the progress line away before it is written", "[batch][accounts]") {
    Sandbox box;
    Gate gate = box.gate("gate");
    Terminal terminal = open_terminal(100);
    Running batch = box.start(
        {.args = {"--progress"}, .input = "read x <gate; echo complaint >&2\n", .stderr_fd = terminal.slave.get()});
    terminal.slave.reset();
    read_all(terminal.master.get(), "1 running");
    gate.open();
    const std::string seen = read_all(terminal.master.get());
    CHECK_THAT(seen, Contains("\r\x1b[Kcomplaint\r\n"));
    CHECK(batch.wait().exit == 0);
}
