// SPDX-License-Identifier: MIT
// Which lines need a shell. Whether the plain ones really behave the same is the
// differential test's question.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include <coalesce/command/shell_line.h>

#include "../catch.h"
#include "nasty_lines.h"

using namespace coalesce;
using Words = std::vector<std::string>;
namespace fs = std::filesystem;

namespace {

struct ScratchDirectory {
    ScratchDirectory() {
        char name[] = "/tmp/coalesce-line-XXXXXX";
        if (::mkdtemp(name) == nullptr) std::abort();
        path = name;
    }
    ~ScratchDirectory() { fs::remove_all(path); }
    ScratchDirectory(const ScratchDirectory&) = delete;
    ScratchDirectory& operator=(const ScratchDirectory&) = delete;

    std::string file(const std::string& name, mode_t mode) const {
        const std::string full = path + "/" + name;
        fs::create_directories(fs::path(full).parent_path());
        std::ofstream(full) << "#!/bin/sh\n";
        ::chmod(full.c_str(), mode);
        return full;
    }

    std::string path;
};

std::optional<Words> env_of(Words env, std::string cwd = "/usr") {
    return env_as_shell_would(Surroundings{std::move(cwd), std::move(env), 022});
}

}  // namespace

TEST_CASE("B1: each line picked by hand gets its verdict", "[shell_line]") {
    CHECK(std::size(coalesce_test::kNastyLines) >= 300);
    for (const auto& nasty : coalesce_test::kNastyLines) {
        INFO("[" << nasty.line << "]");
        CHECK(plain_words(nasty.line).has_value() == nasty.plain);
    }
}

TEST_CASE("B1: the words of a plain line are those the shell would make", "[shell_line]") {
    CHECK(plain_words("ls") == Words{"ls"});
    CHECK(plain_words("  ls\t-l   a ") == Words{"ls", "-l", "a"});
    CHECK(plain_words("ls 'a b' \"c d\"") == Words{"ls", "a b", "c d"});
    CHECK(plain_words("ls a'b'\"c\"d") == Words{"ls", "abcd"});
    CHECK(plain_words("ls '' \"\"") == Words{"ls", "", ""});
    CHECK(plain_words("ls ''''") == Words{"ls", ""});
    CHECK(plain_words("ls '$x`y\\z'") == Words{"ls", "$x`y\\z"});
    CHECK(plain_words("ls 'it'\"'\"'s'") == Words{"ls", "it's"});
    CHECK(plain_words("ls A=1") == Words{"ls", "A=1"});
}

TEST_CASE("B1: every byte that is not certainly plain is doubt", "[shell_line]") {
    const std::string safe = "_%+,./:@=-";
    for (int byte = 0; byte < 256; ++byte) {
        const char c = static_cast<char>(byte);
        INFO(byte);
        const bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        const bool blank = c == ' ' || c == '\t';
        const bool plain = alnum || blank || safe.find(c) != std::string::npos;
        CHECK(plain_words(std::string("ls a") + c + "b").has_value() == plain);
        const bool printable = c >= ' ' && c <= '~';
        CHECK(plain_words(std::string("ls 'a") + c + "b'").has_value() == (printable && c != '\''));
        CHECK(plain_words(std::string("ls \"a") + c + "b\"").has_value() ==
              (printable && std::strchr("$`\\\"!", c) == nullptr));
    }
}

TEST_CASE("B1: a line that is too long for the shell's own argv is left to it", "[shell_line]") {
    const std::string most = "ls " + std::string(131'071 - 3, 'a');
    CHECK(plain_words(most).has_value());
    CHECK_FALSE(plain_words(most + "a").has_value());
}

TEST_CASE("B1: only dash is understood, under whatever name", "[shell_line]") {
    const ScratchDirectory dir;
    const std::string dash = dir.file("elsewhere/dash", 0755);
    const std::string bash = dir.file("bash", 0755);
    const std::string sh = dir.path + "/sh", sh2 = dir.path + "/sh2";
    REQUIRE(::symlink("elsewhere/dash", sh.c_str()) == 0);
    REQUIRE(::symlink("bash", sh2.c_str()) == 0);
    CHECK(shell_is_understood(dash));
    CHECK(shell_is_understood(sh));
    CHECK_FALSE(shell_is_understood(bash));
    CHECK_FALSE(shell_is_understood(sh2));
    CHECK_FALSE(shell_is_understood(dir.path + "/nowhere"));
    CHECK_FALSE(shell_is_understood("dash"));
    CHECK_FALSE(shell_is_understood(""));
}

TEST_CASE("B1: an environment that steers the shell keeps every line on it", "[shell_line]") {
    const auto interferes = [](Words env) { return shell_may_interfere(env); };
    CHECK_FALSE(interferes({"PATH=/usr/bin:/bin"}));
    CHECK_FALSE(interferes({"PATH=/", "LD_LIBRARY_PATH=/x", "ENV=/x", "HOME=/", "PS1=x", "A.B=1", "PWD=/x"}));
    CHECK(interferes({}));
    CHECK(interferes({"PATH"}));
    for (const char* path : {"", ":", "/bin:", ":/bin", "/bin::/usr/bin", "bin", "/bin:bin", ".", "/bin:.",
                             "/bin:%builtin", "/bin%func", "%func", "~/bin"}) {
        INFO(path);
        CHECK(interferes({std::string("PATH=") + path}));
    }
    CHECK(interferes({"PATH=/bin", "PATH=/usr/bin"}));
    CHECK_FALSE(interferes({"PATH=/bin", "PATH"}));
    for (const char* entry : {"SHELLOPTS=xtrace", "BASHOPTS=x", "BASH_ENV=/x", "BASH_FUNC_ls%%=() { :; }",
                              "BASH_XTRACEFD=1", "IFS=x", "OPTIND=2", "OPTIND=x", "PPID=1", "LD_PRELOAD=/x",
                              "LD_DEBUG=all", "LD_TRACE_LOADED_OBJECTS=1", "LD_AUDIT=/x"}) {
        INFO(entry);
        CHECK(interferes({"PATH=/bin", entry}));
    }
}

TEST_CASE("B1: a program is the first executable file on the path", "[shell_line]") {
    const ScratchDirectory dir;
    const std::string first = dir.file("one/both", 0755), second = dir.file("two/both", 0755);
    const std::string later = dir.file("two/later", 0755);
    const std::string path = dir.path + "/one:" + dir.path + "/two";
    CHECK(find_program("both", path) == first);
    CHECK(find_program("later", path) == later);
    CHECK_FALSE(find_program("none", path).has_value());
    CHECK(find_program("later", dir.path + "/nowhere:" + path) == later);
    CHECK(find_program("later", first + ":" + path) == later);  // an element that is a file is passed over
    CHECK(find_program("both", dir.path + "/one/") == dir.path + "/one//both");  // spelled as dash does
    CHECK_FALSE(find_program("one/both", dir.path).has_value());
    CHECK_FALSE(find_program("", path).has_value());
    CHECK_FALSE(find_program("both", "").has_value());
}

TEST_CASE("B1: a candidate that is there but cannot be executed is for the shell to complain about", "[shell_line]") {
    const ScratchDirectory dir;
    const std::string good = dir.file("two/tool", 0755);
    const std::string path = dir.path + "/one:" + dir.path + "/two";
    SECTION("a file without execute permission") { dir.file("one/tool", 0644); }
    SECTION("a directory") { fs::create_directories(dir.path + "/one/tool"); }
    SECTION("a fifo") {
        fs::create_directories(dir.path + "/one");
        REQUIRE(::mkfifo((dir.path + "/one/tool").c_str(), 0755) == 0);
    }
    SECTION("a symbolic link to itself") {
        fs::create_directories(dir.path + "/one");
        fs::create_symlink("tool", dir.path + "/one/tool");
    }
    CHECK_FALSE(find_program("tool", path).has_value());
    CHECK(find_program("tool", dir.path + "/two:" + dir.path + "/one") == good);
}

TEST_CASE("B1: an element of the path that means something to dash stops the search", "[shell_line]") {
    const ScratchDirectory dir;
    const std::string good = dir.file("two/tool", 0755);
    for (const char* before : {"", ".", "relative", "%builtin", "/x%func"}) {
        INFO(before);
        CHECK_FALSE(find_program("tool", std::string(before) + ":" + dir.path + "/two").has_value());
        CHECK(find_program("tool", dir.path + "/two:" + before) == good);  // never reached
    }
}

TEST_CASE("B1: a child of the shell sees PWD, whatever was passed in", "[shell_line]") {
    const ScratchDirectory dir;
    const std::string real = dir.path + "/real", link = dir.path + "/link";
    fs::create_directory(real);
    fs::create_symlink("real", link);
    CHECK(env_of({}, real) == Words{"PWD=" + real});
    CHECK(env_of({"PWD=" + real}, real) == Words{"PWD=" + real});
    CHECK(env_of({"PWD=" + link}, real) == Words{"PWD=" + link});
    CHECK(env_of({"PWD=/"}, real) == Words{"PWD=" + real});
    CHECK(env_of({"PWD=/nowhere"}, real) == Words{"PWD=" + real});
    CHECK(env_of({"PWD="}, real) == Words{"PWD=" + real});
    CHECK(env_of({"PWD=."}, real) == Words{"PWD=" + real});
    CHECK(env_of({"PWD=/", "PWD=" + link}, real) == Words{"PWD=" + link});
    CHECK(env_of({"PWD=" + link, "PWD=/"}, real) == Words{"PWD=" + real});
    CHECK(env_of({}, link) == Words{"PWD=" + real});  // as getcwd() has it
    CHECK_FALSE(env_of({}, dir.path + "/nowhere").has_value());
    CHECK_FALSE(env_of({}, "").has_value());
    CHECK_FALSE(env_of({}, "relative").has_value());
}

TEST_CASE("B1: names that are no shell names do not reach a child of the shell", "[shell_line]") {
    CHECK(env_of({"PWD=/usr", "A.B=1", "1A=1", "=x", "A-B=1", "A b=1", "NAME", "", "\xc3\xa9=1",
                  "BASH_FUNC_x%%=() {"}) == Words{"PWD=/usr"});
}

TEST_CASE("B1: of a variable given twice the last value reaches a child of the shell", "[shell_line]") {
    CHECK(env_of({"PWD=/usr", "PATH=/a", "PATH=/b"}) == Words{"PATH=/b", "PWD=/usr"});
}

TEST_CASE("B1: the shell turns death by a signal into a status and a notice", "[shell_line]") {
    const auto end = end_as_shell_would(Outcome::signalled(SIGTERM));
    CHECK(end.outcome == Outcome::exited(143));
    CHECK(end.notice == "Terminated\n");
    CHECK(end_as_shell_would(Outcome::signalled(SIGSEGV, true)).notice == "Segmentation fault (core dumped)\n");
    for (const int silent : {SIGINT, SIGPIPE}) {
        CHECK(end_as_shell_would(Outcome::signalled(silent)).outcome == Outcome::exited(128 + silent));
        CHECK(end_as_shell_would(Outcome::signalled(silent)).notice.empty());
    }
    for (const Outcome& other : {Outcome::exited(3), Outcome::timed_out(), Outcome::cancelled(), Outcome::lost("x")}) {
        CHECK(end_as_shell_would(other).outcome == other);
        CHECK(end_as_shell_would(other).notice.empty());
    }
}
