// SPDX-License-Identifier: MIT
// Which rules concern a command, what they come to together, and what a file may say (SPEC Y).
#include <coalesce/rules/rules_file.h>

#include <grp.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>

#include "../catch.h"
#include "../not_tried.h"
#include "../scratch.h"

using namespace coalesce;

namespace {

CommandRule rule(std::vector<std::string> match, std::optional<std::string> directory = {}) {
    return {.match = std::move(match), .directory = std::move(directory)};
}

RuleSubject subject(std::vector<std::string> words, std::string directory = "/srv/x") {
    return {.words = std::move(words), .directories = {std::move(directory)}, .homes = {"/home/u", "/data/u"}};
}

Rules rules_of(std::string_view text) {
    Rules rules;
    const auto added = add_rules(rules, text, "f");
    INFO((added ? std::string() : added.error().message()));
    REQUIRE(added);
    return rules;
}

std::string refusal(std::string_view text) {
    Rules rules;
    const auto added = add_rules(rules, text, "f");
    return added ? "" : added.error().message();
}

// The settings in one line.
std::string together(const Rules& rules, const RuleSubject& command) {
    std::string text;
    for (const Setting& setting :
         settings_of(concerning(rules, command), [](std::string_view name) { return name == "depends"; })) {
        text += setting.name + "=";
        for (const std::string& value : setting.values) text += value + ",";
        text += std::to_string(setting.origin.line) + ";";
    }
    return text;
}

}  // namespace

TEST_CASE("Y2: the words of match are patterns of a command's first words", "[rules]") {
    CHECK(concerns(rule({"cargo", "test"}), subject({"cargo", "test"})));
    CHECK(concerns(rule({"cargo", "test"}), subject({"cargo", "test", "--all"})));
    CHECK_FALSE(concerns(rule({"cargo", "test"}), subject({"cargo"})));
    CHECK_FALSE(concerns(rule({"cargo", "test"}), subject({"cargo", "build"})));
    CHECK(concerns(rule({"cargo", "t*"}), subject({"cargo", "test"})));
    CHECK(concerns(rule({"pytest-3.?"}), subject({"pytest-3.9"})));
    CHECK(concerns(rule({"[gt]rep"}), subject({"grep"})));
    CHECK(concerns(rule({"cat", "*"}), subject({"cat", "/a/b c"})));
    CHECK_FALSE(concerns(rule({"carg"}), subject({"cargo"})));
    CHECK(concerns(rule({}), subject({"anything"})));
}

TEST_CASE("Y2: a program goes by its last component unless the pattern has a slash", "[rules]") {
    CHECK(concerns(rule({"pytest"}), subject({"/usr/bin/pytest"})));
    CHECK(concerns(rule({"/usr/bin/pytest"}), subject({"/usr/bin/pytest"})));
    CHECK_FALSE(concerns(rule({"/usr/bin/pytest"}), subject({"pytest"})));
    CHECK(concerns(rule({"*/bin/*"}), subject({"./bin/x"})));
    CHECK_FALSE(concerns(rule({"x", "b"}), subject({"x", "a/b"})));
}

TEST_CASE("Y2: a directory's pattern narrows a rule", "[rules]") {
    CHECK(concerns(rule({"make"}, "/srv/x"), subject({"make"}, "/srv/x")));
    CHECK_FALSE(concerns(rule({"make"}, "/srv/x"), subject({"make"}, "/srv/x/y")));
    CHECK(concerns(rule({"make"}, "/srv/**"), subject({"make"}, "/srv/x/y")));
    CHECK(concerns(rule({"make"}, "/srv/**"), subject({"make"}, "/srv")));
    CHECK_FALSE(concerns(rule({"make"}, "/srv/**"), subject({"make"}, "/srvx")));
    CHECK(concerns(rule({"make"}, "/srv/*/y"), subject({"make"}, "/srv/x/y")));
    CHECK_FALSE(concerns(rule({"make"}, "/srv/*"), subject({"make"}, "/srv/x/y")));
    CHECK(concerns(rule({"make"}, "/**/y/**/z"), subject({"make"}, "/a/y/b/y/c/z")));
    CHECK(concerns(rule({"make"}, "~/src/**"), subject({"make"}, "/home/u/src/a")));
    CHECK(concerns(rule({"make"}, "~/src/**"), subject({"make"}, "/data/u/src/a")));
    CHECK_FALSE(concerns(rule({"make"}, "~/src/**"), subject({"make"}, "/home/v/src/a")));
    RuleSubject two = subject({"make"}, "/real/x");
    two.directories.push_back("/by/link");
    CHECK(concerns(rule({"make"}, "/by/link"), two));
}

TEST_CASE("Y2: a line is matched by its words, or by those that it begins with", "[rules]") {
    using Words = std::vector<std::string>;
    CHECK(words_of_line("cargo test --all") == Words{"cargo", "test", "--all"});
    CHECK(words_of_line("  make  docs ") == Words{"make", "docs"});
    CHECK(words_of_line("make docs && rm x") == Words{"make", "docs"});
    CHECK(words_of_line("make docs; rm x") == Words{"make", "docs"});
    CHECK(words_of_line("make>log") == Words{"make"});
    CHECK(words_of_line("git commit -m \"$M\" x") == Words{"git", "commit", "-m"});
    CHECK(words_of_line("ls *.c x") == Words{"ls"});
    CHECK(words_of_line("(make)") == Words{});
    CHECK(words_of_line("") == Words{});
    CHECK(words_of_line("cd x && make") == Words{"cd", "x"});
}

TEST_CASE("Y2: a line begins with its first word, and not with newlines or comments before it", "[rules]") {
    using Words = std::vector<std::string>;
    CHECK(words_of_line("\ngit push") == Words{"git", "push"});
    CHECK(words_of_line(" \n\n\t\n  git 'push'") == Words{"git", "push"});
    CHECK(words_of_line("# a (b)\ngit push; x") == Words{"git", "push"});
    CHECK(words_of_line("\n #!/bin/sh\n#\n\tgit push\n# d\n") == Words{"git", "push"});
    CHECK(words_of_line("# git push") == Words{});
    CHECK(words_of_line("#\n") == Words{});
    CHECK(words_of_line("\n;git push") == Words{});
    CHECK(words_of_line("git # a\npush") == Words{"git"});
    CHECK(words_of_line("git\npush") == Words{"git"});
}

TEST_CASE("Y2: ~ is the home where it is a path's first component", "[rules]") {
    CHECK(with_home("~", "/home/u") == "/home/u");
    CHECK(with_home("~/a/~", "/home/u") == "/home/u/a/~");
    for (const std::string path : {"", "a", "/~", "./~", "~v/a", "a/~/b"}) CHECK(with_home(path, "/home/u") == path);
}

TEST_CASE("Y3: later rules win, and lists add", "[rules]") {
    const Rules rules = rules_of(
        "[[command]]\nmatch = 'a'\nttl = '1m'\ndepends = ['x', 'y']\n"
        "[[command]]\nmatch = 'a b'\nttl = 5\ndepends = 'z'\n"
        "[[command]]\nmatch = 'a b c'\ndepends = []\n"
        "[[command]]\nmatch = 'a b c d'\ndepends = ['w']\n");
    CHECK(together(rules, subject({"a"})) == "depends=x,y,4;ttl=1m,3;");
    CHECK(together(rules, subject({"a", "b"})) == "depends=x,y,4;depends=z,8;ttl=5,7;");
    CHECK(together(rules, subject({"a", "b", "c"})) == "ttl=5,7;");
    CHECK(together(rules, subject({"a", "b", "c", "d"})) == "ttl=5,7;depends=w,14;");
    CHECK(together(rules, subject({"b"})).empty());
}

TEST_CASE("Y1, Y6: what a file may say", "[rules]") {
    const Rules rules = rules_of(
        "[cache]\nmax-size = '2G'\n[history]\nkeep = false\n[class.heavy]\njobs = 2\n"
        "[[command]]\nmatch = 'x'\ntimeout = 1.5\n");
    CHECK(last(rules.cache, "max-size")->values == std::vector<std::string>{"2G"});
    CHECK(last(rules.history, "keep")->values == std::vector<std::string>{"false"});
    CHECK(last(rules.classes.at("heavy"), "jobs")->values == std::vector<std::string>{"2"});
    CHECK(last(rules.cache, "nothing") == nullptr);
    CHECK(rules.commands.front().settings.front().values == std::vector<std::string>{"1.500"});
    CHECK(rules_of("").empty());
}

TEST_CASE("Y5: what is not understood is refused with its file and line", "[rules]") {
    CHECK(refusal("[[command]]\nmatch = [\n").starts_with("f:2: "));
    CHECK(refusal("\n[command]\nmatch = 'x'\n").starts_with("f:2: a rule begins with [[command]]"));
    CHECK(refusal("\n\n[commands]\n").starts_with("f:3: there is no 'commands' here"));
    CHECK(refusal("[[command]]\nmatch = 3\n") == "f:2: match is a text, and not an empty one");
    CHECK(refusal("[[command]]\nmatch = ''\n") == "f:2: match is a text, and not an empty one");
    CHECK(refusal("[[command]]\nmatch = ' '\n") == "f:2: match is a text, and not an empty one");
    CHECK(refusal("[[command]]\nttl = 1979-05-27\n").starts_with("f:2: ttl is a text, a number"));
    CHECK(refusal("[[command]]\nttl = {a = 1}\n").starts_with("f:2: ttl is a text, a number"));
    CHECK(refusal("[[command]]\nscope = \"a\\u0000b\"\n") == "f:2: scope has a NUL in it");
    CHECK(refusal("class = 3\n").starts_with("f:1: a class is a table"));
    CHECK(refusal("[class]\nheavy = 3\n").starts_with("f:2: class.heavy is a table"));
    CHECK(refusal("cache = 'x'\n").starts_with("f:1: cache is a table"));
    CHECK(refusal("a = 1\na = 2\n").starts_with("f:2: "));
}

TEST_CASE("Y5: a file where only another user may look is passed over", "[rules]") {
    if (::geteuid() != 0) return not_tried("not root");
    const Scratch roots;
    std::filesystem::create_directories(roots.path(".config/coalesce"));
    roots.file(".config/coalesce/config.toml", "[[command]]\nmatch = 'x'\n");
    const std::string home = roots.path();
    const pid_t child = ::fork();
    if (child == 0) {
        constexpr unsigned nobody = 65534;
        if (::setgroups(0, nullptr) != 0 || ::setgid(nobody) != 0 || ::setuid(nobody) != 0) ::_exit(2);
        auto rules = read_rules({.home = home.c_str()});
        ::_exit(rules && rules->commands.empty() && rules->passed_over.size() == 1 ? 0 : 1);
    }
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}
