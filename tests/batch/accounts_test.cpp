// SPDX-License-Identifier: MIT
// The line that shows progress, and the accounts on disk (SPEC B5).
#include <coalesce/batch/ledger.h>
#include <coalesce/batch/progress.h>

#include <nlohmann/json.hpp>

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <string>
#include <vector>

#include "../catch.h"
#include "../scratch.h"

using namespace coalesce;
using namespace std::chrono_literals;

namespace {

RequestRecord record_of(std::uint64_t sequence, const std::string& command, Outcome outcome) {
    return {.sequence = sequence,
            .run = 7,
            .command = command,
            .started = std::chrono::system_clock::time_point(1'700'000'000'123ms),
            .run_time = 1500ms,
            .stdout_bytes = 42,
            .outcome = std::move(outcome)};
}

}  // namespace

TEST_CASE("B5: the progress line shows a bar once the total is known, and a time to go", "[progress]") {
    const ProgressFacts half{.done = 50, .read = 100, .total_known = true, .running = 4, .shared = 10, .failed = 1};
    CHECK(progress_line(half, 10s, 200) ==
          "[##########----------] 50/100 done, 4 running, 10 shared, 1 failed, 5.0/s, ETA 10s");
    const ProgressFacts reading{.done = 50, .read = 100, .running = 4};
    CHECK(progress_line(reading, 10s, 200) == "50/100+ done, 4 running, 0 shared, 0 failed, 5.0/s");
    const ProgressFacts all{.done = 100, .read = 100, .total_known = true};
    CHECK(progress_line(all, 10s, 200).starts_with("[####################] 100/100 done"));
    const ProgressFacts nothing{.total_known = true};
    CHECK(progress_line(nothing, 0s, 200).starts_with("0/0+ done"));
}

TEST_CASE("B5: the progress line fits its terminal, and no facts break it", "[progress]") {
    const ProgressFacts facts{.done = 50, .read = 100, .total_known = true, .running = 4};
    for (const int columns : {-1, 0, 1, 10, 79})
        CHECK(progress_line(facts, 10s, columns).size() == static_cast<std::size_t>(std::max(columns, 0)));
    const ProgressFacts more_than_all{.done = 200, .read = 100, .total_known = true};
    CHECK(progress_line(more_than_all, 1s, 200).starts_with("[####################] 200/100"));
    const ProgressFacts huge{.done = 1, .read = ~std::uint64_t{0}, .total_known = true};
    CHECK_FALSE(progress_line(huge, 1000h, 300).empty());
    CHECK_FALSE(progress_line({.done = 5, .read = 9, .total_known = true}, 0ns, 300).empty());
}

TEST_CASE("B5: a joblog row is what GNU parallel's would be", "[ledger]") {
    Scratch scratch;
    auto ledger = Ledger::open({.joblog = scratch.path("log")});
    REQUIRE(ledger);
    ledger->add(record_of(1, "echo a\tb\nc", Outcome::exited(3)), "");
    ledger->add(record_of(2, "kill", Outcome::signalled(9)), "");
    ledger->add(record_of(3, "slow", Outcome::timed_out()), "");
    ledger->add(record_of(4, "gone", Outcome::not_started(ENOENT, "no")), "");
    CHECK(scratch.read("log") ==
          "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n"
          "1\t:\t1700000000.123\t     1.500\t0\t42\t3\t0\t$'echo a\\tb\\nc'\n"
          "2\t:\t1700000000.123\t     1.500\t0\t42\t0\t9\tkill\n"
          "3\t:\t1700000000.123\t     1.500\t0\t42\t124\t0\tslow\n"
          "4\t:\t1700000000.123\t     1.500\t0\t42\t127\t0\tgone\n");
    CHECK_FALSE(ledger->failed());
}

TEST_CASE("B5: a report line is one JSON object on one line, whatever is in the command", "[ledger]") {
    Scratch scratch;
    auto ledger = Ledger::open({.report = scratch.path("report")});
    REQUIRE(ledger);
    CHECK(ledger->wanted());
    CHECK(ledger->wants_key());
    RequestRecord record = record_of(1, "echo \"\n\xff\x1b", Outcome::not_started(ENOENT, "cannot run \"x\""));
    record.id = "\"my id\"";
    ledger->add(record, "abc");
    const std::string text = scratch.read("report");
    CHECK(std::count(text.begin(), text.end(), '\n') == 1);
    const auto line = nlohmann::json::parse(text);
    CHECK(line["command"] == "echo \"\n\xEF\xBF\xBD\x1b");
    CHECK(line["id"] == "my id");
    CHECK(line["key"] == "abc");
    CHECK(line["end"] == "cannot run \"x\"");
    CHECK(line["exit"] == 127);
    CHECK(line["run_time"] == 1.5);
}

TEST_CASE("B5: an account that finds no room is told of once, and a cut line does not swallow the next", "[ledger]") {
    Scratch scratch;
    auto ledger = Ledger::open({.joblog = scratch.path("log"), .report = scratch.path("report")});
    REQUIRE(ledger);
    std::vector<std::string> told;
    ledger->on_complaint([&](const std::string& sentence) { told.push_back(sentence); });
    ::signal(SIGXFSZ, SIG_IGN);
    rlimit before{};
    ::getrlimit(RLIMIT_FSIZE, &before);
    const rlimit small{200, before.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &small);
    for (std::uint64_t i = 1; i <= 5; ++i) ledger->add(record_of(i, std::string(90, 'x'), Outcome::exited(0)), "");
    ::setrlimit(RLIMIT_FSIZE, &before);
    ledger->add(record_of(6, "there is room again", Outcome::exited(0)), "");
    CHECK(ledger->failed());
    std::sort(told.begin(), told.end());
    CHECK(told == std::vector<std::string>{"cannot write " + scratch.path("log") + ": File too large",
                                           "cannot write " + scratch.path("report") + ": File too large"});
    const std::string log = scratch.read("log");
    CHECK(log.ends_with("\n6\t:\t1700000000.123\t     1.500\t0\t42\t0\t0\tthere is room again\n"));
    const std::string report = scratch.read("report");
    CHECK(nlohmann::json::parse(report.substr(report.rfind('\n', report.size() - 2) + 1))["sequence"] == 6);
}

TEST_CASE("B5: a path that cannot be opened is refused before anything runs", "[ledger]") {
    Scratch scratch;
    for (const Ledger::Paths& paths :
         {Ledger::Paths{.joblog = "/no/such/file"}, Ledger::Paths{.report = "/no/such/file"},
          Ledger::Paths{.html = "/no/such/file"}, Ledger::Paths{.joblog = scratch.path("")}}) {
        const auto ledger = Ledger::open(paths);
        REQUIRE_FALSE(ledger);
        CHECK_FALSE(ledger.error().message().empty());
    }
    const auto full = Ledger::open({.joblog = "/dev/full"});
    REQUIRE_FALSE(full);
    CHECK(full.error().message() == "write /dev/full: No space left on device");
}
