// SPDX-License-Identifier: MIT
#include <coalesce/cluster/engine_line.h>

#include <coalesce/command/text.h>

#include <sodium.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <system_error>
#include <utility>

#include <coalesce/io/loop.h>

namespace coalesce {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds silence_max = 2s;
constexpr std::chrono::milliseconds connecting_max = 10s;
constexpr std::chrono::milliseconds backoff_min = 100ms;
constexpr std::chrono::milliseconds backoff_max = 2s;

// From half of it to one and a half.
std::chrono::milliseconds jittered(std::chrono::milliseconds delay) {
    const auto range = static_cast<std::uint32_t>(delay.count());
    return delay / 2 + std::chrono::milliseconds(randombytes_uniform(range + 1));
}

// Passing states of an engine. What else it refuses it will refuse again.
constexpr std::array passing{"LOADING", "READONLY", "OOM",         "MISCONF",    "MASTERDOWN",
                             "BUSY",    "TRYAGAIN", "CLUSTERDOWN", "NOREPLICAS", "ERR max number of clients"};

// A replica says so as long as it is one.
bool is_demotion(const RespValue& reply) {
    return reply.is_error() && (reply.text.starts_with("READONLY") || reply.text.starts_with("MASTERDOWN"));
}

// What callers branch on where the engine itself refuses: its sentence says why, and needs no errno's words behind it.
class RefusalCategory : public std::error_category {
  public:
    [[nodiscard]] const char* name() const noexcept override { return "engine"; }
    [[nodiscard]] std::string message(int) const override { return {}; }
    [[nodiscard]] std::error_condition default_error_condition(int kind) const noexcept override {
        return std::make_error_condition(static_cast<std::errc>(kind));
    }
};

std::error_code refused(bool passes) {
    static const RefusalCategory category;
    return {static_cast<int>(passes ? std::errc::resource_unavailable_try_again : std::errc::permission_denied),
            category};
}

}  // namespace

bool is_passing(const RespValue& error) {
    return std::any_of(passing.begin(), passing.end(), [&](const char* word) { return error.text.starts_with(word); });
}

NoAnswer no_answer_of(const RespValue& error) {
    return {refused(is_passing(error)), "use the engine (" + visible(error.text) + ")"};
}

std::vector<std::string> auth_words(const EngineAccess& access) {
    std::vector<std::string> words{"AUTH", access.password};
    if (!access.url.user.empty()) words.insert(words.begin() + 1, access.url.user);
    return words;
}

std::string words_of_auth_error(const RespValue& error) {
    const std::size_t repeated = error.text.find(", with args beginning with");
    return error.text.substr(0, repeated);
}

EngineLine::EngineLine(Loop& loop, const EngineAccess& access, Greeting greeting, Events events)
    : loop_(loop),
      access_(access),
      greeting_(greeting),
      events_(std::move(events)),
      silence_(loop),
      backoff_(loop),
      next_backoff_(backoff_min) {
    backoff_.in_background();
    connect();
}

EngineLine::~EngineLine() { *alive_ = false; }

void EngineLine::connect() {
    heard_ = false;
    connection_ = std::make_unique<EngineConnection>(
        loop_, access_.url,
        EngineConnection::Events{.on_bytes = [this] { on_bytes(); },
                                 .on_reply = [this](RespValue reply) { on_reply(std::move(reply)); },
                                 .on_ended = [this](const Error& error) { lost(error); }});
    greet();
}

void EngineLine::greet() {
    const EngineUrl& url = access_.url;
    const auto say_hello = [this](std::vector<std::string> words, bool last = false) {
        send(words, [this, last](Result<RespValue> answer) { greeted(std::move(answer), last); });
    };
    if (wants_auth(access_)) {
        send(auth_words(access_), [this](Result<RespValue> answer) {
            if (answer && answer->is_error()) answer->text = words_of_auth_error(*answer);
            greeted(std::move(answer), false);
        });
    }
    if (url.database != 0) say_hello({"SELECT", std::to_string(url.database)});
    // Refused while an engine loads, as the others are not: of what is sent then it might refuse the first part only.
    say_hello({"PING"});
    const bool last = greeting_ == Greeting::plain;
    say_hello({"CLIENT", "SETNAME", "coalesce"}, last);
    if (!last) say_hello({"INFO"}, true);
}

void EngineLine::greeted(Result<RespValue> answer, bool last) {
    if (!answer) return;  // lost() has told
    if (answer->is_error()) {
        NoAnswer why = no_answer_of(*answer);
        if (answer->text.starts_with("WRONGPASS") || answer->text.starts_with("NOAUTH"))
            why.doing = (access_.password.empty() ? "use the engine, which wants a password (password=FILE): "
                                                  : "use the engine, which does not take the password: ") +
                        visible(answer->text);
        else if (answer->text.starts_with("NOPERM"))
            why.doing = "use the engine: its user lacks a right, which `coalesce cluster check` names";
        return lost(why);
    }
    if (!last) return;
    if (greeting_ == Greeting::with_facts) {
        facts_ = EngineFacts::of(answer->text);
        if (auto fit = facts_.fit(); !fit) {
            // One that was a primary has been replaced: its name will lead to the new one soon (SPEC M7).
            const bool passes = was_up_ && !facts_.role.empty() && facts_.role != "master";
            return lost({refused(passes), fit.error().doing});
        }
    }
    up_ = was_up_ = true;
    next_backoff_ = backoff_min;
    if (events_.on_up) events_.on_up();
}

// To look a name up does keep the loop running, and a resolver that nobody answers takes its time, each time.
bool EngineLine::want(bool wanted) {
    wanted_ = wanted;
    if (!wanted || !std::exchange(rests_, false)) return false;
    connect();
    return true;
}

void EngineLine::ask(std::span<const std::string> words, Answer answer) {
    if (!up_) {
        loop_.post([alive = alive_, answer = std::move(answer)]() mutable {
            if (*alive) answer(NoAnswer{std::make_error_code(std::errc::not_connected), "reach the engine"});
        });
        return;
    }
    send(words, std::move(answer));
}

void EngineLine::say(std::span<const std::string> words) {
    if (up_) connection_->send(words);
}

void EngineLine::send(std::span<const std::string> words, Answer answer) {
    connection_->send(words);
    awaited_.push_back(std::move(answer));
    if (awaited_.size() == 1) await_answer();
}

// Each byte shows that the engine is there, so silence is counted from the last one: a long answer may take its time.
// A name is to be looked up first, a proxy logs in somewhere.
void EngineLine::await_answer() {
    const auto limit = heard_ ? silence_max : connecting_max;
    if (up_ && !awaited_.empty())
        silence_.in_foreground();
    else
        silence_.in_background();
    was_taking_ = false;
    delivered_ = connection_->progress().delivered;
    silence_.start(limit, [this] { on_silence(); });
}

// What is being taken needs its time on a slow way, and then an answer that of its own.
void EngineLine::on_silence() {
    const auto [delivered, left] = connection_->progress();
    if (delivered > delivered_ && (left > 0 || was_taking_)) {
        await_answer();
        was_taking_ = left > 0;
        return;
    }
    lost({std::make_error_code(std::errc::timed_out), "reach the engine " + access_.url.address() + ": no answer for " +
                                                          std::to_string((heard_ ? silence_max : connecting_max) / 1s) +
                                                          " seconds"});
}

void EngineLine::on_bytes() {
    heard_ = true;
    if (awaited_.empty())
        silence_.stop();
    else
        await_answer();
}

void EngineLine::probe() {
    if (!up_) return;
    say(std::array<std::string, 1>{"PING"});
    await_answer();
}

void EngineLine::on_reply(RespValue reply) {
    if (awaited_.empty()) {
        if (events_.on_message) events_.on_message(reply);
        return;
    }
    if (is_demotion(reply)) return on_demoted(reply);
    Answer answer = std::move(awaited_.front());
    awaited_.pop_front();
    if (awaited_.empty()) silence_.stop();
    answer(std::move(reply));
}

// The next greeting finds who is the primary, where the name has moved, or tells what is amiss.
void EngineLine::on_demoted(const RespValue& reply) {
    if (greeting_ == Greeting::plain) next_backoff_ = backoff_max;  // whose greeting a replica does not refuse
    lost(no_answer_of(reply));
}

void EngineLine::renew() {
    if (connection_) lost({std::make_error_code(std::errc::not_connected), "reach the engine"});
}

void EngineLine::lost(const NoAnswer& why) {
    const std::shared_ptr<bool> alive = alive_;
    up_ = false;
    silence_.stop();
    connection_->close();  // and not destroyed here: we may be inside its events
    loop_.post([old = std::move(connection_)] {});
    backoff_.start(jittered(next_backoff_), [this] {
        rests_ = !wanted_;
        if (wanted_) connect();
    });
    next_backoff_ = std::min(next_backoff_ * 2, backoff_max);
    auto unanswered = std::exchange(awaited_, {});
    for (Answer& answer : unanswered) {
        answer(NoAnswer{why});
        if (!*alive) return;
    }
    if (events_.on_down) events_.on_down(why);
}

}  // namespace coalesce
