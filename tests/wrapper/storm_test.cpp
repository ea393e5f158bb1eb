// SPDX-License-Identifier: MIT
// Storms: many wrappers at once, and deaths at random moments. Each command takes its
// key's lock without waiting and reports if another run of the key holds it.
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <random>
#include <sstream>
#include <vector>

#include "../catch.h"
#include "sandbox.h"

namespace {

void write_detector(Sandbox& box) {
    box.write("command",
              "exec 9>>lock.$1; flock -n 9 || echo \"$1\" >>overlaps\n"
              "echo run >>runs.$1\n"
              "case $2 in\n"
              "hold) cat gate.$1 ;;\n"
              "slow) sleep 0.02; sleep 0.02 & wait; echo middle; sleep 0.02 ;;\n"
              "esac\n"
              "echo answer $1\n");
}

// Children of this process that lead a session and run the program: found without
// asking them, for they may be anywhere between fork and exec.
std::vector<pid_t> supervisors() {
    std::vector<pid_t> found;
    std::istringstream children(read_file("/proc/self/task/" + std::to_string(::getpid()) + "/children"));
    for (pid_t pid = 0; children >> pid;) {
        std::istringstream words(read_file("/proc/" + std::to_string(pid) + "/cmdline"));
        std::string name;
        std::getline(words, name, '\0');
        if (name == tested_program() && ::getsid(pid) == pid) found.push_back(pid);
    }
    // One whose leader still lives is that one's child.
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
        const pid_t pid = std::atoi(entry.path().filename().c_str());
        if (pid <= 0 || ::getsid(pid) != pid) continue;
        std::istringstream words(read_file(entry.path().string() + "/cmdline"));
        std::string name;
        std::getline(words, name, '\0');
        const std::string stat = read_file(entry.path().string() + "/stat");
        pid_t parent = 0;
        if (stat.rfind(')') == std::string::npos ||
            std::sscanf(stat.c_str() + stat.rfind(')'), ") %*c %d", &parent) != 1)
            continue;
        const std::string above = read_file("/proc/" + std::to_string(parent) + "/stat");
        pid_t grandparent = 0;
        if (above.rfind(')') == std::string::npos ||
            std::sscanf(above.c_str() + above.rfind(')'), ") %*c %d", &grandparent) != 1)
            continue;
        if (name == tested_program() && grandparent == ::getpid()) found.push_back(pid);
    }
    return found;
}

}  // namespace

SCENARIO("F1: hundreds of wrappers on one key are one run", "[wrapper]") {
    Sandbox box;
    write_detector(box);
    Gate gate(box, "gate.k");
    const std::vector<std::string> words{"sh", "command", "k", "hold"};
    const int count = (sanitized() ? 75 : 200) * (full_numbers() ? 2 : 1);
    std::vector<Process> all;
    for (int i = 0; i < count; ++i) all.push_back(box.request(words));
    gate.wait_for_command();
    box.until_requesters(count);
    gate.open();
    for (Process& process : all) {
        const Ended ended = process.wait();
        CHECK(ended.status == 0);
        CHECK(ended.out == "answer k\n");
    }
    CHECK(box.lines_of("runs.k") == 1);
    box.wait_for_all();
    CHECK(box.left_in_place().empty());
}

SCENARIO("F1: hundreds of short commands on 10 keys never overlap", "[wrapper]") {
    Sandbox box;
    write_detector(box);
    const int rounds = (sanitized() ? 1 : 4) * (full_numbers() ? 5 : 1);
    for (int round = 0; round < rounds; ++round) {
        std::vector<Process> all;
        for (int i = 0; i < 50; ++i) all.push_back(box.request({"sh", "command", std::to_string(i % 10)}));
        for (int i = 0; i < 50; ++i) {
            const Ended ended = all[static_cast<std::size_t>(i)].wait();
            CHECK(ended.status == 0);
            CHECK(ended.out == "answer " + std::to_string(i % 10) + "\n");
        }
    }
    CHECK(box.read("overlaps").empty());
    box.wait_for_all();
    CHECK(box.left_in_place().empty());
}

SCENARIO("R6: deaths at random moments: no overlap, no hang, no orphan, no stray file", "[wrapper]") {
    const char* const given = std::getenv("COALESCE_STORM_SEED");
    const unsigned seed = given != nullptr ? static_cast<unsigned>(std::atoi(given)) : std::random_device{}();
    std::cout << "kill storm: COALESCE_STORM_SEED=" << seed << std::endl;
    CAPTURE(seed);
    std::minstd_rand random(seed);
    const auto dice = [&](unsigned sides) { return static_cast<unsigned>(random() % sides); };
    Sandbox box;
    write_detector(box);
    const int rounds = (sanitized() ? 12 : 60) * (full_numbers() ? 5 : 1);
    for (int round = 0; round < rounds; ++round) {
        CAPTURE(round);
        const std::string key = std::to_string(dice(3));
        const std::vector<std::string> words{"sh", "command", key, "slow"};
        std::vector<Process> all;
        for (unsigned i = 0; i < 2 + dice(3); ++i) all.push_back(box.request(words));
        const unsigned victim = dice(4);
        // The moment is what is random here; nothing is awaited.
        ::poll(nullptr, 0, static_cast<int>(dice(sanitized() ? 150 : 60)));
        std::vector<pid_t> killed;
        if (victim == 0 || victim == 3) killed.push_back(all.front().pid());
        if (victim == 1 || victim == 3) killed.push_back(all.back().pid());
        if (victim == 2 || victim == 3)
            for (const pid_t pid : supervisors()) killed.push_back(pid);
        for (const pid_t pid : killed) ::kill(pid, SIGKILL);
        for (Process& process : all) {
            const Ended ended = process.wait();
            const bool fine = ended.status == 0 && ended.out == "middle\nanswer " + key + "\n";
            const bool lost = ended.status == 125 && ended.err.find("died") != std::string::npos;
            const bool itself = ended.signal == SIGKILL;
            if (!fine && !lost && !itself)
                FAIL_CHECK("status " << ended.status << ", out " << ended.out << ", err " << ended.err);
        }
    }
    CHECK(box.read("overlaps").empty());
    for (const std::string key : {"0", "1", "2"}) CHECK(box.run({"sh", "command", key, "slow"}).status == 0);
    box.wait_for_all();
    CHECK(box.left_in_place().empty());
    CHECK(box.read("overlaps").empty());
}
