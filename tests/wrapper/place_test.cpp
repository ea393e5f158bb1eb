// SPDX-License-Identifier: MIT
// R9: the meeting place, and who is let into it.
#include <fcntl.h>
#include <signal.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "../catch.h"
#include "../not_tried.h"
#include "sandbox.h"

namespace {

bool root() { return ::geteuid() == 0; }

}  // namespace

SCENARIO("R9: the place is made with mode 0700, whatever the umask", "[wrapper]") {
    Sandbox box;
    CHECK(box.run({"true"}, {.in_child = [] { ::umask(0); }}).status == 0);
    struct stat info {};
    REQUIRE(::stat(box.place().c_str(), &info) == 0);
    CHECK((info.st_mode & 07777) == 0700);
}

SCENARIO("R9: a place with wider or narrower modes is refused, by name", "[wrapper]") {
    Sandbox box;
    ::mkdir(box.place().c_str(), 0700);
    for (const mode_t mode : {0755, 0701, 0770, 0500, 0777}) {
        ::chmod(box.place().c_str(), mode);
        const Ended ended = box.run({"echo", "ran"});
        CHECK(ended.status == 125);
        CHECK(ended.out.empty());
        CHECK(ended.err.find(box.place() + ", whose mode is 0") != std::string::npos);
    }
    ::chmod(box.place().c_str(), 0700);
    CHECK(box.run({"true"}).status == 0);
}

SCENARIO("R9: a directory that hands down its group is no wider", "[wrapper]") {
    Sandbox box;
    ::chmod(box.path("runtime").c_str(), 02700);
    CHECK(box.run({"true"}).status == 0);
    CHECK(box.run({"true"}).status == 0);
}

SCENARIO("R9: a symbolic link, a file and another's directory are refused", "[wrapper]") {
    Sandbox box;
    const auto refused = [&] {
        const Ended ended = box.run({"echo", "ran"});
        CHECK(ended.status == 125);
        CHECK(ended.out.empty());
        CHECK(ended.err.find(box.place()) != std::string::npos);
    };
    WHEN("it is a link") {
        ::mkdir(box.path("elsewhere").c_str(), 0700);
        REQUIRE(::symlink(box.path("elsewhere").c_str(), box.place().c_str()) == 0);
        refused();
    }
    WHEN("it is a file") {
        box.write("runtime/coalesce", "");
        refused();
    }
    WHEN("it belongs to somebody else") {
        if (!root()) return not_tried("a place of somebody else", "root is needed");
        ::mkdir(box.place().c_str(), 0700);
        REQUIRE(::chown(box.place().c_str(), nobody, nobody) == 0);
        refused();
    }
    WHEN("what should hold it is no directory") {
        box.write("plain", "");
        box.env["XDG_RUNTIME_DIR"] = box.path("plain");
        const Ended ended = box.run({"true"});
        CHECK(ended.status == 125);
        CHECK(ended.err.find(box.path("plain/coalesce")) != std::string::npos);
    }
}

SCENARIO("R9: without a runtime directory it is in /tmp, and a read-only one is named", "[wrapper]") {
    Sandbox box;
    if (!box.may_mount()) return not_tried("mounting is not allowed here");
    // In a mount namespace of its own: /tmp is everybody's.
    const auto script = [&](const std::string& text) {
        return box.start({"/usr/bin/unshare", "-m", "/bin/sh", "-c",
                          "mount -t tmpfs none /mnt && cp $C /mnt/c && mount -t tmpfs none /tmp && " + text});
    };
    box.env.erase("XDG_RUNTIME_DIR");
    box.env.erase("ASAN_OPTIONS");
    box.env["ASAN_OPTIONS"] = "detect_leaks=0";
    CHECK(script("/mnt/c run echo ran && ls /tmp && stat -c %a /tmp/coalesce-0").wait().out ==
          "ran\ncoalesce-0\n700\n");
    CHECK(script("XDG_RUNTIME_DIR= /mnt/c run echo ran && ls /tmp").wait().out == "ran\ncoalesce-0\n");
    CHECK(script("XDG_RUNTIME_DIR=relative /mnt/c run echo ran && ls /tmp").wait().out == "ran\ncoalesce-0\n");
    const Ended unmade = script("mount -o remount,ro /tmp && /mnt/c run echo ran").wait();
    CHECK(unmade.status == 125);
    CHECK(unmade.err == "coalesce: cannot make the meeting place /tmp/coalesce-0: Read-only file system\n");
    const Ended unwritable =
        script("mkdir -m 700 /tmp/coalesce-0 && mount -o remount,ro /tmp && /mnt/c run echo ran").wait();
    CHECK(unwritable.status == 125);
    CHECK(unwritable.err == "coalesce: cannot make a socket in /tmp/coalesce-0: Read-only file system\n");
}

namespace {

// What /tmp, /run and so on are is the test's alone: in a mount namespace of its own. The
// program is $C there, whatever is mounted over the sandbox.
Process in_own_directories(Sandbox& box, const std::string& script) {
    box.env.erase("XDG_RUNTIME_DIR");
    box.env["ASAN_OPTIONS"] = "detect_leaks=0";
    return box.start({"/usr/bin/unshare", "-m", "/bin/sh", "-c",
                      "set -e; mount -t tmpfs none /mnt; cp $C /mnt/c; C=/mnt/c; mount -t tmpfs none /tmp; mount -t "
                      "tmpfs none /run; cd /mnt; mkfifo gate; until_joined() { until $C status --json | grep -q "
                      "'\"requesters\":'$1; do :; done; }; " +
                          script});
}

constexpr const char* login = "mkdir -p -m 755 /run/user && mkdir -m 700 /run/user/0; ";
constexpr const char* logged_in = "export XDG_RUNTIME_DIR=/run/user/0; ";

}  // namespace

SCENARIO("R9: cron and a terminal find each other, whoever comes first and whatever it is told", "[wrapper]") {
    Sandbox box;
    if (!box.may_mount()) return not_tried("mounting is not allowed here");
    const std::string command = "$C run --only-env HOME -c 'echo run >>runs; cat gate' ";
    const std::string end = "until_joined 2; echo answer >gate; wait; wc -l <runs; cat one two";
    const std::string joined = "1\nanswer\nanswer\n";
    WHEN("the terminal is first") {
        CHECK(in_own_directories(box, std::string(login) + "(" + logged_in + command + ">one) & until_joined 1; " +
                                          command + ">two & " + end)
                  .wait()
                  .out == joined);
    }
    WHEN("cron is first, and nobody was logged in then") {
        const Ended ended =
            in_own_directories(box, command + ">one & until_joined 1; ls /tmp; " + login + logged_in + command +
                                        ">two & " + end + "; ls /tmp/coalesce-0 /run/user/0/coalesce")
                .wait();
        CHECK(ended.out == "coalesce-0\n" + joined + "/run/user/0/coalesce:\n\n/tmp/coalesce-0:\nsavings\n");
    }
    WHEN("cron is first, and somebody was logged in") {
        CHECK(in_own_directories(
                  box, login + command + ">one & until_joined 1; ls /tmp; " + logged_in + command + ">two & " + end)
                  .wait()
                  .out == joined);
    }
}

SCENARIO("R9: what is in the last place is seen, ended, counted and cleaned from the other", "[wrapper]") {
    Sandbox box;
    if (!box.may_mount()) return not_tried("mounting is not allowed here");
    const std::string flight = "$C run --only-env HOME cat gate & until_joined 1; ";
    const std::string later = std::string(login) + logged_in;
    CHECK(in_own_directories(box, flight + later +
                                      "$C key --only-env HOME cat gate | grep -c 'in flight'; $C cancel $($C status "
                                      "--json | cut -d '\"' -f 4); wait; echo over")
              .wait()
              .out == "1\nover\n");
    // The server that was started there, and what is a crash's.
    CHECK(in_own_directories(box, "$C serve --log-level off & until $C stats | grep -q ^server; do :; done; " + later +
                                      "$C stats | grep -c ^server; kill $!; wait; echo over")
              .wait()
              .out == "1\nover\n");
    CHECK(in_own_directories(
              box, flight +
                       "supervisor=$($C status --json | sed 's/.*\"supervisor\":\\([0-9]*\\).*/\\1/'); kill -STOP $!; "
                       "kill -KILL $supervisor; kill -KILL $!; wait; "
                       "ls /tmp/coalesce-0 | wc -l; " +
                       later + "$C run true; until [ -z \"$(ls /tmp/coalesce-0)\" ]; do :; done; echo clean")
              .wait()
              .out == "2\nclean\n");
}

SCENARIO("R9: what is another's is passed over where it is only looked at", "[wrapper]") {
    Sandbox box;
    if (!box.may_mount()) return not_tried("mounting is not allowed here");
    const std::string foreign = "mkdir -m 700 /tmp/coalesce-0; chown 65534 /tmp/coalesce-0; ";
    CHECK(in_own_directories(box, login + foreign + "$C run echo ran; $C status | wc -l").wait().out == "ran\n1\n");
    const Ended refused = in_own_directories(box, foreign + "$C run echo ran || echo $?").wait();
    CHECK(refused.out == "125\n");
    CHECK(refused.err == "coalesce: cannot use /tmp/coalesce-0, which belongs to uid 65534: Permission denied\n");
}

SCENARIO("R9: a runtime directory that is named and not there is passed over, which -v says", "[wrapper]") {
    Sandbox box;
    if (!box.may_mount()) return not_tried("mounting is not allowed here");
    const std::string named = "export XDG_RUNTIME_DIR=/nowhere/x; ";
    CHECK(in_own_directories(box, named + "$C run echo ran; ls /tmp").wait().out == "ran\ncoalesce-0\n");
    CHECK(in_own_directories(box, named + "$C run -v true")
              .wait()
              .err.find("coalesce: there is no /nowhere/x, which XDG_RUNTIME_DIR names; the meeting place is "
                        "/tmp/coalesce-0\n") == 0);
}

SCENARIO("R9: a place that was named is made, and taken as it is", "[wrapper]") {
    Sandbox box;
    box.env["COALESCE_PLACE"] = box.path("named");
    CHECK(box.run({"true"}, {.in_child = [] { ::umask(0); }}).status == 0);
    struct stat info {};
    REQUIRE(::stat(box.path("named").c_str(), &info) == 0);
    CHECK((info.st_mode & 07777) == 0700);
    ::chmod(box.path("named").c_str(), 0755);
    REQUIRE(::symlink("named", box.path("link").c_str()) == 0);
    Gate gate(box, "gate");
    auto leader = box.request({"cat", "gate"});
    gate.wait_for_command();
    box.env["COALESCE_PLACE"] = "link";  // below the directory that a request is made in
    auto joiner = box.request({"cat", "gate"});
    box.until_requesters(2);
    gate.open();
    CHECK(leader.wait().status == 0);
    CHECK(joiner.wait().status == 0);
    CHECK_FALSE(std::filesystem::exists(box.place()));
}

SCENARIO("R9: --place wins over COALESCE_PLACE, for every command that meets there", "[wrapper]") {
    // Of one command a flight is in each; what is asked for the one is told of the one.
    Sandbox box;
    const std::string option = box.path("by-option");
    const std::string variable = box.path("by-variable");
    box.env["COALESCE_PLACE"] = variable;
    Gate here(box, "here");
    Gate there(box, "there");
    const auto request = [&](const std::string& gate, std::vector<std::string> options) {
        for (const char* word : {"--ignore-env", "GATE", "-c", "echo run >>runs; cat \"$GATE\""})
            options.emplace_back(word);
        return box.request(options, {.env = {"GATE=" + gate}});
    };
    auto in_variable = request("there", {});
    there.wait_for_command();
    auto in_option = request("here", {"--place", option});
    here.wait_for_command();
    CHECK(box.lines_of("runs") == 2);
    auto joiner = request("nowhere", {"--place", option});

    const auto in_place = [&](const std::string& subcommand, std::vector<std::string> more) {
        more.insert(more.begin(), {subcommand, "--place", option});
        return box.coalesce(more);
    };
    std::string told;
    while (told.find("\"requesters\":2") == std::string::npos) told = in_place("status", {"--json"}).out;
    CHECK(std::count(told.begin(), told.end(), '\n') == 1);
    const std::string id = told.substr(told.find("\"id\":\"") + 6, 12);
    const std::string other = box.until_requesters(1).id.substr(0, 12);
    REQUIRE(id != other);

    const std::vector<std::string> same{"--ignore-env", "GATE", "-c", "echo run >>runs; cat \"$GATE\""};
    CHECK(in_place("key", same).out.find("in flight: would join " + id + "\n") != std::string::npos);
    CHECK(in_place("key", same).out.find(other) == std::string::npos);

    CHECK(in_place("cancel", {other}).status == 125);
    CHECK(box.coalesce({"cancel", id}).status == 125);
    CHECK(in_place("cancel", {id}).status == 0);
    CHECK(in_option.wait().status == 125);
    CHECK(joiner.wait().status == 125);
    CHECK(box.until_requesters(1).id.substr(0, 12) == other);

    there.open();
    CHECK(in_variable.wait().status == 0);
    here.open();
    Gate again(box, "again");
    auto leader = request("again", {"--place", option});
    again.wait_for_command();
    auto sharer = request("again", {"--place", option});
    told.clear();
    while (told.find("\"requesters\":2") == std::string::npos) told = in_place("status", {"--json"}).out;
    again.open();
    CHECK(leader.wait().status == 0);
    CHECK(sharer.wait().status == 0);
    box.wait_for_all();
    CHECK(in_place("stats", {}).out.find(" 1 joins of 1 shared runs") != std::string::npos);
    CHECK(box.coalesce({"stats"}).out.find(" 0 joins of 0 shared runs") != std::string::npos);
    CHECK_FALSE(std::filesystem::exists(box.place()));
}

SCENARIO("R9: without /proc a command runs and is joined", "[wrapper]") {
    if (sanitized()) return;  // left to the release: sanitizers read /proc
    Sandbox box;
    if (!box.may_mount()) return not_tried("mounting is not allowed here");
    CHECK(in_own_directories(box,
                             "mount -t tmpfs none /proc; $C run echo ran; $C run -c 'cat gate' >one & until_joined "
                             "1; $C run -c 'cat gate' >two & until_joined 2; echo answer >gate; wait; cat one two")
              .wait()
              .out == "ran\nanswer\nanswer\n");
}

SCENARIO("R9: in a deleted directory the command runs, as a line and as words", "[wrapper]") {
    Sandbox box;
    const std::string gone = "mkdir gone; cd gone; rmdir ../gone; ";
    CHECK(
        box.script(gone + "$C run echo ran; $C run -c 'echo ran'; echo 'echo ran' | $C; $C key true | grep -c deleted")
            .out == "ran\nran\nran\n1\n");
    Gate gate(box, "gate");
    auto leader = box.start({"/bin/sh", "-c", gone + "exec $C run cat " + box.path("gate")});
    gate.wait_for_command();
    box.until_requesters(1);
    gate.open();
    CHECK(leader.wait().status == 0);
}

SCENARIO("R7: a server and its clients meet on a path longer than a socket's may be", "[wrapper]") {
    Sandbox box;
    std::string deep = box.path("deep");
    ::mkdir(deep.c_str(), 0700);
    for (int i = 0; i < 3; ++i) ::mkdir((deep += "/" + std::string(60, 'x')).c_str(), 0700);
    const std::string socket = deep + "/socket";
    auto server = box.start({tested_program(), "serve", "--socket", socket, "--log-level", "off"});
    while (box.coalesce({"status", "--socket", socket}).status != 0) {
    }
    CHECK(box.run({"--socket", socket, "echo", "answer"}).out == "answer\n");
    server.kill(SIGTERM);
    CHECK(server.wait().status == 0);
}

SCENARIO("R9: names that no flight can have, in the place or in the environment, are passed over", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    auto leader = box.request({"cat", "gate"});
    gate.wait_for_command();
    const std::string stray = "runtime/coalesce/" + std::string(150, 'x') + ".sock";
    box.write(stray, "");
    auto joiner = box.request({"cat", "gate"}, {.env = {"COALESCE_ANCESTRY=" + std::string(200, 'a')}});
    auto another = box.request({"cat", "gate"}, {.env = {"COALESCE_ANCESTRY=../../../x"}});
    box.until_requesters(3);
    CHECK(box.coalesce({"key", "true"}).status == 0);
    gate.open();
    for (Process* requester : {&leader, &joiner, &another}) CHECK(requester->wait().status == 0);
    ::unlink(box.path(stray).c_str());
}

SCENARIO("R9: a path longer than a socket's may be works", "[wrapper]") {
    Sandbox box;
    std::string deep = box.path("runtime");
    for (int i = 0; i < 10; ++i) ::mkdir((deep += "/" + std::string(60, 'x')).c_str(), 0700);
    box.env["XDG_RUNTIME_DIR"] = deep;
    Gate gate(box, "gate");
    auto first = box.request({"-c", "cat gate; echo answer"});
    gate.wait_for_command();
    auto second = box.request({"-c", "cat gate; echo answer"});
    box.until_requesters(2);
    gate.open();
    CHECK(first.wait().out == "answer\n");
    CHECK(second.wait().out == "answer\n");
}

SCENARIO("F1: a umask that closes files to their owner does not make a live flight look dead", "[wrapper]") {
    // Connecting needs write permission: the second request took the refusal for a dead
    // supervisor, killed the first one's run and ran the command again.
    if (!root()) return not_tried("root is needed");
    Sandbox box;
    const std::string coalesce = box.open_to_nobody();
    box.write("runs", "");
    ::chmod(box.path("runs").c_str(), 0666);
    Gate gate(box, "gate");
    ::chmod(box.path("gate").c_str(), 0666);
    const Sandbox::Setting narrow{.in_child = [] {
        ::umask(0777);
        become_nobody();
    }};
    const std::vector<std::string> words{coalesce, "run", "-c", "echo run >>runs; cat gate; echo answer"};
    auto first = box.start(words, narrow);
    gate.wait_for_command();
    auto second = box.start(words, narrow);
    while (true) {
        const std::string out = box.start({coalesce, "status", "--json"}, narrow).wait().out;
        if (out.find("\"requesters\":2") != std::string::npos || box.lines_of("runs") > 1) break;
    }
    gate.open();
    CHECK(first.wait().out == "answer\n");
    CHECK(second.wait().out == "answer\n");
    CHECK(box.lines_of("runs") == 1);
}

SCENARIO("F1: not to be able to ask is not to be told that nobody is there", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    const std::vector<std::string> words{"cat", "gate"};
    auto first = box.request(words);
    gate.wait_for_command();
    // Enough descriptors to start, none for a socket; how many that are depends on what is
    // open already. (The limit is no part of the key.)
    bool without_a_socket = sanitized();  // its runtime takes some itself
    for (int most = 4; !without_a_socket && most < 20; ++most) {
        const Ended ended = box.script("ulimit -n " + std::to_string(most) + "; exec $C run cat gate");
        INFO(most);
        CHECK(ended.status == 125);
        CHECK(ended.err.find("Too many open files\n") != std::string::npos);
        without_a_socket = ended.err == "coalesce: cannot make a socket: Too many open files\n";
    }
    CHECK(without_a_socket);
    box.until_requesters(1);
    gate.open();
    CHECK(first.wait().status == 0);
}

SCENARIO("R9: a socket that nobody accepts on can be left by a second signal", "[wrapper]") {
    Sandbox box;
    const std::string key = box.coalesce({"key", "true"}).out.substr(0, 32);
    ::mkdir(box.place().c_str(), 0700);
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    (box.place() + "/" + key + ".sock").copy(address.sun_path, sizeof address.sun_path - 1);
    REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(fd, 10) == 0);
    auto process = box.request({"true"});
    const int accepted = ::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC);  // it has asked
    process.kill(SIGINT);
    char line[4096];
    std::string heard;
    while (heard.find("signal") == std::string::npos) {
        const ssize_t got = ::read(accepted, line, sizeof line);
        REQUIRE(got > 0);
        heard.append(line, static_cast<std::size_t>(got));
    }
    process.kill(SIGTERM);
    CHECK(process.wait().signal == SIGTERM);
    // Once its owner is gone, it is a leftover like any other.
    ::close(accepted);
    ::close(fd);
    CHECK(box.run({"true"}).status == 0);
    box.wait_for_all();
    CHECK(box.left_in_place().empty());
}
