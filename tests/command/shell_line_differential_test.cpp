// SPDX-License-Identifier: MIT
// B1 promises that a line executed directly cannot be told from the same line run by
// the shell. Here both are done, thousands of times, with programs that print all they
// can see of how they were started, and status, stdout and stderr are compared.
//
// The seed is printed; COALESCE_TEST_SEED repeats a run, COALESCE_LONG invents sixteen times as many lines. A line that
// plain_words() leaves to the shell is not run: there is nothing to compare.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <random>
#include <sstream>

#include <coalesce/command/command.h>
#include <coalesce/command/outcome.h>
#include <coalesce/command/shell_line.h>

#include "../catch.h"
#include "../not_tried.h"
#include "nasty_lines.h"

using namespace coalesce;
using Words = std::vector<std::string>;
namespace fs = std::filesystem;

namespace {

struct Seen {
    Outcome outcome;
    std::string out;
    std::string err;
    bool operator==(const Seen&) const = default;
};

std::ostream& operator<<(std::ostream& os, const Seen& seen) {
    return os << seen.outcome.describe() << "\nstdout:\n" << seen.out << "\nstderr:\n" << seen.err;
}

struct Descriptor {
    Descriptor() : fd(::memfd_create("output", MFD_CLOEXEC)) {
        if (fd < 0) std::abort();
    }
    ~Descriptor() { ::close(fd); }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;

    [[nodiscard]] std::string content() const {
        std::string bytes(static_cast<std::size_t>(::lseek(fd, 0, SEEK_END)), '\0');
        if (::pread(fd, bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) std::abort();
        return bytes;
    }

    int fd;
};

std::vector<char*> pointers(const Words& words) {
    std::vector<char*> out;
    for (const std::string& word : words) out.push_back(const_cast<char*>(word.c_str()));
    out.push_back(nullptr);
    return out;
}

// Runs the program to its end; nothing if it could not be executed.
std::optional<Seen> run(const std::string& path, const Words& argv, const Words& env, const std::string& cwd) {
    const Descriptor out, err;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out.fd, 1);
    posix_spawn_file_actions_adddup2(&actions, err.fd, 2);
    posix_spawn_file_actions_addchdir_np(&actions, cwd.c_str());
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    pid_t pid = 0;
    const int error =
        ::posix_spawn(&pid, path.c_str(), &actions, &attributes, pointers(argv).data(), pointers(env).data());
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    if (error != 0) return std::nullopt;
    int status = 0;
    if (::waitpid(pid, &status, 0) != pid) std::abort();
    const Outcome outcome = WIFEXITED(status) ? Outcome::exited(WEXITSTATUS(status))
                                              : Outcome::signalled(WTERMSIG(status), WCOREDUMP(status));
    return Seen{outcome, out.content(), err.content()};
}

// A directory full of programs, and of things that only look like programs.
class World {
  public:
    World() {
        char name[] = "/tmp/coalesce-world-XXXXXX";
        if (::mkdtemp(name) == nullptr) std::abort();
        base_ = name;
        cwd_ = base_ + "/here";
        for (const char* directory : {"bin1/tool", "bin1/onlydirectory", "bin2", "bash"})
            fs::create_directories(cwd_ + "/" + directory);
        for (const char* program : {"show",       "2",           "time",          "if",          "bin2/show",
                                    "bin2/tool",  "bin2/noexec", "bin2/dangling", "bin2/2x",     "bin2/1show",
                                    "bin2/_show", "bin2/a.b",    "bin2/x,y",      "bin2/x:y",    "bin2/x@y",
                                    "bin2/x%y",   "bin2/x+y",    "bin2/x-y",      "bin2/Show",   "bin2/environ",
                                    "bin2/truex", "bin2/cd-",    "bin2/if.x",     "bin2/linked", "bin1/laterloop"})
            fs::create_symlink(SHOW_START_PATH, cwd_ + "/" + program);
        fs::create_symlink("nothing-there", cwd_ + "/bin1/dangling");
        fs::create_symlink("loop", cwd_ + "/bin1/loop");
        fs::create_symlink("laterloop", cwd_ + "/bin2/laterloop");
        write("bin1/noexec", "#!/bin/sh\n", 0644);
        write("bin1/onlynoexec", "#!/bin/sh\n", 0644);
        write("bin2/bare", "echo bare \"$0\" \"$@\"\nexit 4\n", 0755);
        write("bin2/hashbang", "#!/bin/sh\nprintf '<%s>' \"$0\" \"$@\"\necho oops >&2\nexit 5\n", 0755);
        write("bin2/hashnone", "#!\necho none \"$0\" \"$@\"\n", 0755);
        write("bin2/badinterp", "#!/no/such/interpreter\n", 0755);
        write("bin2/empty", "", 0755);
        write("bin2/garbage", std::string("\x01\x02\0\xff garbage\n", 13), 0755);
        fs::create_symlink("/bin/bash", cwd_ + "/bash/sh");
        fs::create_symlink("here", base_ + "/link");
    }
    ~World() { fs::remove_all(base_); }
    World(const World&) = delete;
    World& operator=(const World&) = delete;

    [[nodiscard]] const std::string& cwd() const { return cwd_; }
    [[nodiscard]] std::string link() const { return base_ + "/link"; }
    // The slash at the end of an element stays: under dash a script's $0 has two.
    [[nodiscard]] std::string path() const { return cwd_ + "/bin1:" + cwd_ + "/bin2/:/nowhere:/usr/bin:/bin"; }

    // A usual environment, and ones that a shell changes.
    [[nodiscard]] std::vector<Words> environments() const {
        const Words base = {"PATH=" + path(), "HOME=/root", "LANG=C.UTF-8", "USER=u",
                            "TERM=xterm",     "SHLVL=2",    "_=/bin/x"};
        const auto with = [&base](std::initializer_list<std::string> more) {
            Words env = base;
            env.insert(env.end(), more);
            return env;
        };
        return {
            with({"PWD=" + cwd_}),
            with({}),
            with({"PWD=" + link()}),
            with({"PWD=/", "OLDPWD=/tmp", "A.B=1", "1X=1", "=x", "NOVALUE", "BAD-NAME=1"}),
            with({"A=1", "B=2", "A=3", "ENV=" + cwd_ + "/bin2/hashbang", "CDPATH=/tmp", "HISTSIZE=5"}),
            with({"PS1=x", "PS2=y", "PS4=z", "MAIL=/m", "MAILPATH=/n", "LINENO=7", "RANDOM=1", "SECONDS=2", "UID=3"}),
            with({"LC_ALL=nowhere", "POSIXLY_CORRECT=1", "EMPTY=", "NL=a\nb", "BYTES=\xff\x01", "Z=a=b"}),
            Words{"PATH=" + path()}};
    }

  private:
    void write(const std::string& name, const std::string& content, mode_t mode) const {
        const std::string path = cwd_ + "/" + name;
        std::ofstream(path, std::ios::binary) << content;
        ::chmod(path.c_str(), mode);
    }

    std::string base_;
    std::string cwd_;
};

// What happened to the lines of one test.
struct Tally {
    int doubt = 0;      // left to the shell by plain_words
    int not_found = 0;  // left to it by find_program
    int refused = 0;    // the exec failed, so the shell would run it
    int direct = 0;     // run both ways and found the same
};

// The line executed directly, or nothing where the caller would ask the shell.
std::optional<Seen> run_directly(std::string_view line, const Words& env, const std::string& cwd, Tally& tally) {
    const auto words = plain_words(line);
    if (!words) {
        ++tally.doubt;
        return std::nullopt;
    }
    std::string program = words->front();
    if (program.find('/') == std::string::npos) {
        auto found = find_program(program, env_value(env, "PATH").value_or(""));
        if (!found) {
            ++tally.not_found;
            return std::nullopt;
        }
        program = *std::move(found);
    }
    auto seen = run(program, *words, env, cwd);
    if (!seen) ++tally.refused;
    return seen;
}

// As dash's parenthood shows it.
Seen as_under_dash(Seen seen) {
    const auto [outcome, notice] = end_as_shell_would(seen.outcome);
    return {outcome, seen.out, seen.err + notice};
}

void compare_with_dash(const std::string& line, const World& world, const Words& env, Tally& tally) {
    if (line.find('\0') != std::string::npos) {
        REQUIRE_FALSE(plain_words(line).has_value());
        return;
    }
    REQUIRE_FALSE(shell_may_interfere(env));
    const auto child_env = env_as_shell_would(Surroundings{world.cwd(), env, 022});
    REQUIRE(child_env.has_value());
    for (bool again = false;; again = true) {
        auto direct = run_directly(line, *child_env, world.cwd(), tally);
        if (!direct) return;
        const auto shell = run("/bin/sh", {"sh", "-c", line}, env, world.cwd());
        REQUIRE(shell.has_value());
        const Seen shown = as_under_dash(*std::move(direct));
        if (shown == *shell) {
            ++tally.direct;
            return;
        }
        if (!again) continue;  // of some the clock is a part: w
        INFO("line [" << line << "]");
        CHECK(shown == *shell);
        return;
    }
}

unsigned seed_of_this_run() {
    const char* given = std::getenv("COALESCE_TEST_SEED");
    return given != nullptr ? static_cast<unsigned>(std::strtoul(given, nullptr, 10)) : std::random_device{}();
}

// What is generated is other lines each time.
int as_many_as(int full) { return std::getenv("COALESCE_LONG") != nullptr ? full : full / 16; }

void report(const char* what, unsigned seed, const Tally& tally) {
    std::cout << what << ": seed " << seed << ", " << tally.direct << " ran both ways alike, " << tally.doubt
              << " left to the shell by their syntax, " << tally.not_found << " not plainly on the path, "
              << tally.refused << " not executable\n";
}

// Writes lines that are mostly plain, sometimes nasty, and sometimes broken by one byte.
class LineWriter {
  public:
    explicit LineWriter(unsigned seed) : random_(seed) {}

    std::string line() {
        nasty_ = below(3) == 0;
        std::string out = below(8) == 0 ? blanks() : "";
        out += head();
        for (unsigned words = below(6); words > 0; --words) out += blanks() + word();
        if (below(8) == 0) out += blanks();
        if (below(6) == 0) out.insert(below(static_cast<unsigned>(out.size()) + 1), 1, any_byte());
        if (below(40) == 0) out.erase(below(static_cast<unsigned>(out.size())), 1);
        return out;
    }

    // One environment entry, more often than not with a name that dash knows or hashes alike.
    std::string variable() {
        static constexpr std::array kNames = {"HOME",   "LANG",   "TERM",     "MAIL",   "MAILPATH", "PS1",    "PS2",
                                              "PS4",    "LINENO", "HISTSIZE", "ATTY",   "OLDPWD",   "PWD",    "CDPATH",
                                              "ENV",    "SHLVL",  "_",        "RANDOM", "FCEDIT",   "LC_ALL", "EUID",
                                              "GROUPS", "TMOUT",  "FUNCNEST", "A.B",    "1A",       ""};
        std::string name = below(2) == 0 ? kNames[below(kNames.size())] : "";
        if (name.empty())
            for (unsigned n = below(4); n > 0; --n) name += "ABCXYZabc_019.-"[below(15)];
        std::string value;
        for (unsigned n = below(6); n > 0; --n) value += any_byte();
        return below(12) == 0 ? name : name + "=" + value;
    }

    unsigned below(std::size_t n) { return static_cast<unsigned>(random_() % n); }

  private:
    template <class Texts>
    std::string one_of(const Texts& texts) {
        return std::string(texts[below(texts.size())]);
    }

    char any_byte() { return static_cast<char>(1 + below(255)); }

    std::string blanks() {
        static constexpr std::array kBlanks = {" ", " ", " ", " ", "\t", "  ", " \t "};
        return one_of(kBlanks);
    }

    std::string head() {
        static constexpr std::array kUsual = {"show",
                                              "show",
                                              "show",
                                              "show",
                                              "./show",
                                              "./show",
                                              "./bin2/show",
                                              "./bin2/../show",
                                              "tool",
                                              "linked",
                                              "x,y",
                                              "x-y",
                                              "a.b",
                                              "2x",
                                              "_show",
                                              "/bin/ls",
                                              "ls",
                                              "/usr/bin/printf",
                                              "cat",
                                              "/bin/echo",
                                              "hashbang",
                                              "./bin2/hashbang",
                                              "noexec",
                                              "bare",
                                              "nowhere",
                                              "./nowhere",
                                              "dangling",
                                              "loop",
                                              "laterloop",
                                              "empty",
                                              "./bin1/tool",
                                              "badinterp",
                                              "/bin/cat",
                                              "basename",
                                              "dirname",
                                              "head",
                                              "wc",
                                              "seq",
                                              "expr",
                                              "tr",
                                              "/usr/bin/test",
                                              "/usr/bin/[",
                                              "sort",
                                              "uniq",
                                              "hashnone"};
        static constexpr std::array kOdd = {"echo",  "true", "printf", "test", "A=1", "'show'", "if",      "env",
                                            "-show", "+x",   "!",      "{",    "2",   "%1",     "sh''ow",  "~",
                                            "*",     "$x",   "time",   ":",    ".",   "exec",   "command", ">x"};
        return nasty_ && below(3) == 0 ? one_of(kOdd) : one_of(kUsual);
    }

    std::string word() {
        if (below(12) == 0) return "exit=" + std::to_string(below(300));
        if (below(12) == 0) return "signal=" + one_of(kDeadly);
        std::string out;
        for (unsigned pieces = 1 + below(3); pieces > 0; --pieces) out += piece();
        return out;
    }

    std::string piece() {
        if (nasty_ && below(4) == 0) return one_of(kNasty);
        switch (below(4)) {
            case 0:
                return "'" + run_of(kInSingleQuotes) + "'";
            case 1:
                return "\"" + run_of(kInDoubleQuotes) + "\"";
            default:
                return run_of(kPlain);
        }
    }

    std::string run_of(std::string_view alphabet) {
        std::string out;
        for (unsigned n = below(6); n > 0; --n) out += alphabet[below(alphabet.size())];
        return out;
    }

    static constexpr std::string_view kPlain = "abcXYZ0123456789_%+,./:@=-abc-./";
    static constexpr std::string_view kInSingleQuotes = " abc$`\\\"!*?[]{}~#;&|<>()^=%-'' ";
    static constexpr std::string_view kInDoubleQuotes = " abc'*?[]{}~#;&|<>()^=%-/ ";
    static constexpr std::array kDeadly = {"1", "2", "3", "6", "9", "13", "14", "15", "17", "24", "34", "63"};
    static constexpr std::array kNasty = {
        "$",        "$x",   "${x}",  "$(",     "`",   "\\",         "\\\\",   "\\'",      "\"",   "'",    "*",
        "?",        "[a]",  "{a,b}", "~",      "#",   ";",          "&",      "&&",       "|",    ">",    "<",
        "2>&1",     "(",    ")",     "!",      "^",   "\n",         "\r",     "\x01",     "\x7f", "\x81", "\x88",
        "\xc3\xa9", "\xff", "$'a'",  "$\"a\"", "<<a", "'\xc3\xa9'", "\"$x\"", "\"\\\\\"", "''",   "\"\"", "\\\n",
        "}",        "{",    "]",     "=",      "~+",  "a=~",        "%"};

    std::mt19937 random_;
    bool nasty_ = false;
};

// What bash, started as sh, documents to do otherwise: it sets _ and SHLVL, drops an OLDPWD that
// is no directory, and keeps its own order of variables.
std::string without_bash_ways(const std::string& shown) {
    std::istringstream lines(shown);
    std::string line, rest;
    Words variables;
    while (std::getline(lines, line)) {
        if (line.starts_with("variable ")) {
            const std::string entry = line.substr(line.find(' ', 9) + 1);
            if (!entry.starts_with("_=") && !entry.starts_with("SHLVL=") && !entry.starts_with("OLDPWD="))
                variables.push_back(entry);
        } else {
            rest += line + "\n";
        }
    }
    std::sort(variables.begin(), variables.end());
    for (const std::string& entry : variables) rest += entry + "\n";
    return rest;
}

}  // namespace

TEST_CASE("B1: lines picked by hand behave the same directly as in the shell", "[differential]") {
    REQUIRE(shell_is_understood("/bin/sh"));
    const World world;
    Tally tally;
    for (const Words& env : world.environments())
        for (const auto& nasty : coalesce_test::kNastyLines)
            compare_with_dash(std::string(nasty.line), world, env, tally);
    report("picked lines, each in 8 environments", 0, tally);
    CHECK(tally.direct >= 1'000);
}

TEST_CASE("B1: generated lines behave the same directly as in the shell", "[differential]") {
    REQUIRE(shell_is_understood("/bin/sh"));
    const World world;
    const auto environments = world.environments();
    const unsigned seed = seed_of_this_run();
    LineWriter writer(seed);
    Tally tally;
    for (int i = 0; i < as_many_as(4'000); ++i)
        compare_with_dash(writer.line(), world, environments[writer.below(environments.size())], tally);
    report("generated lines", seed, tally);
    CHECK(tally.direct >= as_many_as(1'000));
}

TEST_CASE("B1: a program sees the same environment, in the same order, as under the shell", "[differential]") {
    REQUIRE(shell_is_understood("/bin/sh"));
    const World world;
    const unsigned seed = seed_of_this_run();
    LineWriter writer(seed);
    Tally tally;
    for (int i = 0; i < as_many_as(800); ++i) {
        Words env;
        for (unsigned n = writer.below(40); n > 0; --n) env.push_back(writer.variable());
        env.insert(env.begin() + writer.below(env.size() + 1), "PATH=" + world.path());
        compare_with_dash("show", world, env, tally);
    }
    report("generated environments", seed, tally);
    CHECK(tally.direct == as_many_as(800));
}

TEST_CASE("B1: every signal ends a line the same way directly as in the shell", "[differential]") {
    REQUIRE(shell_is_understood("/bin/sh"));
    const World world;
    Tally tally;
    for (int signal_number = 1; signal_number <= SIGRTMAX; ++signal_number) {
        // These stop a process, or are the C library's own.
        const bool stops = signal_number >= SIGSTOP && signal_number <= SIGTTOU;
        if (stops || (signal_number > SIGSYS && signal_number < SIGRTMIN)) continue;
        compare_with_dash("show signal=" + std::to_string(signal_number), world, world.environments().front(), tally);
    }
    CHECK(tally.direct >= 50);
}

TEST_CASE("B1: a directory reached through a symbolic link looks the same directly as in the shell", "[differential]") {
    REQUIRE(shell_is_understood("/bin/sh"));
    const World world;
    for (const Words& env : world.environments()) {
        const auto child_env = env_as_shell_would(Surroundings{world.link(), env, 022});
        REQUIRE(child_env.has_value());
        const auto direct = run("./show", {"./show"}, *child_env, world.link());
        const auto shell = run("/bin/sh", {"sh", "-c", "./show"}, env, world.link());
        REQUIRE(direct.has_value());
        CHECK(*direct == shell.value());
    }
}

TEST_CASE("B1: plain lines mean the same to bash started as sh", "[differential]") {
    if (::access("/bin/bash", X_OK) != 0) return not_tried("no bash here");
    const World world;
    Words env = world.environments().front();
    // bash drops a slash at the end of an element where dash makes two of it.
    set_env(env, "PATH", world.cwd() + "/bin1:" + world.cwd() + "/bin2:/nowhere:/usr/bin:/bin");
    const auto child_env = env_as_shell_would(Surroundings{world.cwd(), env, 022});
    REQUIRE(child_env.has_value());
    const unsigned seed = seed_of_this_run();
    LineWriter writer(seed);
    Tally tally;
    Words lines;
    for (const auto& nasty : coalesce_test::kNastyLines) lines.emplace_back(nasty.line);
    for (int i = 0; i < as_many_as(1'500); ++i) lines.push_back(writer.line());
    for (const std::string& line : lines) {
        auto direct = run_directly(line, *child_env, world.cwd(), tally);
        if (!direct) continue;
        // bash executes the last command in its own place, so a signal is seen as one.
        auto shell = run(world.cwd() + "/bash/sh", {"sh", "-c", line}, env, world.cwd());
        REQUIRE(shell.has_value());
        direct->out = without_bash_ways(direct->out);
        shell->out = without_bash_ways(shell->out);
        if (*direct == *shell) ++tally.direct;
        INFO("line [" << line << "]");
        CHECK(*direct == *shell);
    }
    report("lines against bash as sh", seed, tally);
    CHECK(tally.direct >= as_many_as(500));
}

TEST_CASE("B1: no name that the shell runs itself is executed directly", "[differential]") {
    const World world;
    const Words env = world.environments().front();
    const auto all_doubted = [&](const std::string& names) {
        std::istringstream lines(names);
        std::string name;
        int count = 0;
        for (; std::getline(lines, name); ++count) {
            INFO(name);
            CHECK_FALSE(plain_words(name).has_value());
            CHECK_FALSE(plain_words(name + " a").has_value());
        }
        return count;
    };
    if (const auto bash = run("/bin/bash", {"bash", "-c", "compgen -b; compgen -k"}, env, world.cwd()))
        CHECK(all_doubted(bash->out) > 70);

    // dash has no list to ask for: try every lower-case string in its binary, and the punctuation.
    std::ifstream binary("/bin/sh", std::ios::binary);
    Words candidates = {".", ":", "[", "!", "{", "}"};
    std::string text;
    for (char c = 0; binary.get(c);) {
        if (c >= 'a' && c <= 'z') {
            text += c;
            continue;
        }
        // A string may be the tail of a longer one: the linker merges them.
        for (std::size_t i = 0; c == '\0' && text.size() <= 16 && i < text.size(); ++i)
            candidates.push_back(text.substr(i));
        text.clear();
    }
    Words ask = {"sh", "-c", "for name; do case $(type \"$name\" 2>&1) in *\" is a\"*) echo \"$name\";; esac; done",
                 "sh"};
    ask.insert(ask.end(), candidates.begin(), candidates.end());
    const auto dash = run("/bin/sh", ask, {"PATH=/nowhere"}, world.cwd());
    REQUIRE(dash.has_value());
    CHECK(all_doubted(dash->out) >= 50);
}

TEST_CASE("O1: a command that is shown can be pasted into a shell", "[differential]") {
    if (::access("/bin/bash", X_OK) != 0) return not_tried("no bash here");
    const World world;
    const Words env = world.environments().front();
    const unsigned seed = seed_of_this_run();
    LineWriter writer(seed);
    for (int i = 0; i < as_many_as(300); ++i) {
        Words argv = {"./show"};
        for (unsigned words = writer.below(5); words > 0; --words) {
            std::string word;
            for (unsigned n = writer.below(8); n > 0; --n)
                word +=
                    writer.below(2) == 0 ? static_cast<char>(1 + writer.below(255)) : "a'\\\n$é 1="[writer.below(9)];
            argv.push_back(word);
        }
        const auto direct = run("./show", argv, env, world.cwd());
        const auto pasted = run("/bin/bash", {"bash", "-c", display(argv)}, env, world.cwd());
        REQUIRE(direct.has_value());
        REQUIRE(pasted.has_value());
        INFO("seed " << seed << ": " << display(argv));
        CHECK(without_bash_ways(direct->out) == without_bash_ways(pasted->out));
    }
}
