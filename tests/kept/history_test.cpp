// SPDX-License-Identifier: MIT
// How long commands take (SPEC H1–H5).
#include <coalesce/kept/history.h>

#include "../catch.h"

#include <sys/stat.h>

#include <fstream>
#include <string>

#include "../scratch.h"

using namespace coalesce;
using namespace std::chrono_literals;

namespace {

Checksum command(const std::string& word) { return History::name_of({word}, "/srv", "", ""); }

}  // namespace

TEST_CASE("H2: usually is the median of the successful runs, failed ones only without them", "[kept]") {
    Scratch scratch;
    const History history(scratch.path("history"));
    CHECK_FALSE(history.find(command("a")));
    history.add(command("a"), 3s, false);
    CHECK(history.find(command("a"))->time == 3s);
    history.add(command("a"), 65s, true);
    CHECK(history.find(command("a"))->words() == "last time 1m 5s");
    history.add(command("a"), 10s, true);
    history.add(command("a"), 11s, true);
    CHECK(history.find(command("a"))->time == 11s);
    CHECK(history.find(command("a"))->words() == "usually 11s");
    SECTION("the last five count") {
        for (int run = 0; run < 5; ++run) history.add(command("a"), 2s, true);
        CHECK(history.find(command("a"))->time == 2s);
        CHECK(history.find(command("a"))->runs == 5);
    }
    CHECK_FALSE(history.find(command("b")));
}

TEST_CASE("H1: shorter runs touch no file", "[kept]") {
    Scratch scratch;
    History(scratch.path("history")).add(command("a"), 999ms, true);
    CHECK(scratch.empty());
}

TEST_CASE("H5: the file is bounded, private, and holds no words", "[kept]") {
    Scratch scratch;
    const History history(scratch.path("deep/er/history"));
    for (int number = 0; number < 20'000; ++number) history.add(command("word" + std::to_string(number)), 5s, true);
    struct stat info {};
    REQUIRE(::stat(scratch.path("deep/er/history").c_str(), &info) == 0);
    CHECK(info.st_size <= 1 << 20);
    CHECK((info.st_mode & 07777) == 0600);
    CHECK(scratch.read("deep/er/history").find("word") == std::string::npos);
    CHECK(history.find(command("word19999")));
}

TEST_CASE("H5: a torn record is a shorter memory, a file that is none is no estimate", "[kept]") {
    Scratch scratch;
    const History history(scratch.path("history"));
    history.add(command("a"), 5s, true);
    std::string bytes = scratch.read("history");
    const std::size_t at = bytes.find_first_not_of('\0');
    bytes[at + 16] = static_cast<char>(bytes[at + 16] ^ 1);
    scratch.file("history", bytes, 0600);
    CHECK_FALSE(history.find(command("a")));
    history.add(command("a"), 6s, true);
    CHECK(history.find(command("a"))->time == 6s);
    scratch.file("history", "nonsense", 0600);
    CHECK_FALSE(history.find(command("a")));
    history.add(command("a"), 7s, true);
    CHECK(history.find(command("a"))->time == 7s);
}

TEST_CASE("H5: COALESCE_HISTORY=no, and no home: nothing is remembered", "[kept]") {
    Scratch scratch;
    const std::string home = "HOME=" + scratch.path();
    for (const auto& env : {std::vector<std::string>{home, "COALESCE_HISTORY=no"}, std::vector<std::string>{}}) {
        const History history(env);
        history.add(command("a"), 5s, true);
        CHECK_FALSE(history.find(command("a")));
    }
    CHECK(scratch.empty());
    History(std::vector<std::string>{home}).add(command("a"), 5s, true);
    CHECK(History(std::vector<std::string>{"XDG_STATE_HOME=" + scratch.path() + "/.local/state"}).find(command("a")));
}
