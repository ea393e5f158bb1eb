// SPDX-License-Identifier: MIT
// Which requests are duplicates. All different inputs, all different keys.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <iostream>
#include <map>
#include <random>
#include <tuple>
#include <unordered_map>

#include <coalesce/command/key.h>
#include <coalesce/command/run_class.h>
#include <coalesce/command/shell_line.h>

#include "../catch.h"

using namespace coalesce;
using Words = std::vector<std::string>;

namespace {

struct Request {
    Words argv = {"make", "docs"};
    Surroundings surroundings = {"/srv", {"HOME=/root", "LANG=C"}, 022};
    std::optional<std::string> stdin_bytes = {};
    KeyRules rules = {};
};

std::string surroundings_of(const Request& r) { return canonical_surroundings(r.surroundings, r.rules); }
std::string words_of(const Request& r) { return canonical_words(r.argv, r.stdin_bytes, r.rules); }

// The two halves joined are still injective: their tags do not overlap.
std::string key_of(const Request& r) { return surroundings_of(r) + words_of(r); }

std::vector<KeyPart> parts_of(const Request& r) { return explain(r.surroundings, r.argv, r.stdin_bytes, r.rules); }

Request with_argv(Words argv) {
    Request r;
    r.argv = std::move(argv);
    return r;
}
Request with_env(Words env) {
    Request r;
    r.surroundings.env = std::move(env);
    return r;
}
Request with_cwd(std::string cwd) {
    Request r;
    r.surroundings.cwd = std::move(cwd);
    return r;
}
Request with_umask(mode_t umask) {
    Request r;
    r.surroundings.umask = umask;
    return r;
}
Request in_directory(dev_t device, ino_t inode) {
    Request r;
    r.surroundings.directory = {.device = device, .inode = inode};
    return r;
}
Request with_identity(std::string identity) {
    Request r;
    r.surroundings.identity = std::move(identity);
    return r;
}
Request on_terminal(TerminalSize size) {
    Request r;
    give_terminal(r.surroundings, size);
    return r;
}
Request contained(std::string identity) {
    Request r = with_identity(std::move(identity));
    r.rules.ignore_namespaces = true;
    return r;
}
Request with_stdin(std::optional<std::string> bytes) {
    Request r;
    r.stdin_bytes = std::move(bytes);
    return r;
}
Request with_rules(KeyRules rules) {
    Request r;
    r.rules = std::move(rules);
    return r;
}
KeyRules scoped(std::string scope) {
    KeyRules rules;
    rules.scope = std::move(scope);
    return rules;
}
KeyRules keyed(std::string key, std::string scope = {}) {
    KeyRules rules = scoped(std::move(scope));
    rules.key = std::move(key);
    return rules;
}
KeyRules ignoring(Words patterns) {
    KeyRules rules;
    rules.ignore_env = std::move(patterns);
    return rules;
}
KeyRules only(Words patterns) {
    KeyRules rules;
    rules.only_env = std::move(patterns);
    return rules;
}
KeyRules anywhere() {
    KeyRules rules;
    rules.ignore_cwd = true;
    return rules;
}
KeyRules of_user(uid_t user) {
    KeyRules rules;
    rules.user = user;
    return rules;
}

void require_all_different(const std::vector<Request>& requests) {
    for (std::size_t i = 0; i < requests.size(); ++i) {
        for (std::size_t j = 0; j < i; ++j) {
            const bool same = key_of(requests[i]) == key_of(requests[j]);
            const bool names_none = differences(parts_of(requests[i]), parts_of(requests[j])).empty();
            if (!same && !names_none) continue;
            INFO("requests " << j << " and " << i << ": " << key_of(requests[i]));
            REQUIRE_FALSE(same);
            REQUIRE_FALSE(names_none);
        }
    }
}

// A directory that another path leads to through a symbolic link.
struct LinkedDirectory {
    LinkedDirectory() {
        char name[] = "/tmp/coalesce-key-XXXXXX";
        if (::mkdtemp(name) == nullptr) std::abort();
        base = name;
        real = base + "/real";
        link = base + "/link";
        if (::mkdir(real.c_str(), 0700) != 0 || ::symlink("real", link.c_str()) != 0) std::abort();
    }
    ~LinkedDirectory() {
        ::unlink(link.c_str());
        ::rmdir(real.c_str());
        ::rmdir(base.c_str());
    }
    LinkedDirectory(const LinkedDirectory&) = delete;
    LinkedDirectory& operator=(const LinkedDirectory&) = delete;

    std::string base, real, link;
};

}  // namespace

TEST_CASE("K1: all different commands, all different keys", "[key]") {
    const LinkedDirectory dir;
    Request spelled = with_cwd(dir.real);
    spelled.surroundings.env.push_back("PWD=" + dir.link);
    const std::vector<Request> requests = {
        // argv
        with_argv({"a b"}), with_argv({"a", "b"}), with_argv({"ab"}), with_argv({"a", "", "b"}),
        with_argv({"a", "b", ""}), with_argv({"", "a", "b"}), with_argv({"a\nb"}), with_argv({"a\tb"}),
        with_argv({"b", "a"}), with_argv({"A", "b"}), with_argv({}), with_argv({""}), with_argv({"", ""}),
        with_argv({"a1:b"}), with_argv({"1:b"}), with_argv({"a", "1:b"}), with_argv({"a1:aa1:b"}), with_argv({"a0:"}),
        with_argv({"n0:"}), with_argv({"k1:x"}), with_argv({"x"}), with_argv({"1", "x"}), with_argv({"\xff"}),
        with_argv({"\xfe"}), with_argv({std::string(10, 'x')}), with_argv({std::string(11, 'x')}),
        with_argv({std::string(100, 'x')}), with_argv({"/bin/sh", "-c", "a"}), with_argv({"/bin/sh", "-c", "a "}),
        with_argv({"/bin/bash", "-c", "a"}), with_argv({"'a'"}), with_argv({"make docs"}),
        // stdin: absent is not empty
        with_stdin(std::nullopt), with_stdin(""), with_stdin("a"), with_stdin("a\n"), with_stdin(std::string("\0", 1)),
        with_stdin(std::string("a\0", 2)), with_stdin("n0:"),
        // directory, umask
        with_cwd("/srv/x"), with_cwd("/srv/"), with_cwd("/"), with_cwd(""), with_cwd(dir.real), spelled,
        with_umask(027), with_umask(077), with_umask(0), in_directory(1, 2), in_directory(1, 3), in_directory(2, 2),
        in_directory(12, 3), in_directory(1, 23),
        // identity
        with_identity(own_identity()), with_identity("n3:uidv1:0"), with_identity("n3:uidv1:1"),
        with_identity("n3:uidv1:0c1:av1:0"), with_identity("n3:uidv1:0c1:av1:1"), contained("n3:uidv1:0c1:av1:1"),
        contained("n3:uidv1:1c1:av1:1"),
        // environment
        with_env({}), with_env({"HOME=/root"}), with_env({"HOME=/root", "LANG=C "}), with_env({"HOME=/root", "LANG="}),
        with_env({"HOME=/root", "LANG"}), with_env({"HOME=/root", "LANG=C", "X=1"}), with_env({"HOME=/root LANG=C"}),
        with_env({"HOME=/root", "LANG=C", ""}), with_env({"HOME=/root", "LANG=C", "=x"}), with_env({"A=1", "A=2"}),
        with_env({"A=2", "A=1"}), with_env({"A=1"}), with_env({"A=2"}), with_env({"A=1", "A=1"}),
        with_env({"A=1", "B=2"}), with_env({"A=1B=2"}), with_env({"A=1", "A"}), with_env({"A", "A=1"}),
        with_env({"a=1"}), with_env({"A==1"}), with_env({"TERM=xterm"}), with_env({"DISPLAY=:0"}),
        with_env({"SSH_AUTH_SOCK=/tmp/s"}), with_env({"WINDOW=1"}), with_env({"XSHLVL=1"}), with_env({"SHLVLX=1"}),
        with_env({"COALESCE=1"}), with_env({"PWDX=1"}), with_env({"COLUMNS=80"}), with_env({"LINES=80"}),
        with_env({"TMUX=/tmp/a,1,0"}), with_env({"TMUX=/tmp/b,1,0"}), with_env({"STY=1.pts"}),
        with_env({"ZELLIJ_SESSION_NAME=a"}), with_env({"CLAUDECODE=1"}), with_env({"CODEX_CI=1"}),
        with_env({"CURSOR_AGENT=1"}), with_env({"AI_AGENT=x"}),
        // scope, key, rules
        with_rules(scoped("x")), with_rules(scoped("y")), with_rules(scoped("make")), with_rules(keyed("x")),
        with_rules(keyed("")), with_rules(keyed("make docs")), with_rules(keyed("x", "x")), with_rules(keyed("", "x")),
        with_rules(keyed("a4:make")), with_rules(ignoring({"A"})), with_rules(ignoring({"A", "B"})),
        with_rules(ignoring({"AB"})), with_rules(ignoring({"*"})), with_rules(only({})), with_rules(only({"HOME"})),
        with_rules(only({"HOME", "LANG"})), with_rules(only({"*"})), with_rules(anywhere()), with_rules(of_user(0)),
        with_rules(of_user(1000)), on_terminal({}), on_terminal({.columns = 120, .lines = 24}),
        on_terminal({.columns = 80, .lines = 25})};
    std::cout << "key matrix: " << requests.size() << " requests, " << requests.size() * (requests.size() - 1) / 2
              << " pairs\n";
    require_all_different(requests);
}

TEST_CASE("K1: over random small commands, equal keys mean equal commands", "[key]") {
    const unsigned seed = std::random_device{}();
    std::cout << "key injectivity seed " << seed << '\n';
    std::mt19937 random(seed);
    const auto below = [&](unsigned n) { return static_cast<unsigned>(random() % n); };
    // Bytes the encoding itself uses, so that one field could pass for another.
    const std::string alphabet = "aekns01:2=";
    const auto text = [&] {
        std::string out;
        for (unsigned n = below(4); n > 0; --n) out += alphabet[below(static_cast<unsigned>(alphabet.size()))];
        return out;
    };
    const auto texts = [&] {
        Words out;
        for (unsigned n = below(3); n > 0; --n) out.push_back(text());
        return out;
    };
    using Input = std::tuple<Words, std::optional<std::string>, std::string, std::string, bool>;
    std::unordered_map<std::string, Input> seen;
    std::size_t repeated = 0;
    for (int i = 0; i < 200'000; ++i) {
        Request r = with_argv(texts());
        if (below(3) == 0) r.stdin_bytes = text();
        r.surroundings.cwd = text();
        r.rules.scope = text();
        r.rules.ignore_cwd = false;
        if (below(5) == 0) {
            r.rules.key = text();
            r.argv = {};
            r.stdin_bytes = {};
            r.surroundings.cwd = *r.rules.key;
        }
        const Input input{r.argv, r.stdin_bytes, r.surroundings.cwd, r.rules.scope, r.rules.key.has_value()};
        const auto [known, added] = seen.try_emplace(key_of(r), input);
        if (added) continue;
        ++repeated;
        if (known->second != input) FAIL("two commands, one key: " << known->first);
    }
    CHECK(repeated > 1'000);
    CHECK(seen.size() > 10'000);
}

TEST_CASE("K1: the order of the environment makes no difference, that of duplicates does", "[key]") {
    CHECK(key_of(with_env({"A=1", "B=2", "C=3"})) == key_of(with_env({"C=3", "A=1", "B=2"})));
    CHECK(key_of(with_env({"A=1", "B=2", "A=3"})) == key_of(with_env({"B=2", "A=1", "A=3"})));
    CHECK(key_of(with_env({"A=1", "A=3"})) != key_of(with_env({"A=3", "A=1"})));
    // "A=" sorts by name, not by the bytes of the whole entry: A-B would come between.
    CHECK(key_of(with_env({"A=1", "A-B=2", "A=3"})) == key_of(with_env({"A-B=2", "A=1", "A=3"})));
}

TEST_CASE("K1: what differs between two terminals of one user is no part of the key", "[key]") {
    const Request plain;
    for (const char* entry : {"SHLVL=2",
                              "_=/bin/x",
                              "OLDPWD=/",
                              "WINDOWID=7",
                              "TERM_SESSION_ID=x",
                              "TMUX_PANE=%1",
                              "CLAUDE_CODE_SESSION_ID=1",
                              "CODEX_THREAD_ID=1",
                              "CURSOR_TRACE_ID=1",
                              "SSH_CONNECTION=1.2.3.4 5 6.7.8.9 22",
                              "SSH_CLIENT=x",
                              "SSH_TTY=/dev/pts/1",
                              "XDG_SESSION_ID=3",
                              "INVOCATION_ID=abc",
                              "JOURNAL_STREAM=8:1",
                              "SYSTEMD_EXEC_PID=1",
                              "MANAGERPID=1",
                              "COALESCE_ANCESTRY=x",
                              "COALESCE_SOCKET=/x",
                              "COALESCE_ANYTHING=1",
                              "PWD=/nowhere/at/all",
                              "PWD=/srv",
                              "PWD=x",
                              "KITTY_WINDOW_ID=1",
                              "KONSOLE_DBUS_SESSION=/Sessions/1",
                              "GNOME_TERMINAL_SCREEN=/x",
                              "WEZTERM_PANE=0",
                              "SHLVL"}) {
        INFO(entry);
        Request r;
        r.surroundings.env.push_back(entry);
        CHECK(key_of(r) == key_of(plain));
    }
}

TEST_CASE("K1: every variable ignored by default has its reason and stands for itself", "[key]") {
    std::map<std::string_view, int> patterns;
    for (const IgnoredVariable& variable : default_ignored_env()) {
        INFO(variable.pattern);
        CHECK_FALSE(variable.reason.empty());
        CHECK(variable.reason.find('\n') == std::string_view::npos);
        CHECK(++patterns[variable.pattern] == 1);
        CHECK(variable.pattern.find_first_not_of('*') != std::string_view::npos);
    }
    CHECK(patterns.size() > 30);
}

TEST_CASE("K1: PWD counts where it names the directory by another path, and only there", "[key]") {
    const LinkedDirectory dir;
    const auto at = [&](const std::string& pwd) {
        Request r = with_cwd(dir.real);
        if (!pwd.empty()) r.surroundings.env.push_back("PWD=" + pwd);
        return key_of(r);
    };
    CHECK(at(dir.real) == at(""));
    CHECK(at("/") == at(""));
    CHECK(at("real") == at(""));
    CHECK(at(dir.link) != at(""));
    CHECK(at(dir.real + "/.") != at(""));
    CHECK(at(dir.link) != at(dir.real + "/."));
    Request ignored = with_cwd(dir.real);
    ignored.rules.ignore_cwd = true;
    Request ignored_link = ignored;
    ignored_link.surroundings.env.push_back("PWD=" + dir.link);
    CHECK(key_of(ignored) == key_of(ignored_link));
}

TEST_CASE("K2: ignored variables are no part of the key, by name or pattern", "[key]") {
    const auto with = [](const char* entry) {
        Request r = with_rules(ignoring({"CI_*", "BUILD_?", "EXACT"}));
        if (entry != nullptr) r.surroundings.env.push_back(entry);
        return key_of(r);
    };
    for (const char* entry : {"CI_JOB_ID=7", "CI_=1", "BUILD_1=x", "EXACT=1", "EXACT"})
        CHECK(with(entry) == with(nullptr));
    for (const char* entry : {"CI=7", "XCI_A=1", "BUILD_12=x", "BUILD_=x", "EXACTLY=1", "EXAC=1"})
        CHECK(with(entry) != with(nullptr));
}

TEST_CASE("K2: with a list of variables only those count, named ones even against the default", "[key]") {
    const auto with = [](Words names, Words env) {
        Request r = with_rules(only(std::move(names)));
        r.surroundings.env = std::move(env);
        return key_of(r);
    };
    CHECK(with({"A"}, {"A=1", "B=2"}) == with({"A"}, {"A=1", "B=3", "C=4"}));
    CHECK(with({"A"}, {"A=1"}) != with({"A"}, {"A=2"}));
    CHECK(with({"A"}, {"A=1"}) != with({"A"}, {}));
    CHECK(with({}, {"A=1", "B=2"}) == with({}, {}));
    CHECK(with({"SHLVL"}, {"SHLVL=1"}) != with({"SHLVL"}, {"SHLVL=2"}));
    CHECK(with({"LC_*"}, {"LC_ALL=C"}) != with({"LC_*"}, {"LC_ALL=POSIX"}));
    CHECK(with({"A", "B"}, {"A=1"}) == with({"B", "A", "B"}, {"A=1"}));
}

TEST_CASE("F11: the ancestry is never part of a key, even when it is asked for", "[key]") {
    for (const KeyRules& rules : {only({"COALESCE_ANCESTRY"}), only({"*"})}) {
        Request a = with_rules(rules), b = with_rules(rules);
        a.surroundings.env.push_back("COALESCE_ANCESTRY=1");
        b.surroundings.env.push_back("COALESCE_ANCESTRY=2");
        CHECK(key_of(a) == key_of(b));
    }
}

TEST_CASE("K2: a request shares only with those that agreed to the same rules", "[key]") {
    // Its environment has no FOO, so both filter to the same variables; but only one has said that FOO does not matter.
    CHECK(key_of(with_rules(ignoring({"FOO"}))) != key_of(Request{}));
    CHECK(key_of(with_rules(only({"HOME", "LANG"}))) != key_of(Request{}));
    CHECK(key_of(with_rules(ignoring({"A", "B"}))) == key_of(with_rules(ignoring({"B", "A", "A"}))));
}

TEST_CASE("K2: with the directory ignored, two directories share", "[key]") {
    Request a = with_cwd("/a"), b = with_cwd("/b");
    CHECK(key_of(a) != key_of(b));
    a.rules.ignore_cwd = b.rules.ignore_cwd = true;
    CHECK(key_of(a) == key_of(b));
}

TEST_CASE("K2: with the namespaces ignored, two containers share, and nobody else does", "[key]") {
    const std::string one = "n3:uidv1:0c14:root directoryv1:1c14:namespace: netv1:1";
    const std::string other = "n3:uidv1:0c14:root directoryv1:2c14:namespace: netv1:7";
    CHECK(key_of(with_identity(one)) != key_of(with_identity(other)));
    CHECK(key_of(contained(one)) == key_of(contained(other)));
    CHECK(key_of(contained(one)) != key_of(with_identity(without_namespaces(one))));
    CHECK(parts_of(contained(one))[1] == KeyPart{"uid", "0", true});
    Request elsewhere = contained(other);
    elsewhere.surroundings.directory = {.device = 1, .inode = 2};
    CHECK(key_of(contained(one)) != key_of(elsewhere));
}

TEST_CASE("K1: the number of a tmux session is no part of the key, its server is", "[key]") {
    CHECK(key_of(with_env({"TMUX=/tmp/a,1,0"})) == key_of(with_env({"TMUX=/tmp/a,1,22"})));
    CHECK(key_of(with_env({"TMUX=/tmp/a,1,0"})) != key_of(with_env({"TMUX=/tmp/a,2,0"})));
    Request named = with_rules(only({"TMUX"})), other = named;
    named.surroundings.env = {"TMUX=/tmp/a,1,0"};
    other.surroundings.env = {"TMUX=/tmp/a,1,1"};
    CHECK(key_of(named) != key_of(other));
}

TEST_CASE("K2: a key of the user's replaces argv, directory, environment and stdin, and nothing else", "[key]") {
    Request a = with_rules(keyed("nightly"));
    Request b = a;
    b.argv = {"other"};
    b.surroundings.cwd = "/other";
    b.surroundings.env = {"X=1"};
    b.stdin_bytes = "bytes";
    b.rules.ignore_env = {"Y"};
    b.rules.only_env = Words{};
    CHECK(key_of(a) == key_of(b));
    Request c = a;
    c.surroundings.umask = 0;
    CHECK(key_of(a) != key_of(c));
    c = a;
    c.rules.scope = "tuesday";
    CHECK(key_of(a) != key_of(c));
    c = a;
    c.rules.user = 7;
    CHECK(key_of(a) != key_of(c));
}

TEST_CASE("B1: a line's key is that of the shell running it", "[key]") {
    for (const char* line : {"", "a", "make docs", "a1:b", "x\ny", "0123456789", "\xff", "-x", "+", "--"}) {
        std::string out = "before";
        append_canonical_line(out, canonical_shell("/bin/sh"), line);
        CHECK(out == "before" + canonical_words(argv_of_line("/bin/sh", line), std::nullopt, {}));
    }
    CHECK(argv_of_line("/bin/sh", "x -y") == Words{"/bin/sh", "-c", "x -y"});
    CHECK(argv_of_line("/bin/sh", "-x y") == Words{"/bin/sh", "-c", "--", "-x y"});
    CHECK(argv_of_line("/bin/sh", "+x") == Words{"/bin/sh", "-c", "--", "+x"});
    const std::string long_line(100'000, 'x');
    std::string out;
    append_canonical_line(out, canonical_shell("/bin/sh"), long_line);
    CHECK(out == canonical_words({"/bin/sh", "-c", long_line}, std::nullopt, {}));
}

TEST_CASE("K2: patterns match whole names", "[key]") {
    CHECK(matches_pattern("", ""));
    CHECK(matches_pattern("*", ""));
    CHECK(matches_pattern("*", "A"));
    CHECK(matches_pattern("A*C", "AC"));
    CHECK(matches_pattern("A*C", "ABBC"));
    CHECK(matches_pattern("*A*B*", "xAyBz"));
    CHECK(matches_pattern("*AB", "AAB"));
    CHECK(matches_pattern("A**", "A"));
    CHECK(matches_pattern("?", "A"));
    CHECK(matches_pattern("a*?", "abc"));
    CHECK_FALSE(matches_pattern("", "A"));
    CHECK_FALSE(matches_pattern("?", ""));
    CHECK_FALSE(matches_pattern("A", "AB"));
    CHECK_FALSE(matches_pattern("A*C", "ACB"));
    CHECK_FALSE(matches_pattern("*A*B*", "xByA"));
    CHECK_FALSE(matches_pattern("a", "A"));
    CHECK_FALSE(matches_pattern("a?", "a"));
    CHECK_FALSE(matches_pattern("[A]", "A"));
    // Linear backtracking: the naive recursion would not come back from this one.
    CHECK_FALSE(matches_pattern("*a*a*a*a*a*a*a*a*a*a*a*a*a*b", std::string(2'000, 'a')));
}

TEST_CASE("K3: keys are equal by bytes, whoever holds the surroundings", "[key]") {
    const auto a = std::make_shared<const CanonicalSurroundings>("u2:22");
    const auto same = std::make_shared<const CanonicalSurroundings>("u2:22");
    const auto other = std::make_shared<const CanonicalSurroundings>("u2:77");
    const Key key{a, "w"};
    CHECK(key == Key{a, "w"});
    CHECK(key == Key{same, "w"});
    CHECK(KeyHash{}(key) == KeyHash{}(Key{same, "w"}));
    CHECK_FALSE(key == Key{other, "w"});
    CHECK_FALSE(key == Key{a, "x"});
    CHECK_FALSE(key == Key{nullptr, "w"});
    CHECK(Key{nullptr, "w"} == Key{nullptr, "w"});
    CHECK(KeyHash{}(key) == KeyHash{}(KeyView(a, "w")));
}

TEST_CASE("K3: keys whose hashes collide are still told apart", "[key]") {
    struct OneBucket {
        using is_transparent = void;
        std::size_t operator()(const Key&) const { return 1; }
        std::size_t operator()(const KeyView&) const { return 1; }
    };
    const auto a = std::make_shared<const CanonicalSurroundings>("u2:22");
    const auto b = std::make_shared<const CanonicalSurroundings>("u2:77");
    std::unordered_map<Key, int, OneBucket, KeyEqual> table;
    table[Key{a, "x"}] = 1;
    table[Key{b, "x"}] = 2;
    table[Key{a, "y"}] = 3;
    REQUIRE(table.size() == 3);
    CHECK(table.find(KeyView(a, "x"))->second == 1);
    CHECK(table.find(KeyView(b, "x"))->second == 2);
    CHECK(table.find(KeyView(b, "y")) == table.end());
}

TEST_CASE("K3: surroundings whose hashes collide are still told apart", "[key]") {
    CanonicalSurroundings a("u2:22"), b("u2:77");
    a.hash = b.hash = 7;
    CHECK_FALSE(KeyView(&a, "x") == KeyView(&b, "x"));
    SurroundingsTable table;
    const auto kept = table.intern(a);
    CHECK(table.intern(b) != kept);
    CHECK(table.intern(a) == kept);
}

TEST_CASE("B3: a key is looked up without copying its bytes", "[key]") {
    SurroundingsTable surroundings;
    const auto here = surroundings.intern(surroundings_of(Request{}));
    std::unordered_map<Key, int, KeyHash, KeyEqual> table;
    table.emplace(Key{here, "words"}, 7);
    const std::string line = "some words in a line";
    const auto found = table.find(KeyView(here, std::string_view(line).substr(5, 5)));
    REQUIRE(found != table.end());
    CHECK(found->second == 7);
}

TEST_CASE("B4: equal surroundings have one address, and the table forgets the dead", "[key]") {
    SurroundingsTable table;
    const auto first = table.intern("one");
    CHECK(table.intern("one") == first);
    CHECK(table.intern("two") != first);
    CHECK(first->bytes == "one");

    for (int i = 0; i < 100'000; ++i) {
        const auto passing = table.intern("passing " + std::to_string(i));
        REQUIRE(passing->bytes == "passing " + std::to_string(i));
    }
    CHECK(table.size() <= 32);
    CHECK(table.intern("one") == first);

    std::vector<std::shared_ptr<const CanonicalSurroundings>> held;
    for (int i = 0; i < 1'000; ++i) held.push_back(table.intern("held " + std::to_string(i)));
    for (int i = 0; i < 1'000; ++i)
        CHECK(table.intern("held " + std::to_string(i)) == held[static_cast<std::size_t>(i)]);
    CHECK(table.size() <= 2'100);
    held.clear();
    for (int i = 0; i < 3'000; ++i) (void)table.intern("passing " + std::to_string(i));
    CHECK(table.size() <= 32);
}

TEST_CASE("K4: a key is explained part by part", "[key]") {
    Request r;
    r.argv = {"echo", "a b"};
    r.surroundings.env = {"B=x y", "A=1", "SHLVL=3"};
    r.surroundings.umask = 027;
    r.stdin_bytes = "in\n";
    r.rules.scope = "tuesday";
    CHECK(parts_of(r) == std::vector<KeyPart>{{"argv", "echo 'a b'"},
                                              {"stdin", "$'in\\n'"},
                                              {"umask", "027"},
                                              {"scope", "tuesday"},
                                              {"directory", "/srv"},
                                              {"environment: A", "A=1"},
                                              {"environment: B", "'B=x y'"}});
    CHECK(parts_of(with_rules(keyed("nightly"))) == std::vector<KeyPart>{{"key", "nightly"}, {"umask", "022"}});
}

TEST_CASE("K4: what differs between two keys is named", "[key]") {
    const auto differing = [](const Request& a, const Request& b) { return differences(parts_of(a), parts_of(b)); };
    Request a = with_env({"HOME=/root", "CI_JOB_ID=1"});
    Request b = with_env({"CI_JOB_ID=2", "HOME=/root", "NEW=1"});
    CHECK(differing(a, a).empty());
    CHECK(differing(a, b) == Words{"environment: CI_JOB_ID", "environment: NEW"});
    b = a;
    b.surroundings.cwd = "/other";
    b.surroundings.umask = 0;
    CHECK(differing(a, b) == Words{"umask", "directory"});
    a = in_directory(1, 2);
    b = in_directory(1, 3);
    CHECK(differing(a, b) == Words{"directory: replaced by another of the same name"});
    b.surroundings.cwd = "/other";
    CHECK(differing(a, b) == Words{"directory"});
    a = with_identity("n3:uidv1:0n6:groupsv4:none");
    b = with_identity("n3:uidv1:0n6:groupsv1:4");
    CHECK(differing(a, b) == Words{"groups"});
    a = with_env({"HOME=/root", "CI_JOB_ID=1"});
    b = a;
    b.argv = {"x"};
    b.stdin_bytes = "";
    CHECK(differing(a, b) == Words{"argv", "stdin"});
    CHECK(differing(with_rules(keyed("x")), a).front() == "key");
    CHECK(differing(with_env({"A=1", "A=2"}), with_env({"A=2", "A=1"})) == Words{"environment: A"});
}

TEST_CASE("K4: bytes that are no key are called so", "[key]") {
    for (const char* bytes :
         {"x", "a", "a1", "a1:", "a2:x", "a1:xy", "z1:x", "a99999999999999999999:x", "a-1:x", ":", "a:x"}) {
        INFO(bytes);
        const auto parts = explain("u2:22", bytes);
        REQUIRE(parts.size() == 1);
        CHECK(parts.front().name == "malformed key");
    }
}

TEST_CASE("P4: beside the terminal's size the variables that tell it do not count, also where they are named",
          "[key]") {
    Request terminal = on_terminal({.columns = 120, .lines = 24});
    Request other = terminal;
    for (const char* name : {"COLUMNS", "LINES", "PAGER", "GIT_PAGER", "MANPAGER", "SYSTEMD_PAGER"}) {
        CHECK(env_value(terminal.surroundings.env, name));
        set_env(other.surroundings.env, name, "other");
    }
    CHECK(key_of(other) == key_of(terminal));
    other.rules = terminal.rules = only({"COL*", "PAGER", "HOME"});
    CHECK(key_of(other) == key_of(terminal));
    CHECK(parts_of(terminal) == std::vector<KeyPart>{{"argv", "make docs"},
                                                     {"umask", "022"},
                                                     {"terminal", "120x24"},
                                                     {"directory", "/srv"},
                                                     {"only environment", "(nothing but what is named)"},
                                                     {"only environment", "'COL*'"},
                                                     {"only environment", "HOME"},
                                                     {"only environment", "PAGER"},
                                                     {"environment: HOME", "HOME=/root"}});
    const auto found = differences(parts_of(terminal), parts_of(on_terminal({})));
    CHECK(std::find(found.begin(), found.end(), "terminal") != found.end());
}

TEST_CASE("P3: a size is two numbers with an x between, and nothing else", "[key]") {
    CHECK(parse_terminal_size("120x24").value() == TerminalSize{.columns = 120, .lines = 24});
    CHECK(text_of(parse_terminal_size("65535x1").value()) == "65535x1");
    for (const char* wrong : {"", "x", "80", "80x", "x24", "0x24", "80x0", "80x24 ", " 80x24", "80X24", "80x24x1",
                              "65536x1", "-1x1", "+1x1"})
        CHECK_FALSE(parse_terminal_size(wrong));
}

TEST_CASE("C1: a class is a name, and perhaps a number; what it says itself wins over what was set up", "[key]") {
    CHECK(parse_run_class("heavy").value() == RunClass{.name = "heavy", .jobs = 0});
    CHECK(parse_run_class("A-z_0.9:12").value() == RunClass{.name = "A-z_0.9", .jobs = 12});
    for (const char* wrong :
         {"", ":", ":2", "a:", "a:0", "a:x", "a:1x", "a:-1", "a:1:2", "a b", "a/b", "..", ".a", "a:99999999999"})
        CHECK_FALSE(parse_run_class(wrong));
    CHECK_FALSE(parse_run_class(std::string(65, 'x')));
    const ClassJobs set_up{{"heavy", 3}, {"none", 0}};
    CHECK(jobs_of({.name = "heavy"}, set_up) == 3);
    CHECK(jobs_of({.name = "heavy", .jobs = 2}, set_up) == 2);
    CHECK(jobs_of({.name = "none"}, set_up) == 1);
    CHECK(jobs_of({.name = "other"}, set_up) == 1);
}
