// SPDX-License-Identifier: MIT
// Plays the scripts by hand against a real engine, on a clock of the test's own: what a script
// reads as the time is what the test says it is, to the microsecond, so nothing has to wait
// for a lease to pass, and what is to happen within one millisecond does. Time limits of keys
// are the engine's own all the same.
#pragma once

#include <coalesce/cluster/scripts.h>

#include <string>
#include <vector>

#include "redis_server.h"

namespace coalesce {

class ScriptPlayer {
  public:
    using Words = std::vector<std::string>;

    explicit ScriptPlayer(const RedisServer& server) : client_(server.socket()) {}

    long long now_ms = 1'000'000'000'000;
    int microseconds = 0;  // beyond that

    RespValue play(Script script, const Words& keys, Words arguments) {
        arguments.push_back(std::to_string(now_ms / 1000));
        arguments.push_back(std::to_string(now_ms % 1000 * 1000 + microseconds));
        Words words = call_of(script, keys, arguments);
        const std::string time = "C('TIME')";
        if (const std::size_t at = words[1].find(time); at != std::string::npos)
            words[1].replace(at, time.size(), "{ARGV[#ARGV-1],ARGV[#ARGV]}");
        RespValue answer = client_.ask(words);
        INFO(name_of(script) << ": " << answer.text);
        CHECK_FALSE(answer.is_error());
        return answer;
    }

    struct Asked {
        int attempt = 1;
        long long lease = 5000;
        long long presence = 5000;
        long long age = 0;
        bool fresh = false;
    };
    // Its info is "info of " and the client.
    Words acquire(const std::string& key, const std::string& client) { return acquire(key, client, Asked{}); }
    Words acquire(const std::string& key, const std::string& client, const Asked& asked) {
        const EngineKeys keys(key);
        const std::string run = client + "." + std::to_string(asked.attempt);
        return words_of(
            play(Script::acquire, {keys.state, keys.waiters, keys.stream(run)},
                 {client, std::to_string(asked.attempt), std::to_string(asked.lease), std::to_string(asked.presence),
                  std::to_string(asked.age), asked.fresh ? "1" : "0", "info of " + client}));
    }
    // A runner's, whose name is in front of the run's point.
    Words renew(const std::string& key, const std::string& run, long long presence = 5000, bool shut = false,
                long long lease = 5000) {
        const EngineKeys keys(key);
        return words_of(play(
            Script::renew, {keys.state, keys.waiters, keys.stream(run)},
            {run, run.substr(0, run.find('.')), std::to_string(lease), std::to_string(presence), shut ? "1" : "0"}));
    }
    Words beat(const std::string& key, const std::string& run, const std::string& client, long long presence = 5000) {
        const EngineKeys keys(key);
        return words_of(
            play(Script::beat, {keys.state, keys.waiters, keys.stream(run)}, {run, client, std::to_string(presence)}));
    }
    std::string leave(const std::string& key, const std::string& run, const std::string& client) {
        const EngineKeys keys(key);
        return play(Script::leave, {keys.state, keys.waiters}, {run, client}).words();
    }
    std::string finish(const std::string& key, const std::string& run, int number, bool kept = true,
                       long long linger = 60000) {
        const EngineKeys keys(key);
        return play(Script::finish, {keys.state, keys.waiters, keys.stream(run)},
                    {run, std::to_string(number), "record", std::to_string(linger), kept ? "1" : "0"})
            .words();
    }
    std::string cancel(const std::string& key, const std::string& run) {
        return play(Script::cancel, {EngineKeys(key).state}, {run}).words();
    }
    std::string bury(const std::string& key, const std::string& run) {
        return play(Script::bury, {EngineKeys(key).state}, {run}).words();
    }

    RespValue ask(const Words& words) { return client_.ask(words); }
    std::string field(const std::string& key, const std::string& name) {
        return ask({"HGET", EngineKeys(key).state, name}).words();
    }
    long long waiters(const std::string& key) { return ask({"ZCARD", EngineKeys(key).waiters}).number; }
    /// Keys that would stay for ever (SPEC M40).
    Words without_limit() {
        Words found;
        for (const RespValue& key : ask({"KEYS", "*"}).elements)
            if (ask({"PTTL", key.text}).number == -1) found.push_back(key.text);
        return found;
    }

    static Words words_of(const RespValue& answer) {
        Words words;
        for (const RespValue& element : answer.elements) words.push_back(element.words());
        return words;
    }

  private:
    RedisClient client_;
};

}  // namespace coalesce
