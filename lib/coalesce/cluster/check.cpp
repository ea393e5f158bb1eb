// SPDX-License-Identifier: MIT
#include <coalesce/cluster/check.h>

#include <coalesce/command/duration.h>
#include <coalesce/command/text.h>

#include <sodium.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <deque>
#include <functional>
#include <optional>
#include <span>

#include <coalesce/cluster/rights.h>
#include <coalesce/cluster/scripts.h>
#include <coalesce/io/loop.h>

namespace coalesce {
namespace {

using namespace std::chrono;
using namespace std::chrono_literals;

constexpr seconds patience = 5s;
constexpr int round_trips = 20;
constexpr const char* lease_ms = "5000";

// Asks and waits, on a loop that runs for nothing else.
class Interview {
  public:
    Interview(Loop& loop, const EngineUrl& url)
        : loop_(loop),
          timer_(loop),
          connection_(loop, url,
                      {.on_reply =
                           [this](RespValue reply) {
                               replies_.push_back(std::move(reply));
                               loop_.stop();
                           },
                       .on_ended =
                           [this](Error error) {
                               lost_ = std::move(error);
                               loop_.stop();
                           }}) {}

    void say(std::span<const std::string> words) { connection_.send(words); }

    /// The next answer; nothing when the connection is lost, or silent.
    std::optional<RespValue> hear() {
        if (replies_.empty() && !lost_) {
            timer_.start(patience, [this] {
                lost_ = Error{{}, "hear from the engine: no answer for " + format_duration(patience)};
                loop_.stop();
            });
            while (replies_.empty() && !lost_) loop_.run();
            timer_.stop();
        }
        if (replies_.empty()) return std::nullopt;
        RespValue reply = std::move(replies_.front());
        replies_.pop_front();
        return reply;
    }
    std::optional<RespValue> ask(std::span<const std::string> words) {
        say(words);
        return hear();
    }
    [[nodiscard]] const std::optional<Error>& lost() const noexcept { return lost_; }

  private:
    Loop& loop_;
    Timer timer_;
    std::deque<RespValue> replies_;
    std::optional<Error> lost_;
    EngineConnection connection_;
};

std::string random_name() {
    std::array<unsigned char, 16> bytes{};
    randombytes_buf(bytes.data(), bytes.size());
    std::array<char, 2 * bytes.size() + 1> name{};
    sodium_bin2hex(name.data(), name.size(), bytes.data(), bytes.size());
    return name.data();
}

class Check {
  public:
    Check(Loop& loop, const EngineAccess& access) : access_(access), talk_(loop, access.url), keys_(random_name()) {}

    EngineReport run() {
        // Each tells what it found; where one cannot go on, neither can those behind it.
        if (come_in() && look_at_facts() && measure() && try_rights() && report_.faults.empty()) play_scripts();
        if (talk_.lost()) fault("cannot " + talk_.lost()->message());
        return std::move(report_);
    }

  private:
    bool come_in() {
        const EngineUrl& url = access_.url;
        if (wants_auth(access_)) {
            const auto answer = talk_.ask(auth_words(access_));
            if (!answer) return false;
            if (answer->text.starts_with("DENIED")) return only_for_its_own_machine();
            if (answer->is_error()) return keeps_out(visible(words_of_auth_error(*answer)));
        }
        const auto answer = talk_.ask(std::vector<std::string>{"PING"});
        if (!answer) return false;
        if (answer->text.starts_with("DENIED")) return only_for_its_own_machine();
        if (answer->text.starts_with("NOAUTH"))
            return fault("the engine wants a password; put it into a file and name that: password=FILE");
        if (answer->text.starts_with("LOADING"))
            return fault("the engine is still loading its data: " + visible(answer->text));
        if (url.database == 0) return true;
        const auto selected = talk_.ask(std::vector<std::string>{"SELECT", std::to_string(url.database)});
        if (!selected) return false;
        if (selected->text.starts_with("NOPERM")) return missing("+select"), true;
        if (selected->is_error()) return fault("the engine has no database " + std::to_string(url.database));
        return true;
    }

    bool keeps_out(const std::string& in_its_words) {
        const std::string& user = access_.url.user;
        if (access_.password.empty())
            return fault("the engine does not let its user " + user +
                         " in without a password (password=FILE): " + in_its_words);
        return fault("the engine does not take the password" + (user.empty() ? "" : " of its user " + user) + ": " +
                     in_its_words);
    }

    bool only_for_its_own_machine() {
        return fault(
            "the engine serves only its own machine, being in protected mode; give it a password "
            "(password=FILE), or in a network of yours start it with --protected-mode no");
    }

    bool look_at_facts() {
        const auto answer = talk_.ask(std::vector<std::string>{"INFO"});
        if (!answer) return false;
        if (answer->is_error()) {
            if (answer->text.starts_with("NOPERM")) return true;  // told with the other rights
            return fault("the engine does not tell what it is: " + visible(answer->text));
        }
        const EngineFacts facts = EngineFacts::of(answer->text);
        finding("engine", access_.url.address() + ", " + facts.product + " " + facts.version + ", up for " +
                              format_duration(facts.uptime));
        const std::string lease = format_duration(access_.url.lease);
        finding("persistence", facts.append_only
                                   ? "append-only log: it remembers leases over a restart"
                                   : "no append-only log: after a restart it grants nothing for one lease, " + lease +
                                         " (CONFIG SET appendonly yes)");
        if (facts.log_failing) fault("the engine cannot write its log; see its own log, and its disk");
        if (auto fit = facts.fit(); !fit) fault("cannot " + fit.error().message());
        if (const auto young = facts.too_young_for(access_.url.lease); young > 0ms)
            finding("waiting",
                    "it was started less than a lease ago, and grants nothing for another " + format_duration(young));
        return true;
    }

    bool measure() {
        std::vector<microseconds> trips;
        for (int trip = 0; trip < round_trips; ++trip) {
            const auto before = steady_clock::now();
            if (!talk_.ask(std::vector<std::string>{"PING"})) return false;
            trips.push_back(duration_cast<microseconds>(steady_clock::now() - before));
        }
        std::sort(trips.begin(), trips.end());
        std::string ms = std::to_string(static_cast<double>(trips[trips.size() / 2].count()) / 1000);
        finding("round trip", ms.substr(0, ms.find('.') + 4) + " ms");
        return true;
    }

    bool try_rights() {
        std::vector<std::string> names;
        bool cleans_up = false;
        for (const Right& right : all_rights()) {
            if (right.trial.empty()) continue;
            if (right.command == "hset" && !cleans_up) continue;
            const auto words = words_of_trial(right, keys_.state);
            talk_.say(words);
            // Together, so that nothing can come between: no key without a time limit.
            if (right.command == "hset") {
                talk_.say(std::vector<std::string>{"PEXPIRE", keys_.state, lease_ms});
                talk_.say(std::vector<std::string>{"DEL", keys_.state});
            }
            const auto answer = talk_.hear();
            if (right.command == "hset") {
                talk_.hear();
                talk_.hear();
            }
            if (!answer) return false;
            if (!answer->text.starts_with("NOPERM")) {
                if (right.command == "del" || right.command == "pexpire") cleans_up = true;
                continue;
            }
            if (answer->text.find("command") != std::string::npos)
                missing("+" + std::string(right.command));
            else if (answer->text.find("channel") != std::string::npos)
                missing("&coalesce:1:*");
            else
                missing("~coalesce:1:*");
        }
        const std::string user = access_.url.user.empty() ? "the default user" : access_.url.user;
        if (missing_.empty()) {
            finding("rights", user + " has all that are needed");
        } else {
            std::string all;
            for (const std::string& right : missing_) all += " " + right;
            fault(user + " lacks rights:" + all +
                  "; on the engine: " + acl_line(access_.url.user, access_.url.database != 0));
        }
        finding("to make a user", acl_line(access_.url.user, access_.url.database != 0));
        return true;
    }

    // As a run with one joiner would, and then one that is cancelled and buried.
    void play_scripts() {
        const std::string stream = keys_.stream("a.1");
        const std::vector<std::string> own{keys_.state, keys_.waiters, stream};
        const auto acquire = [this](const std::string& client, const std::string& attempt) {
            return call_of(Script::acquire,
                           std::array{keys_.state, keys_.waiters, keys_.stream(client + "." + attempt)},
                           std::array<std::string, 7>{client, attempt, lease_ms, lease_ms, "0", "0", "check"});
        };
        using Words = std::vector<std::string>;
        const bool played =
            play(acquire("a", "1"), "acquire", "RUN") && play(acquire("b", "1"), "acquire", "JOIN") &&
            play(call_of(Script::renew, own, Words{"a.1", "a", lease_ms, lease_ms, "0"}), "renew", "run") &&
            play({"XADD", stream, "NOMKSTREAM", "2-0", "d", "check"}, "xadd", "2-0") &&
            play(call_of(Script::beat, own, Words{"a.1", "b", lease_ms}), "beat", "run") &&
            play(call_of(Script::leave, std::array{keys_.state, keys_.waiters}, Words{"a.1", "b"}), "leave", "LEFT") &&
            play(call_of(Script::finish, own, Words{"a.1", "3", "check", lease_ms, "1"}), "finish", "OK") &&
            play(acquire("c", "1"), "acquire", "RUN") &&
            play(call_of(Script::cancel, std::array{keys_.state}, Words{"c.1"}), "cancel", "OK") &&
            play(call_of(Script::bury, std::array{keys_.state}, Words{"c.1"}), "bury", "OK");
        talk_.ask(Words{"DEL", keys_.state, keys_.waiters, stream, keys_.stream("c.1")});
        if (played) finding("scripts", "all play as they should");
    }

    bool play(const std::vector<std::string>& words, const char* what, const std::string& expected) {
        const auto answer = talk_.ask(words);
        if (!answer) return false;
        const std::string first = answer->elements.empty() ? answer->words() : answer->at(0).words();
        if (first == expected) return true;
        if (answer->text.starts_with("OOM")) return fault("the engine's memory is full: " + visible(answer->text));
        for (const char* const word : {"MOVED", "CLUSTERDOWN", "CROSSSLOT"})
            if (answer->text.starts_with(word))
                return fault("the engine is a node of a Redis Cluster (" + visible(answer->text) +
                             "); it has to be one that stands alone");
        return fault(std::string("the script ") + what + " answers " + visible(first.empty() ? answer->text : first) +
                     ", where " + expected + " is right; is something between us and the engine?");
    }

    void finding(std::string what, std::string how) { report_.findings.emplace_back(std::move(what), std::move(how)); }
    bool fault(std::string sentence) {
        report_.faults.push_back(std::move(sentence));
        return false;
    }
    void missing(std::string right) {
        if (std::find(missing_.begin(), missing_.end(), right) == missing_.end()) missing_.push_back(std::move(right));
    }

    const EngineAccess& access_;
    Interview talk_;
    const EngineKeys keys_;
    std::vector<std::string> missing_;
    EngineReport report_;
};

}  // namespace

EngineReport check_engine(Loop& loop, const EngineAccess& access) { return Check(loop, access).run(); }

}  // namespace coalesce
