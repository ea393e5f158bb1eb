// SPDX-License-Identifier: MIT
// O1: what sharing has saved is summed up for wrappers too, and costs nothing where nothing was shared.
#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <ctime>
#include <filesystem>
#include <functional>
#include <list>
#include <regex>
#include <vector>

#include "../catch.h"
#include "sandbox.h"

namespace {

struct Stats {
    int runs = -1;
    int joins = -1;
    double saved = -1;
    std::int64_t since = -1;
};

// Of wrappers only.
Stats stats(Sandbox& box) {
    const std::string told = box.coalesce({"stats", "--json"}).out;
    std::smatch parts;
    INFO(told);
    REQUIRE(std::regex_search(
        told, parts,
        std::regex("\"wrappers\":\\{\"runs\":([0-9]+),\"joins\":([0-9]+),\"saved\":([0-9.]+),\"since\":([0-9]+)\\}")));
    return {.runs = std::stoi(parts[1]),
            .joins = std::stoi(parts[2]),
            .saved = std::stod(parts[3]),
            .since = std::stoll(parts[4])};
}

// `count` requests of one command that is held at a gate of its own.
std::vector<Process> share(Sandbox& box, const std::string& gate, int count) {
    std::vector<Process> all;
    for (int i = 0; i < count; ++i) all.push_back(box.request({"cat", gate}));
    return all;
}

std::string file_of(const Sandbox& box) { return box.place() + "/savings"; }

}  // namespace

SCENARIO("O1: a run that nobody joined leaves no file and counts for nothing", "[wrapper]") {
    Sandbox box;
    for (int i = 0; i < 3; ++i) CHECK(box.run({"true"}).status == 0);
    CHECK_FALSE(std::filesystem::exists(file_of(box)));
    CHECK(box.coalesce({"stats"}).out == "joins     0\nsaved     0s\nwrappers  0 joins of 0 shared runs, 0s saved\n");
    CHECK_FALSE(std::filesystem::exists(file_of(box)));  // asking leaves none either
}

SCENARIO("O1: who joined is counted, with the time of the run, before anybody is told of its end", "[wrapper]") {
    Sandbox box;
    for (int round = 1; round <= 3; ++round) {
        const std::string name = "gate" + std::to_string(round);
        Gate gate(box, name);
        auto all = share(box, name, 3);
        gate.wait_for_command();
        box.until_requesters(3);
        gate.open();
        CHECK(all[0].wait().status == 0);
        const Stats now = stats(box);  // by whoever heard of it first
        CHECK(now.runs == round);
        CHECK(now.joins == 2 * round);
        CHECK(now.saved > 0);
        for (std::size_t i = 1; i < all.size(); ++i) CHECK(all[i].wait().status == 0);
    }
    CHECK(box.coalesce({"stats"}).out.find("joins     6\nsaved     ") == 0);
}

SCENARIO("O1: a failure that is shared is saved like a success, a cancelled run is not", "[wrapper]") {
    Sandbox box;
    {
        Gate gate(box, "fails");
        std::vector<Process> all;
        for (int i = 0; i < 2; ++i) all.push_back(box.request({"-c", "cat fails; exit 3"}));
        gate.wait_for_command();
        box.until_requesters(2);
        gate.open();
        for (Process& process : all) CHECK(process.wait().status == 3);
    }
    CHECK(stats(box).joins == 1);
    Gate gate(box, "gate");
    auto all = share(box, "gate", 2);
    gate.wait_for_command();
    const Flight flight = box.until_requesters(2);
    CHECK(box.coalesce({"cancel", flight.id}).status == 0);
    for (Process& process : all) CHECK(process.wait().status == 125);
    CHECK(stats(box).joins == 1);
}

SCENARIO("O1: who has left is not counted, who stays after the leader is", "[wrapper]") {
    Sandbox box;
    Gate gate(box, "gate");
    auto leader = box.request({"cat", "gate"});
    gate.wait_for_command();
    auto stays = box.request({"cat", "gate"});
    box.until_requesters(2);
    auto leaves = box.request({"cat", "gate"});
    box.until_requesters(3);
    leader.kill(SIGKILL);
    leaves.kill(SIGINT);
    leader.wait();
    leaves.wait();
    box.until_requesters(1);
    gate.open();
    CHECK(stays.wait().status == 0);
    CHECK(stats(box).joins == 1);
}

SCENARIO("O1: flights that end at the same time are all counted, in a file that does not grow", "[wrapper]") {
    Sandbox box;
    constexpr int flights = 12;
    constexpr int requesters = 4;
    for (int round = 1; round <= 2; ++round) {
        std::list<Gate> gates;
        std::vector<Process> all;
        for (int i = 0; i < flights; ++i) {
            const std::string name = "gate" + std::to_string(round) + "." + std::to_string(i);
            Gate& gate = gates.emplace_back(box, name);
            for (Process& process : share(box, name, requesters)) all.push_back(process);
            gate.wait_for_command();
        }
        box.until([](const auto& now) {
            int waiting = 0;
            for (const Flight& flight : now) waiting += flight.requesters;
            return waiting == flights * requesters;
        });
        for (Gate& gate : gates) gate.open();
        for (Process& process : all) CHECK(process.wait().status == 0);
        const Stats now = stats(box);
        CHECK(now.runs == flights * round);
        CHECK(now.joins == flights * (requesters - 1) * round);
    }
    CHECK(std::filesystem::file_size(file_of(box)) < 128);
}

SCENARIO("O1: whatever stands in the file's place, results are what they are", "[wrapper]") {
    Sandbox box;
    CHECK(box.run({"true"}).status == 0);  // makes the place
    int number = 0;
    const auto shared_run = [&](mode_t mask) {
        const std::string name = "gate" + std::to_string(++number);
        Gate gate(box, name);
        std::vector<Process> all;
        for (int i = 0; i < 2; ++i)
            all.push_back(
                box.request({"-c", "cat " + name + "; echo answer"}, {.in_child = [mask] { ::umask(mask); }}));
        gate.wait_for_command();
        box.until_requesters(2);
        gate.open();
        for (Process& process : all) CHECK(process.wait().out == "answer\n");
    };
    const auto mode = [&] {
        struct stat info {};
        ::stat(file_of(box).c_str(), &info);
        return info.st_mode & 07777;
    };
    WHEN("it holds what makes no sense, the sum begins anew") {
        for (const std::string& text :
             {std::string(), std::string("runs 7"), std::string("runs 7 joins 7 nanoseconds 7 since 7"),
              std::string(5000, 'x'), std::string("runs 7 joins 7 nanoseconds 7 since 7\nmore\n"),
              std::string("runs 7 joins 7 nanoseconds -7 since 7\n"), std::string("runs 7 joins 7 nanoseconds 7\n"),
              std::string("runs 7 joins 7 nanoseconds 9223372036854775807 since 7\n"),
              std::string("runs 7 joins 7 nanoseconds 7 since -7\n")}) {
            CAPTURE(text);
            box.write("runtime/coalesce/savings", text);
            CHECK(stats(box).joins == 0);
            CHECK(stats(box).since == 0);
            const std::int64_t before = std::time(nullptr);
            shared_run(022);
            CHECK(stats(box).joins == 1);
            CHECK(stats(box).since >= before);
            CHECK(std::filesystem::file_size(file_of(box)) < 128);
        }
    }
    WHEN("it is a directory, a FIFO or a link, there is no sum") {
        box.write("elsewhere", "runs 7 joins 7 nanoseconds 7 since 7\n");
        const std::vector<std::function<void()>> makers{
            [&] { ::mkdir(file_of(box).c_str(), 0700); }, [&] { ::mkfifo(file_of(box).c_str(), 0600); },
            [&] { std::filesystem::create_symlink(box.path("elsewhere"), file_of(box)); }};
        for (const auto& make : makers) {
            make();
            shared_run(022);
            CHECK(stats(box).joins == 0);
            std::filesystem::remove_all(file_of(box));
        }
        CHECK(box.read("elsewhere") == "runs 7 joins 7 nanoseconds 7 since 7\n");
    }
    WHEN("somebody keeps it locked, a count is lost and no result") {
        shared_run(022);
        const int fd = ::open(file_of(box).c_str(), O_RDWR | O_CLOEXEC);
        REQUIRE(::flock(fd, LOCK_EX) == 0);
        shared_run(022);
        ::close(fd);
        CHECK(stats(box).joins == 1);
        shared_run(022);
        CHECK(stats(box).joins == 2);
    }
    WHEN("the umask is any, it is its owner's alone, and stays usable") {
        for (const mode_t mask : {0, 0777, 0177}) {
            std::filesystem::remove(file_of(box));
            shared_run(mask);
            CHECK(mode() == 0600);
            CHECK(stats(box).joins == 1);
        }
    }
}

SCENARIO("O1: what a server saved is added", "[wrapper]") {
    Sandbox box;
    auto server = box.start({tested_program(), "serve", "--log-level", "off"});
    while (box.coalesce({"stats", "--json"}).out.find("\"server\":") == std::string::npos) {
    }
    {
        Gate gate(box, "ours");
        auto all = share(box, "ours", 2);
        gate.wait_for_command();
        box.until_requesters(2);
        gate.open();
        for (Process& process : all) CHECK(process.wait().status == 0);
    }
    {
        Gate gate(box, "its");
        const std::string socket = box.place() + "/server.sock";
        std::vector<Process> all;
        for (int i = 0; i < 3; ++i) all.push_back(box.request({"--socket", socket, "cat", "its"}));
        gate.wait_for_command();
        box.until_requesters(3);
        gate.open();
        for (Process& process : all) CHECK(process.wait().status == 0);
        const std::string server_only = box.coalesce({"stats", "--socket", socket, "--json"}).out;
        CHECK(server_only.find("{\"joins\":2,\"saved\":") == 0);
        CHECK(server_only.find("wrappers") == std::string::npos);
    }
    const std::string both = box.coalesce({"stats"}).out;
    CHECK(both.find("joins     3\n") == 0);
    CHECK(both.find("\nwrappers  1 joins of 1 shared runs, ") != std::string::npos);
    CHECK(both.find("\nserver    2 joins, 3 requests, 1 runs (0 failed, 0 timed out), ") != std::string::npos);
    server.kill(SIGTERM);
    CHECK(server.wait().status == 0);
}
