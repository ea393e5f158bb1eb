// SPDX-License-Identifier: MIT
// K1–K4, and `coalesce key`, `status`, `cancel`.
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <vector>

#include "../catch.h"
#include "sandbox.h"

namespace {

std::string key_of(Sandbox& box, std::vector<std::string> words, const Sandbox::Setting& setting = {}) {
    words.insert(words.begin(), {tested_program(), "key"});
    const std::string out = box.start(words, setting).wait().out;
    return out.substr(0, out.find('\n'));
}

}  // namespace

SCENARIO("K1: keys of different commands differ pairwise", "[wrapper]") {
    Sandbox box;
    ::mkdir(box.path("d").c_str(), 0700);
    box.write("in", "a");
    std::map<std::string, int> keys;
    int count = 0;
    const auto add = [&](const std::vector<std::string>& words, const Sandbox::Setting& setting = {}) {
        ++count;
        const std::string key = key_of(box, words, setting);
        CHECK(key.size() == 32);
        ++keys[key];
    };
    add({"echo", "a b"});
    add({"echo", "a", "b"});
    add({"echo", "a", "b", ""});
    add({"echo a b"});
    add({"-c", "echo a b"});
    add({"echo", "a b"}, {.directory = "d"});
    add({"echo", "a b"}, {.in_child = [] { ::umask(077); }});
    add({"--stdin", "echo", "a b"}, {.standard_input = box.path("in")});
    add({"--scope", "x", "echo", "a b"});
    add({"--scope", "y", "echo", "a b"});
    add({"--key", "echo", "echo", "a b"});
    add({"--only-env=", "echo", "a b"});
    add({"--ignore-cwd", "echo", "a b"});
    for (const std::string name :
         {"FOO", "CI_JOB_ID", "LANG", "TERM", "SSH_AUTH_SOCK", "HOME", "LISTEN_FDS", "PATH2", "USER"}) {
        add({"echo", "a b"}, {.env = {name + "=1"}});
        add({"echo", "a b"}, {.env = {name + "=2"}});
        add({"echo", "a b"}, {.env = {name + "="}});
    }
    CHECK(keys.size() == static_cast<std::size_t>(count));
}

SCENARIO("K1: variables that differ between two terminals of one user do not count", "[wrapper]") {
    Sandbox box;
    const std::string plain = key_of(box, {"true"});
    for (const std::string name :
         {"SHLVL", "_", "OLDPWD", "WINDOWID", "TMUX_PANE", "SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY", "XDG_SESSION_ID",
          "INVOCATION_ID", "JOURNAL_STREAM", "COALESCE_ANCESTRY", "COALESCE_X"}) {
        CAPTURE(name);
        CHECK(key_of(box, {"true"}, {.env = {name + "=7"}}) == plain);
    }
}

SCENARIO("K1: no bytes on standard input are as many as /dev/null has", "[wrapper]") {
    Sandbox box;
    box.write("empty", "");
    CHECK(key_of(box, {"--stdin", "cat"}, {.standard_input = box.path("empty")}) == key_of(box, {"cat"}));
}

SCENARIO("K2: rules about identity", "[wrapper]") {
    Sandbox box;
    ::mkdir(box.path("d").c_str(), 0700);
    const Sandbox::Setting a{.env = {"FOO=a", "BAR=1"}}, b{.env = {"FOO=b", "BAR=1"}}, c{.env = {"FOO=a", "BAR=2"}};
    CHECK(key_of(box, {"--ignore-env", "FOO", "true"}, a) == key_of(box, {"--ignore-env", "FOO", "true"}, b));
    CHECK(key_of(box, {"--ignore-env", "F*", "true"}, a) == key_of(box, {"--ignore-env", "F*", "true"}, b));
    CHECK(key_of(box, {"--ignore-env", "FOO", "true"}, a) != key_of(box, {"--ignore-env", "FOO", "true"}, c));
    CHECK(key_of(box, {"--only-env", "BAR", "true"}, a) == key_of(box, {"--only-env", "BAR", "true"}, b));
    CHECK(key_of(box, {"--only-env", "BAR", "true"}, a) != key_of(box, {"--only-env", "BAR", "true"}, c));
    CHECK(key_of(box, {"--only-env=", "true"}, a) == key_of(box, {"--only-env=", "true"}, c));
    CHECK(key_of(box, {"--ignore-cwd", "true"}) == key_of(box, {"--ignore-cwd", "true"}, {.directory = "d"}));
    CHECK(key_of(box, {"--key", "k", "true"}, a) == key_of(box, {"--key", "k", "false"}, b));
    CHECK(key_of(box, {"--key", "k", "true"}) != key_of(box, {"--key", "l", "true"}));
}

SCENARIO("K2: --key makes different commands one flight", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    auto first = box.request({"--key", "k", "-c", "cat gate; echo first"});
    gate.wait_for_command();
    auto second = box.request({"--key", "k", "echo", "second"}, {.env = {"X=1"}});
    box.until_requesters(2);
    gate.open();
    CHECK(first.wait().out == "first\n");
    CHECK(second.wait().out == "first\n");
}

SCENARIO("K3: no secret of a command shows in the meeting place", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    auto process = box.request({"-c", "cat gate; : hunter2"}, {.env = {"TOKEN=hunter3"}});
    gate.wait_for_command();
    const auto names = box.left_in_place();
    REQUIRE(names.size() == 2);
    for (const std::string& name : names) {
        const std::string ending = name.substr(std::min<std::size_t>(name.size(), 32));
        CHECK((ending == ".sock" || ending == ".run"));
        CHECK(name.find_first_not_of("0123456789abcdef") == 32);
    }
    CHECK(box.script("readlink " + box.place() + "/*.run").out.find("hunter") == std::string::npos);
    CHECK(read_file("/proc/net/unix").find("hunter") == std::string::npos);
    gate.open();
    process.wait();
}

SCENARIO("K4: a flight of the same words that is not joined is explained", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    auto process = box.request({"cat", "gate"}, {.env = {"CI_JOB_ID=1"}});
    gate.wait_for_command();
    const auto explained = [&](std::vector<std::string> words, const Sandbox::Setting& setting) {
        words.insert(words.begin(), {tested_program(), "key"});
        return box.start(words, setting).wait().out;
    };
    const std::string id = box.until_requesters(1).id.substr(0, 12);  // which `cancel` would take
    CHECK(explained({"cat", "gate"}, {.env = {"CI_JOB_ID=2"}})
              .find("not joined: " + id + " differs in environment: CI_JOB_ID\n") != std::string::npos);
    CHECK(explained({"cat", "gate"}, {.env = {"CI_JOB_ID=1"}}).find("in flight: would join " + id + "\n") !=
          std::string::npos);
    CHECK(explained({"cat", "gate"}, {.env = {"CI_JOB_ID=1"}, .in_child = [] { ::umask(0); }})
              .find("differs in umask\n") != std::string::npos);
    CHECK(explained({"cat", "other"}, {.env = {"CI_JOB_ID=1"}}).find("differs") == std::string::npos);
    gate.open();
    process.wait();
}

SCENARIO("O1: status lists what is in flight, and cancel ends it for everyone", "[wrapper]") {
    Sandbox box;
    CHECK(box.coalesce({"status"}).out.find("ID ") == 0);
    const Ended nowhere = box.coalesce({"status", "--socket", "nowhere"});
    CHECK(nowhere.status == 125);
    CHECK(nowhere.out.empty());
    CHECK(nowhere.err == "coalesce: cannot reach the server at nowhere: No such file or directory\n");
    Gate gate(box, "gate"), other(box, "other");
    auto first = box.request({"cat", "gate"});
    gate.wait_for_command();
    auto joiner = box.request({"cat", "gate"});
    const Flight flight = box.until_requesters(2);
    CHECK(flight.state == "running");
    CHECK(flight.pid > 0);
    auto second = box.request({"cat", "other"});
    other.wait_for_command();
    CHECK(box.coalesce({"status"}).out.find("cat gate\n") != std::string::npos);
    CHECK(box.coalesce({"cancel", "zzzz"}).err == "coalesce: there is no flight 'zzzz'\n");
    CHECK(box.coalesce({"cancel", "zzzz"}).status == 125);
    CHECK(box.coalesce({"cancel"}).status == 125);
    CHECK(box.coalesce({"cancel", ""}).status == 125);
    CHECK(box.coalesce({"cancel", flight.id.substr(0, 12)}).status == 0);
    for (Process* process : {&first, &joiner}) {
        const Ended ended = process->wait();
        CHECK(ended.status == 125);
        CHECK(ended.err == "coalesce: cat gate: cancelled\n");
    }
    other.open();
    CHECK(second.wait().status == 0);
}

SCENARIO("O1: a stopped supervisor does not stop whoever looks around", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    auto process = box.request({"cat", "gate"});
    gate.wait_for_command();
    const Flight flight = box.until_requesters(1);
    ::kill(flight.supervisor, SIGSTOP);
    CHECK(box.coalesce({"status", "--json"}).out.empty());
    ::kill(flight.supervisor, SIGCONT);
    gate.open();
    CHECK(process.wait().status == 0);
}

SCENARIO("O1: a line of several lines is one line in status", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    auto process = box.request({"-c", "cat gate\n: \033[31m"});
    gate.wait_for_command();
    const std::string table = box.coalesce({"status"}).out;
    CHECK(table.find('\033') == std::string::npos);
    CHECK(std::count(table.begin(), table.end(), '\n') == 2);
    gate.open();
    process.wait();
}

SCENARIO("O1: what a crash left makes no id ambiguous", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    auto process = box.request({"cat", "gate"});
    gate.wait_for_command();
    const Flight flight = box.until_requesters(1);
    const std::string leftover = flight.id.substr(0, 31) + (flight.id[31] == '0' ? "1" : "0");
    const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    (box.place() + "/" + leftover + ".sock").copy(address.sun_path, sizeof address.sun_path - 1);
    REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    ::close(fd);
    CHECK(box.coalesce({"cancel", flight.id.substr(0, 31)}).status == 0);
    CHECK(process.wait().status == 125);
    box.wait_for_all();
    CHECK(box.left_in_place().empty());
}
