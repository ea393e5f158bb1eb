// SPDX-License-Identifier: MIT
// What a command inherits and how it is shown.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <coalesce/command/command.h>

#include "../catch.h"

using coalesce::display;
using coalesce::env_value;
using coalesce::set_env;
using Words = std::vector<std::string>;

TEST_CASE("O1: a command is shown as it could be typed, on one line", "[command]") {
    CHECK(display({"ls", "-l", "/tmp"}) == "ls -l /tmp");
    CHECK(display({"echo", "a b"}) == "echo 'a b'");
    CHECK(display({"echo", ""}) == "echo ''");
    CHECK(display({"echo", "it's"}) == "echo 'it'\\''s'");
    CHECK(display({"echo", "$HOME", "*", "~"}) == "echo '$HOME' '*' '~'");
    CHECK(display({"a b"}) == "'a b'");
    CHECK(display({}).empty());
}

TEST_CASE("O1: a first word that a shell would take for syntax is quoted", "[command]") {
    CHECK(display({"A=1", "ls"}) == "'A=1' ls");
    CHECK(display({"env", "A=1", "ls"}) == "env A=1 ls");
    CHECK(display({"if", "if"}) == "'if' if");
    CHECK(display({"echo", "=ls"}) == "echo '=ls'");
}

TEST_CASE("O1: control characters are shown escaped and never reach the terminal", "[command]") {
    CHECK(display({"echo", "a\nb"}) == "echo $'a\\nb'");
    CHECK(display({"echo", "\t\r"}) == "echo $'\\t\\r'");
    CHECK(display({"echo", "\x1b[31m"}) == "echo $'\\033[31m'");
    CHECK(display({"echo",
                   "\x01"
                   "1"}) == "echo $'\\0011'");
    CHECK(display({"echo", "it's\n\\"}) == "echo $'it\\'s\\n\\\\'");
    CHECK(display({"echo", "\x7f"}) == "echo $'\\177'");
    for (int byte = 1; byte < 256; ++byte) {
        const std::string shown = display({"echo", std::string(1, static_cast<char>(byte))});
        for (const char c : shown) CHECK((c >= ' ' && c <= '~'));
    }
}

TEST_CASE("O1: UTF-8 is shown as it is, broken or treacherous UTF-8 escaped", "[command]") {
    CHECK(display({"echo", "Grüße"}) == "echo 'Grüße'");
    CHECK(display({"echo", "日本\n"}) == "echo $'日本\\n'");
    CHECK(display({"echo", "\xff"}) == "echo $'\\377'");
    CHECK(display({"echo", "\xc3"}) == "echo $'\\303'");                             // cut short
    CHECK(display({"echo", "\xc0\xaf"}) == "echo $'\\300\\257'");                    // overlong
    CHECK(display({"echo", "\xe0\x80\xaf"}) == "echo $'\\340\\200\\257'");           // overlong
    CHECK(display({"echo", "\xed\xa0\x80"}) == "echo $'\\355\\240\\200'");           // surrogate
    CHECK(display({"echo", "\xf4\x90\x80\x80"}) == "echo $'\\364\\220\\200\\200'");  // beyond Unicode
    CHECK(display({"echo",
                   "\xc2\x9b"
                   "31m"}) == "echo $'\\302\\23331m'");  // C1 control sequence
    CHECK(display({"echo",
                   "a\xe2\x80\xae"
                   "b"}) == "echo $'a\\342\\200\\256b'");  // right-to-left override
    CHECK(display({"echo",
                   "a\xe2\x80\xa8"
                   "b"}) == "echo $'a\\342\\200\\250b'");  // line separator
    CHECK(display({"echo", "\xf0\x9f\x98\x80"}) == "echo '\xf0\x9f\x98\x80'");
}

TEST_CASE("K1: the value of a variable is the first one, as getenv has it", "[command]") {
    const Words env = {"AB=0", "A=1", "A=2", "B", "C=", "D=x=y"};
    CHECK(env_value(env, "A") == "1");
    CHECK(env_value(env, "C") == "");
    CHECK(env_value(env, "D") == "x=y");
    CHECK_FALSE(env_value(env, "B").has_value());
    CHECK_FALSE(env_value(env, "E").has_value());
}

TEST_CASE("F11: setting a variable leaves exactly one of its name", "[command]") {
    Words env = {"X=0", "A=1", "Y=0", "A=2", "A"};
    set_env(env, "A", "3");
    CHECK(env == Words{"X=0", "A=3", "Y=0"});
    set_env(env, "B", "");
    CHECK(env == Words{"X=0", "A=3", "Y=0", "B="});
}

TEST_CASE("R1: this process's own surroundings are what a child of it would inherit", "[command]") {
    const mode_t before = ::umask(027);
    ::setenv("COALESCE_TEST_MARK", "a=b", 1);
    const auto own = coalesce::own_surroundings();
    const mode_t during = ::umask(before);
    REQUIRE(own.ok());
    CHECK(own.value().umask == 027);
    CHECK(during == 027);
    CHECK(env_value(own.value().env, "COALESCE_TEST_MARK") == "a=b");
    struct stat here {
    }, named{};
    REQUIRE(::stat(".", &here) == 0);
    REQUIRE(::stat(own.value().cwd.c_str(), &named) == 0);
    CHECK(here.st_ino == named.st_ino);
    CHECK(own.value().cwd.front() == '/');
}

TEST_CASE("R9: a deleted directory is named as the kernel shows it", "[command]") {
    const int home = ::open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    REQUIRE(home >= 0);
    char gone[] = "/tmp/coalesce-gone-XXXXXX";
    REQUIRE(::mkdtemp(gone) != nullptr);
    REQUIRE(::chdir(gone) == 0);
    REQUIRE(::rmdir(gone) == 0);
    const auto own = coalesce::own_surroundings();
    REQUIRE(::fchdir(home) == 0);
    ::close(home);
    REQUIRE(own.ok());
    CHECK(own.value().cwd == std::string(gone) + " (deleted)");
}
