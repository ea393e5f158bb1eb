// SPDX-License-Identifier: MIT
// How long commands take (SPEC H1–H5).
#include <coalesce/kept/history.h>

#include "../catch.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "../scratch.h"

using namespace coalesce;
using namespace std::chrono_literals;

namespace {

Key key_of(const std::vector<std::string>& argv, const Surroundings& surroundings, const KeyRules& rules = {}) {
    return {std::make_shared<const CanonicalSurroundings>(canonical_surroundings(surroundings, rules)),
            words_of_key(argv, std::nullopt, rules)};
}

Checksum command(const std::string& word) { return History::name_of(key_of({word}, {.cwd = "/srv", .env = {}})); }

// The process's variables for as long as it lives; no test here has threads.
class Environment {
  public:
    explicit Environment(std::map<std::string, std::string> variables) {
        for (const char* name : {"HOME", "XDG_STATE_HOME", "COALESCE_HISTORY"}) {
            const char* const value = std::getenv(name);
            before_.emplace_back(name, value == nullptr ? std::nullopt : std::optional<std::string>(value));
            ::unsetenv(name);
        }
        for (const auto& [name, value] : variables) ::setenv(name.c_str(), value.c_str(), 1);
    }
    ~Environment() {
        for (const auto& [name, value] : before_)
            value ? ::setenv(name.c_str(), value->c_str(), 1) : ::unsetenv(name.c_str());
    }
    Environment(const Environment&) = delete;
    Environment& operator=(const Environment&) = delete;

  private:
    std::vector<std::pair<std::string, std::optional<std::string>>> before_;
};

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

TEST_CASE("H1: argv or line, directory, scope and key text name a command, and nothing else does", "[kept]") {
    const Surroundings here{.cwd = "/srv", .env = {"A=1"}};
    const Checksum name = History::name_of(key_of({"make", "docs"}, here));
    SECTION("the same in another environment, under another umask and identity, with states of files") {
        const Surroundings other{.cwd = "/srv", .env = {"A=2", "B=3"}, .umask = 077, .identity = "1:x"};
        CHECK(History::name_of(key_of({"make", "docs"}, other)) == name);
        CHECK(History::name_of(key_of({"make", "docs"}, here, {.no_share = true})) == name);
        CHECK(History::name_of(key_of({"make", "docs"}, here, {.states = {{"src", "1"}}})) == name);
        CHECK(History::name_of(key_of({"make", "docs"}, here, {.user = ::geteuid()})) == name);
    }
    SECTION("another where any of them differs") {
        const std::vector<Checksum> others{History::name_of(key_of({"make docs"}, here)),
                                           History::name_of(key_of({"make", "doc", "s"}, here)),
                                           History::name_of(key_of({"make", "docs"}, {.cwd = "/srv/x", .env = {}})),
                                           History::name_of(key_of({"make", "docs"}, here, {.scope = "a"})),
                                           History::name_of(key_of({"make", "docs"}, here, {.key = "docs"})),
                                           History::name_of(key_of({"make", "docs"}, here, {.user = ::geteuid() + 1}))};
        for (const Checksum& other : others) {
            CHECK(other != name);
            CHECK(std::count(others.begin(), others.end(), other) == 1);
        }
    }
    SECTION("a line is one for every door") {
        std::string words;
        append_canonical_line(words, canonical_shell("/bin/sh"), "make docs");
        const Key by_argv = key_of({"/bin/sh", "-c", "make docs"}, here);
        CHECK(History::name_of({by_argv.surroundings, words}) == History::name_of(by_argv));
    }
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
    const auto remember = [] { History::of_this_user().add(command("a"), 5s, true); };
    const auto remembers = [] { return History::of_this_user().find(command("a")).has_value(); };
    for (const auto& variables :
         {std::map<std::string, std::string>{{"HOME", scratch.path()}, {"COALESCE_HISTORY", "no"}},
          std::map<std::string, std::string>{}}) {
        const Environment environment(variables);
        remember();
        CHECK_FALSE(remembers());
    }
    CHECK(scratch.empty());
    {
        const Environment environment({{"HOME", scratch.path()}});
        remember();
    }
    const Environment environment({{"XDG_STATE_HOME", scratch.path(".local/state")}});
    CHECK(remembers());
}

TEST_CASE("H5: whatever the umask, and whoever widened it, the file is private", "[kept]") {
    Scratch scratch;
    const mode_t before = ::umask(0777);
    History(scratch.path("state/history")).add(command("a"), 5s, true);
    ::umask(before);
    const auto mode = [&](const char* name) {
        struct stat info {};
        REQUIRE(::stat(scratch.path(name).c_str(), &info) == 0);
        return info.st_mode & 07777;
    };
    CHECK(mode("state") == 0700);
    CHECK(mode("state/history") == 0600);
    REQUIRE(::chmod(scratch.path("state/history").c_str(), 0666) == 0);
    History(scratch.path("state/history")).add(command("a"), 5s, true);
    CHECK(mode("state/history") == 0600);
    CHECK(History(scratch.path("state/history")).find(command("a"))->runs == 2);
}
