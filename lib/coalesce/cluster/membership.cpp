// SPDX-License-Identifier: MIT
#include <coalesce/cluster/membership.h>

#include <coalesce/command/command.h>
#include <coalesce/command/duration.h>

#include <sodium.h>

#include <algorithm>
#include <array>
#include <system_error>
#include <utility>
#include <vector>

#include <coalesce/io/boot_time.h>
#include <coalesce/io/loop.h>

namespace coalesce {
namespace {

using namespace std::chrono;
using namespace std::chrono_literals;

constexpr milliseconds patience_to_fail = 5s;
constexpr milliseconds patience_to_run = 2s;
constexpr milliseconds again_after = 500ms;
constexpr milliseconds youth_is_told_after = 1s;

std::string random_name() {
    std::array<unsigned char, 16> bytes{};
    randombytes_buf(bytes.data(), bytes.size());
    std::array<char, 2 * bytes.size() + 1> name{};
    sodium_bin2hex(name.data(), name.size(), bytes.data(), bytes.size());
    return name.data();
}

std::string text_of(milliseconds time) { return std::to_string(time.count()); }

// Both are rounded down, so that it may be less than their difference, by less than one. Who is said to have asked
// earlier would be given what had ended before.
milliseconds age_of_request(milliseconds made, milliseconds sent) { return std::max(sent - made - 1ms, 0ms); }

bool could_not_start(const Outcome& outcome) {
    return outcome.kind == Outcome::Kind::not_started || outcome.kind == Outcome::Kind::refused;
}

// A question was answered to nobody: what it has granted is given back.
void give_back(Engine& engine, const EngineKeys& keys, const Seal& seal, const std::string& client,
               const std::string& run, const Result<RespValue>& answer) {
    if (!answer) return;
    const std::string& word = answer.value().at(0).text;
    if (word == "JOIN")
        engine.call(Script::leave, std::array{keys.state, keys.waiters}, std::array{answer.value().at(1).text, client},
                    [](const auto&) {});
    if (word == "RUN") LeasedRun::give_back(engine, keys, seal, run);
}

}  // namespace

ClusterMembership::ClusterMembership(Cluster& cluster, FlightId id, Job& job, Run& run, Sharing::Answers answers)
    : cluster_(cluster),
      engine_(cluster.engine()),
      loop_(engine_.loop()),
      id_(id),
      job_(job),
      flight_(run),
      answers_(std::move(answers)),
      key_(job.shared_as),
      keys_(key_),
      client_(random_name()),
      next_(loop_),
      listener_(engine_, {.on_up = [this] { on_engine_up(); },
                          .on_down = [this](const NoAnswer& why) { on_engine_down(why); },
                          .on_data = {}}),
      patience_(loop_) {
    ask();
}

ClusterMembership::~ClusterMembership() {
    *alive_ = false;
    cluster_.no_more(key_);
    if (state_ == State::following) elsewhere_->leave();
    if (state_ == State::running && flight_.phase == Run::Phase::queued) leased_->give_back();
}

// --- asking

void ClusterMembership::ask() {
    // Who waits goes on listening: to subscribe is a reason to ask, and would be one again each time.
    if (state_ != State::waiting && state_ != State::asking) words_.reset();
    state_ = State::asking;
    heard_ = false;
    next_.stop();
    elsewhere_.reset();
    if (!engine_.up()) {
        if (engine_.trouble()) on_engine_down(*engine_.trouble());
        return lose_patience();
    }
    const milliseconds young = engine_.too_young();
    if (young <= 0ms) return send_question();
    be_patient();  // it is there
    next_.start(std::min(young, youth_is_told_after), [this] {
        const milliseconds still = engine_.too_young();
        if (still > 0ms && !std::exchange(told_of_youth_, true))
            cluster_.notice(id_,
                            "the engine was started less than a lease ago and may have forgotten runs; waiting for " +
                                format_duration(ceil<seconds>(still)));
        ask();
    });
}

void ClusterMembership::send_question() {
    const std::uint64_t attempt = ++attempt_;
    const std::string run = client_ + "." + std::to_string(attempt);
    const Seal seal = cluster_.secret().seal_of(key_, run);
    const std::string info =
        seal.seal(Seal::Kind::info, 0,
                  RunInfo::own(cluster_.host(), cluster_.guard().pid(), job_.title, job_.shared_parts).text());
    const milliseconds sent = since_boot();
    const milliseconds newest = flight_.newest_request;
    const std::array<std::string, 7> arguments{
        client_,
        std::to_string(attempt),
        text_of(engine_.url().lease),
        text_of(RunElsewhere::presence),
        text_of(any_result_does() ? LeasedRun::kept_for(engine_.url(), job_) : age_of_request(newest, sent)),
        flight_.fresh ? "1" : "0",
        info};
    engine_.call(Script::acquire, std::array{keys_.state, keys_.waiters, keys_.stream(run)}, arguments,
                 [this, alive = alive_, &engine = engine_, keys = keys_, seal, client = client_, run, attempt, sent,
                  newest](const Result<RespValue>& answer) {
                     if (!*alive || state_ == State::unleased || state_ == State::over)
                         return give_back(engine, keys, seal, client, run, answer);
                     if (attempt == attempt_ && state_ == State::asking) on_question_answered(sent, newest, answer);
                 });
}

void ClusterMembership::on_question_answered(milliseconds sent, milliseconds newest, const Result<RespValue>& answer) {
    if (!answer) {
        if (answer.error().code == std::errc::permission_denied)
            return refuse(Outcome::engine_down("cannot " + answer.error().message()));
        if (!engine_.up()) return;  // until it is
        refusal_ = answer.error();
        lose_patience();
        return ask_again(again_after);
    }
    be_patient();
    const RespValue& said = answer.value();
    const std::string& word = said.at(0).text;
    if (word == "RUN") {
        if (LeasedRun::too_late(engine_.url(), sent)) return ask();
        return run_here(said, sent);
    }
    // Who came while the question was on its way is younger than what it was about (SPEC M15).
    if (word == "DONE" && flight_.newest_request > newest && !any_result_does()) return ask();
    if (word == "JOIN" || word == "DONE") return follow(said);
    if (word == "WAIT") return wait_for(said);
    ask_again(again_after);
}

void ClusterMembership::ask_again(milliseconds delay) {
    next_.start(delay, [this] { ask(); });
}

void ClusterMembership::on_engine_up() {
    switch (state_) {
        case State::asking:
        case State::waiting:
            return ask();
        case State::running:
            return leased_->renew();
        case State::following:
            return elsewhere_->beat();
        case State::unleased:
        case State::over:
            return;
    }
}

void ClusterMembership::on_engine_down(const NoAnswer& why) {
    if (state_ == State::running) return leased_->engine_lost();
    if (state_ != State::asking && state_ != State::waiting) return;
    if (why.code == std::errc::permission_denied)
        loop_.post([this, alive = alive_, sentence = "cannot " + why.message()] {
            if (*alive && state_ == State::asking) refuse(Outcome::engine_down(sentence));
        });
    if (state_ != State::waiting && !engine_.up()) lose_patience();
}

void ClusterMembership::lose_patience() {
    if (!std::exchange(impatient_, true))
        patience_.start(std::max(engine_.url().down == EngineUrl::Down::run ? patience_to_run : patience_to_fail,
                                 cluster_.patience()),
                        [this] { on_out_of_patience(); });
}

void ClusterMembership::be_patient() {
    impatient_ = false;
    patience_.stop();
}

void ClusterMembership::on_out_of_patience() {
    impatient_ = false;
    if (state_ != State::asking) return;
    const std::string why = engine_.trouble() ? engine_.trouble()->message()
                            : refusal_        ? refusal_->message()
                                              : "reach the engine " + engine_.url().address() + ": no answer";
    if (engine_.url().down == EngineUrl::Down::run) return run_unleased("cannot " + why);
    refuse(Outcome::engine_down("cannot " + why + " (with down=run in its URL the command would run here alone)"));
}

void ClusterMembership::refuse(Outcome why) {
    state_ = State::over;
    next_.stop();
    patience_.stop();
    answers_.over(std::move(why), 0ms);
}

// --- running

void ClusterMembership::run_here(const RespValue& granted, milliseconds sent) {
    state_ = State::running;
    auto surroundings = std::make_shared<Surroundings>(*job_.command.surroundings);
    set_env(surroundings->env, "COALESCE_FENCE", granted.at(2).text);
    job_.command.surroundings = std::move(surroundings);
    flight_.host = cluster_.host();
    leased_.emplace(LeasedRun::Holder{cluster_, keys_, key_, client_, job_, flight_, alone_}, granted.at(1).text, sent,
                    LeasedRun::Events{.on_fenced = [this] { on_fenced(); },
                                      .on_cancelled = [this](bool for_all) { on_cancelled(for_all); },
                                      .on_somebody_else = [this] { answers_.somebody_else(); },
                                      .on_runs_out = [this] { on_lease_runs_out(); }});
    listen(keys_.to_runner());
    answers_.run_here();
}

void ClusterMembership::run_unleased(const std::string& why) {
    state_ = State::unleased;
    next_.stop();
    patience_.stop();
    flight_.host = cluster_.host();
    cluster_.notice(id_, why + "; the command runs here alone, and others may run it, too");
    answers_.run_here();
}

void ClusterMembership::on_fenced() {
    state_ = State::over;
    answers_.over(Outcome::lost("another machine has taken over"), 0ms);
}

void ClusterMembership::on_cancelled(bool for_all) {
    if (for_all) return answers_.over(Outcome::cancelled_for_everyone(), job_.grace);
    answers_.nobody_else();
}

void ClusterMembership::on_lease_runs_out() {
    const std::string why =
        "the engine " + engine_.url().address() + " has not answered for " + format_duration(leased_->unanswered_for());
    if (engine_.url().down == EngineUrl::Down::run) {
        state_ = State::unleased;
        leased_->go_on_alone();
        // Whoever may wait elsewhere takes it for lost, and runs it, too.
        if (alone_)
            answers_.nobody_else();
        else
            cluster_.notice(id_, why + "; the command goes on, and others may run it, too");
        return;
    }
    answers_.over(Outcome::lost(why + ", and others may run it soon"), leased_->until_killed());
}

void ClusterMembership::alone() {
    alone_ = true;
    if (state_ == State::running) return leased_->ask_who_waits();
    if (state_ == State::following) elsewhere_->leave();
    loop_.post([this, alive = alive_] {
        if (*alive && alone_) answers_.nobody_else();
    });
}

void ClusterMembership::joined() {
    if (std::exchange(alone_, false) && state_ == State::running) leased_->joined();
}

void ClusterMembership::called_off(bool for_everyone) {
    if (leased_) leased_->called_off(for_everyone);
}

// Past that moment it is the guard that has ended it, or may have.
Outcome ClusterMembership::judge(Outcome outcome) {
    if (state_ != State::running || !leased_->may_have_been_ended(outcome)) return outcome;
    return Outcome::lost("the lease of its run has passed, and others may run it");
}

void ClusterMembership::conclude(const RunResult& result, UniqueFunction<void()> done) {
    done_ = std::move(done);
    if (state_ == State::running) return leased_->conclude(result, [this] { tell_done(); });
    if (leased_) leased_->process_over();
    if (state_ == State::following && !ended_there_) elsewhere_->leave();
    state_ = State::over;
    loop_.post([this, alive = alive_] {
        if (*alive) tell_done();
    });
}

void ClusterMembership::tell_done() {
    state_ = State::over;
    next_.stop();
    auto done = std::move(done_);
    if (done) done();  // may destroy this
}

// --- following

void ClusterMembership::know_of(const RespValue& answer) {
    elsewhere_.emplace(RunElsewhere::Asker{cluster_, keys_, key_, client_, flight_, job_.end_only}, answer,
                       RunElsewhere::Events{.on_over = [this] { on_over_there(); },
                                            .on_end = [this](EndRecord record) { on_followed_end(std::move(record)); },
                                            .on_broken = [this](const std::string& why) { on_broken(why); },
                                            .on_lost = [this](const std::string& why) { lose(why); }});
}

void ClusterMembership::follow(const RespValue& answer) {
    know_of(answer);
    if (!elsewhere_->info())
        return refuse(Outcome::refused(0, "the engine tells of a run that nobody with our secret has begun"));
    if (answer.at(0).text == "JOIN" && elsewhere_->dead_here()) return bury();
    state_ = State::following;
    ended_there_ = false;
    listen(keys_.to_waiters());
    if (answer.at(0).text == "DONE") on_over_there();
    answers_.follow(elsewhere_->follow());
}

void ClusterMembership::wait_for(const RespValue& answer) {
    know_of(answer);
    if (elsewhere_->dead_here()) return bury();
    state_ = State::waiting;
    if (!words_) listen(keys_.to_waiters());
    ask_again(heard_ ? 0ms : std::min(RunElsewhere::heartbeat_max, elsewhere_->lease_passes_in()));
    answers_.waits();
}

void ClusterMembership::bury() {
    state_ = State::waiting;
    elsewhere_->bury([this] {
        if (state_ == State::waiting) ask();
    });
}

// Nothing is older than the wait for it, however long its output takes to come (SPEC M15).
void ClusterMembership::on_over_there() {
    if (!any_result_does()) answers_.over_elsewhere();
}

void ClusterMembership::on_followed_end(EndRecord record) {
    ended_there_ = true;
    const Outcome& outcome = record.outcome;
    // It says nothing about this machine, which tries, too: as often as it is told of others, and itself once (SPEC
    // M22).
    if (could_not_start(outcome) && answers_.again()) return ask();
    if (outcome.kind == Outcome::Kind::cancelled && record.for_all)
        return elsewhere_->end(Outcome::cancelled_for_everyone());
    if (outcome.kind == Outcome::Kind::cancelled) return lose("was cancelled");
    if (outcome.kind == Outcome::Kind::lost) return lose("was lost");
    elsewhere_->end(std::move(record.outcome));
}

void ClusterMembership::on_broken(const std::string& why) {
    if (!std::exchange(broken_before_, true) && elsewhere_->received() == 0 && answers_.again()) return ask();
    state_ = State::over;
    elsewhere_->leave();
    elsewhere_->stop_beating();
    answers_.over(Outcome::refused(0, job_.title + " on " + elsewhere_->info()->host + ": " + why), 0ms);
}

// The next one is asked for, unless somebody here has passed on a part of this one.
void ClusterMembership::lose(const std::string& why) {
    if (answers_.again()) return ask();
    state_ = State::over;
    elsewhere_->stop_beating();
    answers_.over(Outcome::lost("the run on " + elsewhere_->info()->host + " " + why + " after " +
                                std::to_string(elsewhere_->received()) + " bytes"),
                  0ms);
}

void ClusterMembership::listen(const std::string& channel) {
    words_.emplace(engine_, channel,
                   Engine::Subscription::Events{.on_subscribed = [this] { look_now(); },
                                                .on_word = [this](const std::string& word) { on_word(word); }});
}

// Something may have been said before we listened.
void ClusterMembership::look_now() {
    if (state_ == State::waiting) return ask();
    if (state_ == State::running) return leased_->renew();
    if (state_ == State::following) elsewhere_->beat();
}

void ClusterMembership::on_word(const std::string& word) {
    if (state_ == State::running && word == "j") leased_->joined_elsewhere();
    if (state_ == State::following && word == "d") return elsewhere_->look();
    if (state_ == State::waiting && word == "d") return;
    heard_ = heard_ || (state_ == State::asking && word != "d");  // the answer on its way may be older
    look_now();
}

}  // namespace coalesce
