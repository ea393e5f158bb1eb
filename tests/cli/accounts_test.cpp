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
    CHECK(rows[3][8] == "printf 'a b'");
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
    const Descriptor full = open_file("/dev/full", O_WRONLY);
    CHECK(box.run({.args = {"--dry-run"}, .input = "echo x\n", .stdout_fd = full.get()}).exit == 125);
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
