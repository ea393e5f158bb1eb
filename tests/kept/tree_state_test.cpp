// SPDX-License-Identifier: MIT
// Files as a part of a key (SPEC T9, T10).
#include <coalesce/kept/tree_state.h>

#include "../catch.h"

#include <sys/stat.h>
#include <sys/un.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <random>
#include <string>

#include "../scratch.h"

using namespace coalesce;
namespace fs = std::filesystem;

namespace {

// A directory that is the working directory while it lives.
class Tree {
  public:
    Tree() : before_(fs::current_path()) { fs::current_path(scratch_.path()); }
    ~Tree() { fs::current_path(before_); }
    void file(const std::string& name, const std::string& text, mode_t mode = 0644) const {
        fs::create_directories(fs::path(scratch_.path(name)).parent_path());
        scratch_.file(name, text, mode);
    }
    [[nodiscard]] std::string path() const { return scratch_.path(); }

  private:
    Scratch scratch_;
    fs::path before_;
};

std::string state(const std::vector<Dependency>& dependencies) {
    const auto taken = TreeState::take(dependencies);
    if (!taken) return "error: " + taken.error().message();
    std::string text;
    for (const TreeState::Part& part : taken.value().parts()) text += part.name + " " + hexadecimal(part.digest) + "\n";
    return text;
}

std::string content(const std::string& path) { return state({{Dependency::Kind::content, path}}); }
std::string modtime(const std::string& path) { return state({{Dependency::Kind::modtime, path}}); }

void set_time(const std::string& path, time_t seconds) {
    const timespec times[2] = {{.tv_sec = seconds, .tv_nsec = 0}, {.tv_sec = seconds, .tv_nsec = 0}};
    REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, AT_SYMLINK_NOFOLLOW) == 0);
}

}  // namespace

TEST_CASE("T9: content, names, execute bits and the text of links count; times and other modes do not", "[kept]") {
    Tree tree;
    tree.file("src/a", "one");
    tree.file("src/b", "two");
    const std::string before = content("src");
    const auto changes = [&](const char* what, auto edit, auto undo) {
        INFO(what);
        edit();
        CHECK(content("src") != before);
        undo();
        CHECK(content("src") == before);
    };
    changes(
        "content", [&] { tree.file("src/a", "uno"); }, [&] { tree.file("src/a", "one"); });
    changes(
        "a name", [] { fs::rename("src/a", "src/c"); }, [] { fs::rename("src/c", "src/a"); });
    changes(
        "one more", [&] { tree.file("src/d", ""); }, [] { fs::remove("src/d"); });
    changes(
        "an empty directory", [] { fs::create_directory("src/e"); }, [] { fs::remove("src/e"); });
    changes(
        "executable", [] { ::chmod("src/a", 0755); }, [] { ::chmod("src/a", 0644); });
    changes(
        "a link", [] { fs::create_symlink("a", "src/l"); }, [] { fs::remove("src/l"); });
    changes(
        "swapped contents",
        [&] {
            tree.file("src/a", "two");
            tree.file("src/b", "one");
        },
        [&] {
            tree.file("src/a", "one");
            tree.file("src/b", "two");
        });
    fs::create_symlink("a", "src/l");
    const std::string linked = content("src");
    fs::remove("src/l");
    fs::create_symlink("b", "src/l");
    CHECK(content("src") != linked);
    fs::remove("src/l");
    set_time("src/a", 1'000);
    REQUIRE(::chmod("src/a", 0600) == 0);
    CHECK(content("src") == before);
}

TEST_CASE("T9: --modtime takes type, size and time for the content", "[kept]") {
    Tree tree;
    tree.file("a", "one");
    set_time("a", 1'000);
    const std::string before = modtime("a");
    tree.file("a", "two");
    set_time("a", 1'000);
    CHECK(modtime("a") == before);
    set_time("a", 1'001);
    CHECK(modtime("a") != before);
    set_time("a", 1'000);
    tree.file("a", "three");
    set_time("a", 1'000);
    CHECK(modtime("a") != before);
    CHECK(modtime("none") != before);
}

TEST_CASE("T9: what is missing is a state; what cannot be read is an error that names it", "[kept]") {
    Tree tree;
    const std::string missing = content("a");
    CHECK(missing.find("depends: a ") == 0);
    tree.file("a", "");
    CHECK(content("a") != missing);
    CHECK(content("/dev/null").find("look at /dev/null: it is neither") != std::string::npos);
    const Descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_un address{.sun_family = AF_UNIX, .sun_path = "s"};
    REQUIRE(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    CHECK(content("s").find("look at s: it is neither") != std::string::npos);
    CHECK(content(".").find("error") == std::string::npos);  // below a directory it is something without content
    if (::geteuid() == 0) {
        const uid_t nobody = 65534;
        tree.file("hidden/a", "x", 0600);
        REQUIRE(::chmod(tree.path().c_str(), 0755) == 0);
        REQUIRE(::seteuid(nobody) == 0);
        CHECK(content("hidden").find("read hidden/a: Permission denied") != std::string::npos);
        REQUIRE(::seteuid(0) == 0);
    }
}

TEST_CASE("T9: equal trees are equal states, wherever they are", "[kept]") {
    std::string states[2];
    for (std::string& one : states) {
        Tree tree;
        tree.file("src/a", "one");
        tree.file("src/deep/b", "two");
        one = content("src") + content("src/**") + content("*");
    }
    CHECK(states[0] == states[1]);
}

TEST_CASE("T9: a pattern is the paths that it finds, and finding none is a state", "[kept]") {
    Tree tree;
    tree.file("a.c", "1");
    tree.file("b.c", "2");
    tree.file("src/deep/c.c", "3");
    tree.file("src/.hidden.c", "4");
    tree.file("notes", "5");
    const auto changes_with = [&](const std::string& pattern, const std::string& name) {
        const std::string before = content(pattern);
        const std::string text = Scratch().path();  // something new
        std::string old;
        if (fs::exists(name)) {
            std::ifstream in(name);
            old.assign(std::istreambuf_iterator<char>(in), {});
        }
        tree.file(name, text);
        const bool changed = content(pattern) != before;
        tree.file(name, old);
        return changed;
    };
    CHECK(changes_with("*.c", "a.c"));
    CHECK_FALSE(changes_with("*.c", "notes"));
    CHECK_FALSE(changes_with("*.c", "src/deep/c.c"));
    CHECK(changes_with("**/*.c", "src/deep/c.c"));
    CHECK(changes_with("**/*.c", "a.c"));
    CHECK(changes_with("src/**", "src/deep/c.c"));
    CHECK(changes_with("[ab].c", "b.c"));
    CHECK(changes_with("?.c", "b.c"));
    CHECK_FALSE(changes_with("src/*.c", "src/.hidden.c"));
    CHECK(changes_with("src/.*.c", "src/.hidden.c"));
    const std::string none = content("*.none");
    CHECK(none.find("error") == std::string::npos);
    tree.file("x.none", "");
    CHECK(content("*.none") != none);
}

TEST_CASE("T9: a list ends its paths with NUL if there is one, else with newlines", "[kept]") {
    const std::string with_nul("a\nb\0c\0", 6);
    const auto by_nul = listed_dependencies(with_nul);
    REQUIRE(by_nul.size() == 2);
    CHECK(by_nul[0].path == "a\nb");
    const auto by_line = listed_dependencies("a b\n\nc");
    REQUIRE(by_line.size() == 2);
    CHECK(by_line[0].path == "a b");
    CHECK(by_line[1].path == "c");
    CHECK(listed_dependencies("c\na b\nc\n") == by_line);  // git's order tells what is staged
    Tree tree;
    tree.file("*", "x");
    const std::string before = state(listed_dependencies("*\n"));
    tree.file("other", "y");
    CHECK(state(listed_dependencies("*\n")) == before);  // no pattern
    CHECK(before.find("depends-from ") == 0);
    fs::create_symlink("circle", "circle");
    CHECK(state(listed_dependencies("circle\n")).find("error") == std::string::npos);
}

TEST_CASE("T10: the first path that changed is named", "[kept]") {
    Tree tree;
    tree.file("src/a", "1");
    tree.file("src/b", "2");
    const std::vector<Dependency> dependencies{{Dependency::Kind::content, "src"}};
    const auto before = TreeState::take(dependencies);
    const auto change = [&] { return TreeState::first_change(*TreeState::take(dependencies), before.value()); };
    CHECK_FALSE(change());
    tree.file("src/b", "3");
    CHECK(change() == "src/b");
    tree.file("src/b", "2");
    tree.file("src/aa", "new");
    CHECK(change() == "src/aa");
    fs::remove("src/aa");
    fs::remove("src/b");
    CHECK(change() == "src/b");
}

TEST_CASE("T9: 1,000 random edits change the state when they change the tree and only then", "[kept]") {
    Tree tree;
    const auto seed = std::random_device{}();
    INFO("seed " << seed);
    std::mt19937 random(seed);
    std::map<std::string, std::string> known;  // what the tree is, as told by somebody else -> its state
    const auto described = [] {
        std::string text;
        std::map<std::string, std::string> sorted;
        for (const auto& entry : fs::recursive_directory_iterator("t")) {
            std::string what = entry.is_symlink()     ? "l" + fs::read_symlink(entry).string()
                               : entry.is_directory() ? "d"
                                                      : "f";
            if (what == "f") {
                std::ifstream in(entry.path());
                what += std::string(std::istreambuf_iterator<char>(in), {});
                if ((entry.status().permissions() & fs::perms::owner_exec) != fs::perms::none) what += " x";
            }
            sorted[entry.path()] = what;
        }
        for (const auto& [path, what] : sorted) text += path + "=" + what + "\n";
        return text;
    };
    fs::create_directory("t");
    const auto name = [&] {
        std::string path = "t";
        for (auto depth = random() % 2; depth > 0; --depth) path += "/d" + std::to_string(random() % 2);
        return path + "/f" + std::to_string(random() % 3);
    };
    std::map<std::string, std::string> trees;
    for (int edit = 0; edit < 1000; ++edit) {
        const std::string path = name();
        std::error_code ignored;
        switch (random() % 6) {
            case 0:
                if (!fs::is_symlink(path) && !fs::is_directory(path)) tree.file(path, std::to_string(random() % 2));
                break;
            case 1:
                fs::remove(path, ignored);
                break;
            case 2:
                if (fs::is_regular_file(fs::symlink_status(path)))
                    fs::permissions(path, fs::perms::owner_exec,
                                    random() % 2 != 0 ? fs::perm_options::add : fs::perm_options::remove);
                break;
            case 3:
                fs::rename(path, name(), ignored);
                break;
            case 4:
                fs::create_directories(fs::path(path).parent_path());
                fs::create_symlink("f" + std::to_string(random() % 2), path, ignored);
                break;
            default:
                fs::remove_all("t/d" + std::to_string(random() % 2), ignored);
        }
        const std::string tree_now = described();
        const std::string state_now = content("t");
        REQUIRE(state_now.find("error") == std::string::npos);
        const auto [at, first_time] = trees.emplace(tree_now, state_now);
        if (!first_time) REQUIRE(at->second == state_now);
        const auto [back, state_is_new] = known.emplace(state_now, tree_now);
        if (!state_is_new) REQUIRE(back->second == tree_now);
    }
    CHECK(trees.size() > 100);
}

TEST_CASE("T9: a link in a list is its text, whatever it leads to", "[kept]") {
    Tree tree;
    tree.file("elsewhere/file", "one");
    fs::create_symlink("/dev/null", "masked");
    fs::create_symlink("elsewhere", "linked");
    const auto listed = [] { return state(listed_dependencies("linked\nmasked\n")); };
    const std::string before = listed();
    CHECK(before.starts_with("depends-from "));
    tree.file("elsewhere/file", "two");
    CHECK(listed() == before);
    fs::remove("linked");
    fs::create_symlink("nowhere", "linked");
    CHECK(listed() != before);
    CHECK_THAT(state(listed_dependencies("/dev/null\n")), Contains("look at /dev/null: it is neither"));
}

TEST_CASE("T9: ** beside ** is one", "[kept]") {
    Tree tree;
    std::string deep = "d";
    for (int i = 0; i < 30; ++i) deep += "/d";
    tree.file(deep + "/x", "");
    std::string pattern = "d/";
    for (int i = 0; i < 30; ++i) pattern += "**/";
    int asked = 0;
    const std::vector<Dependency> dependencies{{Dependency::Kind::content, pattern + "x"}};
    const auto taken = TreeState::take_unless(dependencies, [&asked] { return ++asked == 1'000; });
    REQUIRE(taken);
    CHECK(taken.value());
}

TEST_CASE("T13: who has looked long enough stops within a pattern, too", "[kept]") {
    Tree tree;
    for (const char* const name : {"a/b/c/d", "a/b/e", "f"}) tree.file(name, "");
    const std::vector<Dependency> dependencies{{Dependency::Kind::content, "**/none"}};
    for (const int most : {1, 2, 3}) {
        int asked = 0;
        const auto stopped = TreeState::take_unless(dependencies, [&] { return ++asked == most; });
        REQUIRE(stopped);
        CHECK_FALSE(stopped.value());
        CHECK(asked == most);
    }
}

TEST_CASE("T13: who has looked long enough stops within a file, too", "[kept]") {
    Tree tree;
    tree.file("long", "");
    fs::resize_file("long", 10 << 20);
    const std::vector<Dependency> dependencies{{Dependency::Kind::content, "long"}};
    int asked = 0;
    const auto stopped = TreeState::take_unless(dependencies, [&asked] { return ++asked == 3; });
    REQUIRE(stopped);
    CHECK_FALSE(stopped.value());
    CHECK(asked == 3);
    const auto whole = TreeState::take_unless(dependencies, [] { return false; });
    REQUIRE(whole);
    CHECK(whole.value());
}
