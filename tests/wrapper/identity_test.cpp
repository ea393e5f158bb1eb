// SPDX-License-Identifier: MIT
// K1: what the process is that will run a command is part of its key. Each case is the same
// words twice, under something that differs; runs are counted by what they leave.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "../catch.h"
#include "../not_tried.h"
#include "sandbox.h"

namespace {

using Words = std::vector<std::string>;

// Holds any number of runs until all that were asked for are there; each leaves a line.
class Runs {
  public:
    explicit Runs(Sandbox& box) : box_(box) {
        ::mkfifo(box.path("fifo").c_str(), 0666);
        fd_ = ::open(box.path("fifo").c_str(), O_RDWR | O_CLOEXEC);  // so that a run opens it at once
    }
    ~Runs() { let_go(); }
    Runs(const Runs&) = delete;
    Runs& operator=(const Runs&) = delete;

    /// coalesce VERB …, the same words each time, run by `launcher`.
    [[nodiscard]] Words words(const std::string& verb, const Words& launcher) const {
        Words all{"/usr/bin/env"};  // finds it
        all.insert(all.end(), launcher.begin(), launcher.end());
        all.insert(all.end(), {tested_program(), verb});
        all.insert(all.end(), options.begin(), options.end());
        all.insert(all.end(), {"-c", line()});
        return all;
    }
    [[nodiscard]] std::string line() const {
        return "exec 3<" + box_.path("fifo") + "; echo ran >>" + box_.path("runs") + "; cat <&3";
    }
    Process start(const Words& launcher, const Sandbox::Setting& setting = {}) {
        return box_.start(words("run", launcher), setting);
    }
    /// Waits until that many requesters are in, in one flight or several, whose runs all have begun.
    void until_requesters(int count) {
        box_.until([&](const std::vector<Flight>& all) {
            int requesters = 0;
            for (const Flight& flight : all) requesters += flight.requesters;
            return requesters == count && box_.lines_of("runs") == static_cast<int>(all.size());
        });
    }
    void let_go() {
        if (fd_ >= 0) ::close(fd_);
        fd_ = -1;
    }

    Words options;

  private:
    Sandbox& box_;
    int fd_ = -1;
};

int runs_of(Sandbox& box, const Words& one, const Words& other, const Sandbox::Setting& first = {},
            const Sandbox::Setting& second = {}, const Words& options = {}) {
    Runs runs(box);
    runs.options = options;
    auto a = runs.start(one, first);
    runs.until_requesters(1);
    auto b = runs.start(other, second);
    runs.until_requesters(2);
    runs.let_go();
    CHECK(a.wait().status == 0);
    CHECK(b.wait().status == 0);
    return box.lines_of("runs");
}

// What `coalesce key` says under `other` of a flight that was started under `one`.
std::string explanation(Sandbox& box, const Words& one, const Words& other) {
    Runs runs(box);
    auto a = runs.start(one);
    runs.until_requesters(1);
    const std::string said = box.start(runs.words("key", other)).wait().out;
    runs.let_go();
    a.wait();
    return said;
}

bool can(Sandbox& box, Words launcher) {
    launcher.insert(launcher.begin(), "/usr/bin/env");
    launcher.emplace_back("true");
    if (box.start(launcher).wait().status == 0) return true;
    std::string shown;
    for (const std::string& word : launcher) shown += (shown.empty() ? "" : " ") + word;
    not_tried(shown + " fails");
    return false;
}

struct Case {
    const char* part;  // as `coalesce key` names it
    Words launcher;
    Words plain = {};  // what it is compared with
};

const std::vector<Case> kCases = {
    {"personality", {"setarch", "-R"}},
    {"personality", {"setarch", "i686"}},
    {"no_new_privs", {"setpriv", "--no-new-privs"}},
    {"groups", {"setpriv", "--groups", "4,24"}, {"setpriv", "--groups", "4"}},
    {"groups", {"setpriv", "--clear-groups"}, {"setpriv", "--groups", "4"}},
    {"capabilities", {"setpriv", "--bounding-set", "-net_raw"}},
    {"namespace: net", {"unshare", "-n"}},
    {"namespace: mount", {"unshare", "-m"}},
    {"namespace: uts", {"unshare", "-u"}},
    {"namespace: ipc", {"unshare", "-i"}},
    {"namespace: user", {"unshare", "-U", "-r"}},
    {"namespace: pid", {"unshare", "-p", "-f"}},
};

}  // namespace

SCENARIO("K1: the same words in the same surroundings are one run", "[wrapper]") {
    Sandbox box;
    CHECK(runs_of(box, {}, {}) == 1);
}

TEST_CASE("K1: under another identity the same words are another run", "[wrapper]") {
    for (const Case& one : kCases) {
        Sandbox box;
        CAPTURE(one.part, one.launcher);
        if (!can(box, one.launcher) || !can(box, one.plain)) continue;
        CHECK(runs_of(box, one.plain, one.launcher) == 2);
    }
}

TEST_CASE("K4: what differs of the identity is named, and has a line of its own", "[wrapper]") {
    for (const Case& one : kCases) {
        Sandbox box;
        CAPTURE(one.part, one.launcher);
        if (!can(box, one.launcher) || !can(box, one.plain)) continue;
        const std::string said = explanation(box, one.plain, one.launcher);
        CAPTURE(said);
        const std::string part = one.part;
        CHECK(said.find("not joined: ") != std::string::npos);
        CHECK((said.find("differs in " + part) != std::string::npos || said.find("; " + part) != std::string::npos));
        CHECK(said.find("\n" + part + "\t") != std::string::npos);
    }
}

SCENARIO("K4: an identity that keeps nobody from joining is one line", "[wrapper]") {
    Sandbox box;
    const std::string said = box.coalesce({"key", "true"}).out;
    const std::size_t at = said.find("\nidentity\tuid ");
    REQUIRE(at != std::string::npos);
    const std::string line = said.substr(at + 1, said.find('\n', at + 1) - at - 1);
    for (const char* part :
         {"gid", "groups", "capabilities", "no_new_privs", "personality", "root directory", "namespace: mount",
          "namespace: net", "namespace: pid", "namespace: user", "namespace: uts", "namespace: ipc"}) {
        CAPTURE(part, line);
        CHECK(line.find(", " + std::string(part) + " ") != std::string::npos);
        CHECK(said.find("\n" + std::string(part) + "\t") == std::string::npos);
    }
}

SCENARIO("K1: below another root the same words are another run", "[wrapper]") {
    Sandbox box;
    box.env["PATH"] += ":/usr/sbin:/sbin";
    if (!can(box, {"unshare", "-m", "chroot", "/"})) return;
    const std::string program = box.open_to_nobody();
    REQUIRE(::chown(box.path("runtime").c_str(), 0, 0) == 0);
    Runs runs(box);
    box.env["LINE"] = runs.line();
    box.env["P"] = program;
    box.env["BOX"] = box.path("");
    // Both in one mount namespace, so that nothing differs but the root.
    auto both = box.start({"/usr/bin/unshare", "-m", "/bin/sh", "-ec",
                           "mkdir \"$BOX/root\"; mount -t tmpfs none \"$BOX/root\"; cd /; "
                           "for d in bin lib lib32 lib64 usr etc tmp proc dev; do [ -d $d ] || continue; "
                           "mkdir \"$BOX/root/$d\"; mount --rbind /$d \"$BOX/root/$d\"; done; "
                           "cd \"$BOX\"; \"$P\" run -c \"$LINE\" & "
                           "chroot \"$BOX/root\" /bin/sh -c 'cd \"$BOX\"; exec \"$P\" run -c \"$LINE\"'; wait"});
    runs.until_requesters(2);
    runs.let_go();
    const Ended ended = both.wait();
    CAPTURE(ended.err);
    CHECK(ended.status == 0);
    CHECK(box.lines_of("runs") == 2);
}

SCENARIO("K1: a directory that was replaced by another of the same name is another", "[wrapper]") {
    Sandbox box;
    ::mkdir(box.path("d").c_str(), 0700);
    Runs runs(box);
    auto first = runs.start({}, {.directory = "d"});
    runs.until_requesters(1);
    REQUIRE(::rename(box.path("d").c_str(), box.path("old").c_str()) == 0);
    ::mkdir(box.path("d").c_str(), 0700);
    const std::string said = box.start(runs.words("key", {}), {.directory = "d"}).wait().out;
    CAPTURE(said);
    CHECK(said.find("differs in directory: replaced by another of the same name\n") != std::string::npos);
    auto second = runs.start({}, {.directory = "d"});
    runs.until_requesters(2);
    runs.let_go();
    CHECK(first.wait().status == 0);
    CHECK(second.wait().status == 0);
    CHECK(box.lines_of("runs") == 2);
}

SCENARIO("K1: a batch's own directory is what its name leads to for who names it", "[wrapper]") {
    Sandbox box;
    ::mkdir(box.path("d").c_str(), 0700);
    ::mkfifo(box.path("gate").c_str(), 0600);
    // The second request is made once the first has ended.
    const Ended ended = box.start({"/bin/sh", "-c",
                                   "{ echo '{\"line\":\"mv ../d ../old; mkdir ../d; echo >../gate\"}'; cat ../gate; "
                                   "echo '{\"argv\":[\"touch\",\"here\"],\"cwd\":\"" +
                                       box.path("d") + "\"}'; } | \"$C\" batch --json"},
                                  {.directory = "d"})
                            .wait();
    CAPTURE(ended.err);
    CHECK(ended.status == 0);
    CHECK(::access(box.path("d/here").c_str(), F_OK) == 0);
    CHECK(::access(box.path("old/here").c_str(), F_OK) != 0);
}

SCENARIO("K1: what programs obey off a terminal counts, and so does whom they talk to", "[wrapper]") {
    for (const auto& [one, other] :
         std::vector<std::pair<std::string, std::string>>{{"COLUMNS=60", "COLUMNS=200"},
                                                          {"LINES=24", "LINES=50"},
                                                          {"TMUX=/tmp/tmux-0/a,7,0", "TMUX=/tmp/tmux-0/b,9,0"},
                                                          {"STY=1.pts", "STY=2.pts"},
                                                          {"ZELLIJ_SESSION_NAME=a", "ZELLIJ_SESSION_NAME=b"},
                                                          {"CLAUDECODE=1", "AI_AGENT=1"}}) {
        Sandbox box;
        CAPTURE(one, other);
        CHECK(runs_of(box, {}, {}, {.env = {one}}, {.env = {other}}) == 2);
    }
}

SCENARIO("K1: two sessions of a coding agent, or of one tmux server, share a run", "[wrapper]") {
    for (const auto& [one, other] :
         std::vector<std::pair<std::string, std::string>>{{"CLAUDE_CODE_SESSION_ID=1", "CLAUDE_CODE_SESSION_ID=2"},
                                                          {"CODEX_THREAD_ID=1", "CODEX_THREAD_ID=2"},
                                                          {"CURSOR_TRACE_ID=1", "CURSOR_TRACE_ID=2"},
                                                          {"TMUX=/tmp/tmux-0/a,7,0", "TMUX=/tmp/tmux-0/a,7,1"}}) {
        Sandbox box;
        CAPTURE(one, other);
        CHECK(runs_of(box, {}, {}, {.env = {one}}, {.env = {other}}) == 1);
    }
}

SCENARIO("K2: containers that ignore their namespaces share a run, with others that do", "[wrapper]") {
    for (const Words& container : {Words{"unshare", "-n", "-m", "-u", "-i"}, Words{"unshare", "-p", "-f"}}) {
        Sandbox box;
        if (!can(box, container)) continue;
        CHECK(runs_of(box, container, {}, {}, {}, {"--ignore-namespaces"}) == 1);
    }
    Sandbox box;
    const auto key = [&](const std::string& option) { return box.coalesce({"key", option, "true"}).out.substr(0, 32); };
    CHECK(key("--ignore-namespaces") == key("--ignore-namespaces"));
    CHECK(key("--ignore-namespaces") != key("--ignore-cwd"));
    CHECK(box.coalesce({"key", "--ignore-namespaces", "true"}).out.find("namespace: ") == std::string::npos);
}

SCENARIO("K2: a request that is not to share joins nobody, and nobody joins it", "[wrapper]") {
    Sandbox box;
    Runs runs(box);
    const auto ask = [&](Words options) {
        runs.options = std::move(options);
        return runs.start({});
    };
    auto shared = ask({});
    runs.until_requesters(1);
    auto alone = ask({"--no-share"});
    runs.until_requesters(2);
    auto another = ask({"--no-share"});
    runs.until_requesters(3);
    auto joins = ask({});
    runs.until_requesters(4);
    runs.let_go();
    for (Process* process : {&shared, &alone, &another, &joins}) CHECK(process->wait().status == 0);
    CHECK(box.lines_of("runs") == 3);
}

SCENARIO("K2: nor do the lines of a batch that is not to share", "[wrapper]") {
    Sandbox box;
    const std::string lines = "echo x >>runs\necho x >>runs\n";
    box.write("lines", lines);
    CHECK(box.coalesce({"batch", "-j1", "--once", "--no-share", "-a", box.path("lines")}).status == 0);
    CHECK(box.lines_of("runs") == 2);
    box.write("requests", "{\"line\":\"echo x >>runs\"}\n{\"line\":\"echo x >>runs\",\"no_share\":true}\n");
    CHECK(box.coalesce({"batch", "-j1", "--once", "--json", "-a", box.path("requests")}).status == 0);
    CHECK(box.lines_of("runs") == 4);
}
