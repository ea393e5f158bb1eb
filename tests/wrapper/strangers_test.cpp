// SPDX-License-Identifier: MIT
// F13: a recorded number is signalled only if it is still what was recorded; and what cannot
// be ended holds nobody.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "../catch.h"
#include "../not_tried.h"
#include "sandbox.h"

namespace {

// A flight whose supervisor and requester were killed, with a grandchild that lives on.
class Crashed {
  public:
    explicit Crashed(Sandbox& box, const std::vector<std::string>& before = {},
                     const std::string& grandchild = "sleep 1000")
        : box_(box), gate_(box, "crashed") {
        std::vector<std::string> words = before;
        const std::string line = "[ -e over ] && exec echo over; " + grandchild + " & echo $! >left; exec cat crashed";
        for (const std::string& word : {tested_program(), std::string("run"), std::string("-c"), line})
            words.push_back(word);
        words_ = {words.begin() + static_cast<std::ptrdiff_t>(before.size()) + 1, words.end()};
        auto requester = box.start(words);
        gate_.wait_for_command();
        const Flight flight = box.until_requesters(1);
        leader_ = flight.pid;
        // The requester first: it would take over.
        requester.kill(SIGSTOP);
        ::kill(flight.supervisor, SIGKILL);
        requester.kill(SIGKILL);
        requester.wait();
        // Its sockets are closed before its children are ours: that it is over is what says so.
        REQUIRE(::waitpid(flight.supervisor, nullptr, 0) == flight.supervisor);
        box.until([](const auto& all) { return all.empty(); });
        until_dead(leader_);  // as long as it lives, whoever removes what is old passes over its key
        box.write("over", "");
        REQUIRE(box.left_in_place().size() == 2);
    }

    [[nodiscard]] pid_t left() const { return std::atoi(box_.read("left").c_str()); }
    [[nodiscard]] pid_t leader() const { return leader_; }
    // Nobody has the leader's number any more.
    void reap_leader() const { REQUIRE(::waitpid(leader_, nullptr, 0) == leader_); }

    [[nodiscard]] std::string record() const {
        char text[256];
        const ssize_t got = ::readlink(path().c_str(), text, sizeof text);
        REQUIRE(got > 0);
        return {text, static_cast<std::size_t>(got)};
    }
    void set_record(const std::string& text) const {
        const std::string where = path();
        REQUIRE(::unlink(where.c_str()) == 0);
        REQUIRE(::symlink(text.c_str(), where.c_str()) == 0);
    }
    // The same command again.
    [[nodiscard]] Ended again() { return box_.start(argv()).wait(); }
    [[nodiscard]] std::vector<std::string> argv() const {
        std::vector<std::string> words{tested_program()};
        words.insert(words.end(), words_.begin(), words_.end());
        return words;
    }

  private:
    [[nodiscard]] std::string path() const {
        for (const std::string& name : box_.left_in_place())
            if (name.ends_with(".run")) return box_.place() + "/" + name;
        return {};
    }

    Sandbox& box_;
    Gate gate_;
    std::vector<std::string> words_;
    pid_t leader_ = 0;
};

std::string with_pid(const std::string& record, pid_t pid) {
    const std::size_t after = record.rfind('/');
    char number[16];
    std::snprintf(number, sizeof number, "%x", static_cast<unsigned>(pid));
    return record.substr(0, record.rfind('/', after - 1) + 1) + number + record.substr(after);
}

bool alive(pid_t pid) {
    const std::string status = read_file("/proc/" + std::to_string(pid) + "/status");
    return !status.empty() && status.find("State:\tZ") == std::string::npos;
}

void end(pid_t pid) { ::kill(pid, SIGKILL); }

}  // namespace

SCENARIO("F13: what is left of a dead supervisor's run is ended, with its leader a zombie or gone", "[wrapper]") {
    Sandbox box;
    Crashed crashed(box);
    const bool gone = GENERATE(true, false);
    if (gone) crashed.reap_leader();
    CHECK(alive(crashed.left()));
    CHECK(crashed.again().out == "over\n");
    box.wait_for_all();  // the sleep as well
    CHECK(box.left_in_place().empty());
}

SCENARIO("F13: a process that has got a recorded number later is left alone", "[wrapper]") {
    Sandbox box;
    Crashed crashed(box);
    crashed.reap_leader();
    const std::string record = crashed.record();
    const long long at = std::strtoll(record.c_str() + record.rfind('/') + 1, nullptr, 16);
    timespec now{};  // a start is told in hundredths of seconds
    do ::clock_gettime(CLOCK_BOOTTIME, &now);
    while (now.tv_sec * 1000 + now.tv_nsec / 1'000'000 < at + 20);
    auto innocent = box.start({"/usr/bin/setsid", "sleep", "1000"});
    crashed.set_record(with_pid(record, innocent.pid()));
    CHECK(crashed.again().out == "over\n");
    innocent.kill(SIGTERM);
    CHECK(innocent.wait().signal == SIGTERM);  // and not of the KILL that was meant for another
    end(crashed.left());
}

SCENARIO("F13: a number from before a restart, or of another pid namespace, means nothing", "[wrapper]") {
    Sandbox box;
    Crashed crashed(box);
    std::string record = crashed.record();
    const bool boot = GENERATE(true, false);
    const std::size_t at = boot ? 0 : record.find('/') + 1;
    record[at] = record[at] == '7' ? '8' : '7';
    crashed.set_record(record);
    CHECK(crashed.again().out == "over\n");
    CHECK(alive(crashed.left()));
    end(crashed.left());
    box.wait_for_all();
    CHECK(box.left_in_place().empty());
}

SCENARIO("F13: without the leader only those whose environment names the flight are ended", "[wrapper]") {
    Sandbox box;
    WHEN("a member of the session has put its environment away") {
        Gate up(box, "up");
        Crashed crashed(box, {}, "env -i sh -c 'echo x >up; exec sleep 1000'");
        CHECK(read_file(box.path("up")) == "x\n");  // it is not the one any more that was yet to do so
        crashed.reap_leader();
        CHECK(crashed.again().out == "over\n");
        CHECK(alive(crashed.left()));
        end(crashed.left());
    }
    WHEN("the number is another session's by now, and its leader has gone, too") {
        Crashed crashed(box);
        crashed.reap_leader();
        end(crashed.left());
        Gate gate(box, "gate");
        auto session = box.start({"/usr/bin/setsid", "sh", "-c", "sleep 1000 & echo $! >stranger; exec cat gate"});
        gate.wait_for_command();
        gate.open();
        CHECK(session.wait().status == 0);
        const pid_t stranger = std::atoi(box.read("stranger").c_str());
        crashed.set_record(with_pid(crashed.record(), session.pid()));
        CHECK(crashed.again().out == "over\n");
        CHECK(alive(stranger));
        end(stranger);
    }
}

SCENARIO("F13: a flight that was killed in a container does not cost a stranger outside its life", "[wrapper]") {
    Sandbox box;
    if (box.script("unshare -pf --mount-proc sh -c 'echo 300 >/proc/sys/kernel/ns_last_pid'").status != 0)
        return not_tried("no pid namespace can be had whose numbers can be chosen");
    // The flight's command gets the number, inside, that the stranger has outside.
    auto stranger = box.start({"/usr/bin/setsid", "sleep", "1000"});
    Gate gate(box, "gate");
    box.write("pid", std::to_string(stranger.pid()));
    auto container = box.start({"/usr/bin/unshare", "-pf", "--mount-proc", "/bin/sh", "-c",
                                "read pid <pid; echo $((pid - 3)) >/proc/sys/kernel/ns_last_pid; "
                                "exec 3>/dev/null; $C run sh -c 'echo $$ >inside; exec cat gate' & exec sleep 1000"});
    gate.wait_for_command();
    CHECK(box.read("inside") == std::to_string(stranger.pid()) + "\n");
    box.script("kill -KILL $(pgrep -P " + std::to_string(container.pid()) + ")");
    container.wait();
    REQUIRE(box.left_in_place().size() == 2);
    CHECK(box.run({"true"}).status == 0);
    stranger.kill(SIGTERM);
    CHECK(stranger.wait().signal == SIGTERM);
    box.wait_for_all();
    CHECK(box.left_in_place().empty());
}

SCENARIO("F13: in a time namespace the same is told, from either side", "[wrapper]") {
    Sandbox box;
    // Behind: there a record would be too early for its own process, and from there a process
    // that began later than its record would look earlier.
    const std::vector<std::string> behind{"/usr/bin/unshare", "-T", "-f", "--boottime", "-20"};
    // The same for its children only, so that what is started is the requester itself.
    const std::vector<std::string> children_behind{"/usr/bin/unshare", "-T", "--boottime", "-20"};
    auto probe = behind;
    probe.emplace_back("/bin/true");
    if (box.start(probe).wait().status != 0) return not_tried("no time namespace can be had");
    WHEN("the flight was inside") {
        Crashed crashed(box, children_behind);
        CHECK(crashed.again().out == "over\n");
        box.wait_for_all();
        CHECK(box.left_in_place().empty());
    }
    WHEN("who comes next is inside") {
        Crashed crashed(box);
        auto words = behind;
        for (const std::string& word : crashed.argv()) words.push_back(word);
        CHECK(box.start(words).wait().out == "over\n");
        box.wait_for_all();
        CHECK(box.left_in_place().empty());
    }
    WHEN("who comes next is inside, and the number is a stranger's by now") {
        Crashed crashed(box);
        crashed.reap_leader();
        const std::string record = crashed.record();
        const long long at = std::strtoll(record.c_str() + record.rfind('/') + 1, nullptr, 16);
        timespec now{};
        do ::clock_gettime(CLOCK_BOOTTIME, &now);
        while (now.tv_sec * 1000 + now.tv_nsec / 1'000'000 < at + 20);
        auto innocent = box.start({"/usr/bin/setsid", "sleep", "1000"});
        crashed.set_record(with_pid(record, innocent.pid()));
        auto words = behind;
        for (const std::string& word : crashed.argv()) words.push_back(word);
        CHECK(box.start(words).wait().out == "over\n");
        innocent.kill(SIGTERM);
        CHECK(innocent.wait().signal == SIGTERM);
        end(crashed.left());
    }
}

SCENARIO("F13: who comes next in a user namespace of its own ends what is left, too", "[wrapper]") {
    Sandbox box;
    if (box.script("unshare -Ur true").status != 0) return not_tried("no user namespace can be had");
    Crashed crashed(box);
    CHECK(box.script("exec unshare -Ur $C run true").status == 0);  // of any key
    box.wait_for_all();
    CHECK(box.left_in_place().empty());
}

SCENARIO("F13: what may not be killed holds nobody, and keeps nobody from a run of its own", "[wrapper]") {
    // The leader, a zombie, could be told to end again and again, while what it had
    // started as root lived: whoever came next waited for that, and held the lock.
    if (::geteuid() != 0) return not_tried("root is needed");
    Sandbox box;
    const std::string coalesce = box.open_to_nobody();
    const std::string become_root = box.path("become_root");
    box.script("cp $(command -v setpriv) become_root && chmod 4755 become_root");
    const Sandbox::Setting as_nobody{.in_child = become_nobody};
    if (box.start({become_root, "--reuid=0", "true"}, as_nobody).wait().status != 0)
        return not_tried("a program of root's cannot be had here");
    Gate gate(box, "gate"), begun(box, "begun");
    for (const char* name : {"gate", "begun"}) REQUIRE(::chmod(box.path(name).c_str(), 0666) == 0);
    const std::vector<std::string> words{coalesce, "run", "-c",
                                         "[ -e over ] && exec echo over; " + become_root +
                                             " --reuid=0 sh -c 'echo $$ >begun; exec sleep 1000' & exec cat gate"};
    auto first = box.start(words, as_nobody);
    const pid_t of_root = std::atoi(read_file(box.path("begun")).c_str());
    gate.wait_for_command();
    const std::string status = box.start({coalesce, "status", "--json"}, as_nobody).wait().out;
    const std::size_t at = status.find("\"supervisor\":");
    REQUIRE(at != std::string::npos);
    first.kill(SIGSTOP);
    ::kill(std::atoi(status.c_str() + at + 13), SIGKILL);
    first.kill(SIGKILL);
    first.wait();
    box.write("over", "");
    CHECK(box.start(words, as_nobody).wait().out == "over\n");
    CHECK(alive(of_root));
    end(of_root);
}

SCENARIO("R9: a live flight is safe from those who remove what is old", "[wrapper]") {
    // Its process's number stood in the socket's time, long ago to everybody else.
    Sandbox box;
    Gate gate(box, "gate");
    auto leader = box.request({"cat", "gate"});
    gate.wait_for_command();
    CHECK(box.script("find " + box.place() + " -mtime +7 -o -atime +7 -o -ctime +7").out.empty());
    CHECK(box.script("grep -c ' " + box.place() + "/.*\\.sock$' /proc/net/unix").out == "1\n");
    gate.open();
    CHECK(leader.wait().status == 0);
}
