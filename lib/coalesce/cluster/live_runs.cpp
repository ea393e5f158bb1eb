// SPDX-License-Identifier: MIT
#include <coalesce/cluster/live_runs.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include <coalesce/cluster/engine.h>
#include <coalesce/cluster/scripts.h>
#include <coalesce/io/loop.h>

namespace coalesce {
namespace {

using namespace std::chrono;

constexpr seconds patience{5};
constexpr const char* keys_at_once = "1000";

using Words = std::vector<std::string>;

// Asks many things at once, and waits for all the answers.
class Talk {
  public:
    Talk(Loop& loop, const EngineAccess& access)
        : loop_(loop),
          patience_(loop),
          engine_(loop, access),
          listener_(engine_, {.on_up = [this] { loop_.stop(); },
                              .on_down =
                                  [this](const NoAnswer& why) {
                                      if (why.code == std::errc::permission_denied) loop_.stop();
                                  },
                              .on_data = {}}) {}

    Result<std::vector<RespValue>> ask(std::span<const Words> questions) {
        patience_.start(patience, [this] { impatient_ = true, loop_.stop(); });
        while (!engine_.up() && !given_up()) loop_.run();
        if (!engine_.up()) return why_not();
        answers_.clear();
        for (const Words& words : questions)
            engine_.control().ask(words, [this](Result<RespValue> answer) {
                if (answer && answer->is_error()) answer = no_answer_of(*answer);
                if (answer)
                    answers_.push_back(std::move(*answer));
                else if (!refused_)
                    refused_ = answer.error();
                loop_.stop();
            });
        while (answers_.size() < questions.size() && !refused_ && !impatient_) loop_.run();
        patience_.stop();
        if (refused_) return *refused_;
        if (impatient_) return why_not();
        return std::move(answers_);
    }
    Result<RespValue> ask(const Words& question) {
        auto answers = ask(std::span(&question, 1));
        if (!answers) return answers.error();
        return std::move(answers->front());
    }

  private:
    [[nodiscard]] bool given_up() const {
        return impatient_ || (engine_.trouble() && engine_.trouble()->code == std::errc::permission_denied);
    }
    [[nodiscard]] Error why_not() const {
        return engine_.trouble() ? *engine_.trouble()
                                 : Error{{}, "reach the engine " + engine_.url().address() + ": no answer"};
    }

    Loop& loop_;
    Timer patience_;
    Engine engine_;
    Engine::Listener listener_;
    std::vector<RespValue> answers_;
    std::optional<NoAnswer> refused_;
    bool impatient_ = false;
};

std::int64_t number_in(const RespValue& value) { return value.integer().value_or(0); }

// Of "coalesce:1:{NAME}:m".
std::string name_in(const std::string& key) {
    const std::size_t open = key.find('{');
    const std::size_t close = key.find('}', std::min(open, key.size()));
    return close == std::string::npos ? std::string() : key.substr(open + 1, close - open - 1);
}

// SCAN may tell a key twice.
Result<std::set<std::string>> names_at_engine(Talk& talk) {
    std::set<std::string> names;
    std::string cursor = "0";
    do {
        const auto answer = talk.ask({"SCAN", cursor, "MATCH", EngineKeys("*").state, "COUNT", keys_at_once});
        if (!answer) return answer.error();
        cursor = answer.value().at(0).text;
        for (const RespValue& key : answer.value().at(1).elements)
            if (const std::string name = name_in(key.text); !name.empty()) names.insert(name);
    } while (cursor != "0" && !cursor.empty());
    return names;
}

// In milliseconds, as the scripts have it.
Result<std::int64_t> time_at_engine(Talk& talk) {
    const auto answer = talk.ask({"TIME"});
    if (!answer) return answer.error();
    return number_in(answer.value().at(0)) * 1000 + number_in(answer.value().at(1)) / 1000;
}

std::optional<LiveRun> live_run(const Secret& secret, const std::string& name, const RespValue& state,
                                std::int64_t now) {
    const std::string& phase = state.at(0).text;
    if ((phase != "run" && phase != "cancel") || number_in(state.at(2)) <= now) return std::nullopt;
    LiveRun run{.key = name, .name = state.at(1).text, .info = {}, .ending = phase == "cancel"};
    const auto text = secret.seal_of(name, run.name).open(Seal::Kind::info, 0, state.at(4).text);
    auto info = text ? RunInfo::of(*text) : std::nullopt;
    if (!info) return std::nullopt;
    run.info = std::move(*info);
    run.age = milliseconds(std::max<std::int64_t>(now - number_in(state.at(3)), 0));
    return run;
}

Result<std::vector<LiveRun>> live_runs(Talk& talk, const Secret& secret) {
    const auto names = names_at_engine(talk);
    if (!names) return names.error();
    const auto now = time_at_engine(talk);
    if (!now) return now.error();
    std::vector<Words> questions;
    for (const std::string& name : names.value()) {
        const EngineKeys keys(name);
        questions.push_back({"HMGET", keys.state, "st", "run", "dl", "b", "info"});
        questions.push_back({"ZRANGE", keys.waiters, std::to_string(now.value()), "+inf", "BYSCORE"});
    }
    const auto answers = talk.ask(std::span<const Words>(questions));
    if (!answers) return answers.error();
    std::vector<LiveRun> runs;
    std::size_t at = 0;
    for (const std::string& name : names.value()) {
        if (auto run = live_run(secret, name, answers.value()[at], now.value())) {
            run->machines = answers.value()[at + 1].elements.size();
            runs.push_back(std::move(*run));
        }
        at += 2;
    }
    std::stable_sort(runs.begin(), runs.end(), [](const LiveRun& a, const LiveRun& b) { return a.age > b.age; });
    return runs;
}

}  // namespace

Result<std::vector<LiveRun>> live_runs(Loop& loop, const Circle& circle) {
    Talk talk(loop, circle.access);
    return live_runs(talk, circle.secret);
}

Result<> cancel_run(Loop& loop, const Circle& circle, std::string_view id) {
    Talk talk(loop, circle.access);
    const auto runs = live_runs(talk, circle.secret);
    if (!runs) return Error{runs.error().code, "cannot " + runs.error().message()};
    const LiveRun* chosen = nullptr;
    const std::string shown(id);
    for (const LiveRun& run : runs.value()) {
        if (id.empty() || !run.name.starts_with(id)) continue;
        if (chosen != nullptr) return Error{{}, "more than one run's id begins with '" + shown + "'"};
        chosen = &run;
    }
    if (chosen == nullptr) return Error{{}, "there is no run '" + shown + "' at the engine"};
    const auto answer = talk.ask(call_of(Script::cancel, std::array{EngineKeys(chosen->key).state}, {{chosen->name}}));
    if (!answer) return Error{answer.error().code, "cannot " + answer.error().message()};
    if (answer.value().words() != "OK") return Error{{}, "the run '" + shown + "' is over"};
    return {};
}

}  // namespace coalesce
