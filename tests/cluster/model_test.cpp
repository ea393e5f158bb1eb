// SPDX-License-Identifier: MIT
// The protocol under every kind of loss: members ask, renew, end and die at random, on a clock of
// the test's own, over a network that delays requests and answers, loses them and mixes them
// up. Never do two processes of one key live at a time (M14); nor is a key without a run for much longer
// than a lease while somebody asks for it. With a guard that is late it must find an overlap,
// or it would prove nothing.
#include "script_player.h"

#include <cstdlib>
#include <deque>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include "../catch.h"

using namespace coalesce;

namespace {

constexpr long long lease = 4000;
constexpr int members_count = 4;

class Model {
  public:
    Model(const RedisServer& server, std::uint64_t seed, double kill_at)
        : play_(server), random_(seed), kill_at_(kill_at), key_("k" + std::to_string(seed)) {
        for (int i = 0; i < members_count; ++i)
            members_.push_back({.name = std::string(1, static_cast<char>('A' + i))});
    }

    int overlaps = 0;
    int runs = 0;
    int ends = 0;

    void step() {
        play_.now_ms += pick(lease / 8);
        play_.microseconds = static_cast<int>(pick(1000));
        kill_overdue();
        Member& member = members_[static_cast<std::size_t>(pick(members_count))];
        switch (pick(8)) {
            case 0:
                ask(member);
                break;
            case 1:
            case 2:
                renew(member);
                break;
            case 3:
                if (pick(4) == 0) end(member);
                break;
            case 4:
                if (pick(6) == 0) crash(member);
                break;
            default:
                deliver();
        }
        int live = 0;
        for (const Member& one : members_) live += one.running ? 1 : 0;
        if (live > 1) ++overlaps;
    }

  private:
    struct Member {
        std::string name;
        int attempt = 0;
        bool asking = false;
        bool running = false;  // a process
        std::string run = {};
        long long base = 0;  // its lease is counted from there
        int life = 0;        // what was sent before a crash is nobody's
    };
    // A request, and then its answer, on their way.
    struct Packet {
        Member* member;
        int life;
        int attempt;
        char kind;  // a, r, f
        std::string run;
        long long sent;
        bool answer = false;
        ScriptPlayer::Words words = {};
    };

    long long pick(long long below) { return std::uniform_int_distribution<long long>(0, below - 1)(random_); }

    // The guard's business, whatever becomes of the member.
    void kill_overdue() {
        for (Member& member : members_)
            if (static_cast<double>(play_.now_ms - member.base) >= kill_at_ * static_cast<double>(lease))
                member.running = false;
    }

    void ask(Member& member) {
        if (member.running) return;
        member.asking = true;
        send({&member, member.life, ++member.attempt, 'a', member.name + "." + std::to_string(member.attempt),
              play_.now_ms});
    }
    void renew(Member& member) {
        if (member.running) send({&member, member.life, member.attempt, 'r', member.run, play_.now_ms});
    }
    // Reaped first, then told.
    void end(Member& member) {
        if (!member.running) return;
        member.running = false;
        ++ends;
        send({&member, member.life, member.attempt, 'f', member.run, play_.now_ms});
    }
    // Another process of that name, which remembers nothing; its guard ends what it ran.
    void crash(Member& member) {
        member.running = member.asking = false;
        ++member.life;
        member.name += "x";
        member.attempt = 0;
    }

    void send(Packet packet) { network_.push_back(std::move(packet)); }

    // One of those on their way arrives, is lost, or arrives twice.
    void deliver() {
        if (network_.empty()) return;
        const auto at = static_cast<std::ptrdiff_t>(pick(static_cast<long long>(network_.size())));
        Packet packet = network_[static_cast<std::size_t>(at)];
        if (pick(20) != 0) network_.erase(network_.begin() + at);
        if (pick(10) == 0) return;
        if (packet.answer) return take(packet);
        const std::string client = packet.run.substr(0, packet.run.find('.'));
        if (packet.kind == 'a') {
            packet.words =
                play_.acquire(key_, client, {.attempt = packet.attempt, .lease = lease, .presence = 2 * lease});
        } else if (packet.kind == 'r') {
            packet.words = play_.renew(key_, packet.run, 2 * lease, false, lease);
        } else {
            play_.finish(key_, packet.run, 2, pick(2) == 0);
            return;
        }
        packet.answer = true;
        send(std::move(packet));
    }

    void take(const Packet& packet) {
        Member& member = *packet.member;
        if (packet.life != member.life || packet.attempt != member.attempt) return;
        const bool in_time = static_cast<double>(play_.now_ms - packet.sent) < 0.6 * static_cast<double>(lease);
        if (packet.kind == 'a' && member.asking) {
            if (packet.words.at(0) != "RUN" || !in_time) return;
            member.asking = false;
            member.running = true;
            member.run = packet.words.at(1);
            member.base = packet.sent;
            ++runs;
        } else if (packet.kind == 'r' && member.running) {
            if (packet.words.at(0) == "FENCED")
                member.running = false;
            else
                member.base = std::max(member.base, packet.sent);
        }
    }

    ScriptPlayer play_;
    std::mt19937_64 random_;
    const double kill_at_;
    const std::string key_;
    std::vector<Member> members_;
    std::vector<Packet> network_;
};

std::uint64_t seed_of_run() {
    const char* const given = std::getenv("COALESCE_MODEL_SEED");
    const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device()();
    std::cout << "COALESCE_MODEL_SEED=" << seed << '\n';
    return seed;
}

}  // namespace

TEST_CASE("M14, M28: whatever is lost, late or dead, no two processes of one key live at a time", "[cluster][model]") {
    const auto server = RedisServer::start();
    if (!server) return;
    const std::uint64_t seed = seed_of_run();
    const int steps = std::getenv("COALESCE_LONG") != nullptr ? 500'000 : 20'000;
    Model model(*server, seed, 0.85);
    for (int step = 0; step < steps; ++step) model.step();
    CHECK(model.overlaps == 0);
    CHECK(model.runs > steps / 200);
    CHECK(model.ends > 0);
}

TEST_CASE("a guard that is late by a third of the lease is found out by the same model", "[cluster][model]") {
    const auto server = RedisServer::start();
    if (!server) return;
    const std::uint64_t seed = seed_of_run();
    int found = 0;
    for (std::uint64_t round = 0; round < 20 && found == 0; ++round) {
        Model model(*server, seed + round, 1.15);
        for (int step = 0; step < 20'000 && found == 0; ++step) {
            model.step();
            found = model.overlaps;
        }
    }
    CHECK(found > 0);
}
