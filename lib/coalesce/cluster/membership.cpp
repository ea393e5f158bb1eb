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

constexpr milliseconds heartbeat_max = 3s;
constexpr int heartbeats_a_lease = 5;
constexpr milliseconds presence = 15s;
constexpr milliseconds after_the_lease = 20ms;  // for who waits until it has passed
constexpr milliseconds patience_to_fail = 5s;
constexpr milliseconds patience_to_run = 2s;
constexpr milliseconds again_after = 500ms;
constexpr milliseconds once_for = 1h;
constexpr milliseconds youth_is_told_after = 1s;

// Of the lease: the command gets TERM, and KILL.
constexpr double term_at = 0.6;
constexpr double kill_at = 0.85;

milliseconds part_of(milliseconds whole, double part) {
    return milliseconds(static_cast<std::int64_t>(static_cast<double>(whole.count()) * part));
}

std::string random_name() {
    std::array<unsigned char, 16> bytes{};
    randombytes_buf(bytes.data(), bytes.size());
    std::array<char, 2 * bytes.size() + 1> name{};
    sodium_bin2hex(name.data(), name.size(), bytes.data(), bytes.size());
    return name.data();
}

std::string text_of(milliseconds time) { return std::to_string(time.count()); }

// What says something about the command, and not about the machine that ran it, or its user.
bool tells_of_the_command(const Outcome& outcome) {
    return outcome.kind == Outcome::Kind::exited || outcome.kind == Outcome::Kind::signalled ||
           outcome.kind == Outcome::Kind::timed_out;
}

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
    if (word != "RUN") return;
    const EndRecord record{.outcome = Outcome::cancelled()};
    engine.call(Script::finish, std::array{keys.state, keys.waiters, keys.stream(run)},
                std::array<std::string, 5>{run, "2", seal.seal(Seal::Kind::end, 2, record.text()), "15000", "0"},
                [](const auto&) {});
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
      lease_(engine_.url().lease),
      heartbeat_(std::min<milliseconds>(heartbeat_max, lease_ / heartbeats_a_lease)),
      listener_(engine_, {.on_up = [this] { on_engine_up(); },
                          .on_down = [this](const NoAnswer& why) { on_engine_down(why); },
                          .on_data = {}}),
      next_(loop_),
      patience_(loop_),
      runs_out_(loop_) {
    ask();
}

ClusterMembership::~ClusterMembership() {
    *alive_ = false;
    cluster_.no_more(key_);
    if (state_ == State::following) leave();
}

// --- asking

void ClusterMembership::ask() {
    state_ = State::asking;
    next_.stop();
    words_.reset();
    if (!engine_.up()) {
        if (engine_.trouble()) on_engine_down(*engine_.trouble());
        if (!std::exchange(impatient_, true))
            patience_.start(engine_.url().down == EngineUrl::Down::run ? patience_to_run : patience_to_fail,
                            [this] { on_out_of_patience(); });
        return;
    }
    const milliseconds young = engine_.too_young();
    if (young <= 0ms) return send_question();
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
        seal.seal(Seal::Kind::info, 0, RunInfo::own(cluster_.host(), cluster_.guard().pid(), job_.title).text());
    const milliseconds sent = since_boot();
    const milliseconds newest = flight_.newest_request;
    const std::array<std::string, 7> arguments{client_,
                                               std::to_string(attempt),
                                               text_of(lease_),
                                               text_of(presence),
                                               text_of(job_.once ? kept_for() : std::max(sent - newest, 0ms)),
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
        if (answer.error().code == std::errc::permission_denied) return refuse("cannot " + answer.error().message());
        if (engine_.up()) ask_again(again_after);  // or else when it is
        return;
    }
    impatient_ = false;
    patience_.stop();
    const RespValue& said = answer.value();
    const std::string& word = said.at(0).text;
    if (word == "RUN") {
        // What begins so late might not be over in time.
        if (since_boot() >= sent + part_of(lease_, term_at)) return ask();
        return run_here(said, sent);
    }
    // Who came while the question was on its way is younger than what it was about (SPEC M15).
    if (word == "DONE" && flight_.newest_request > newest && !job_.once) return ask();
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
            return renew();
        case State::following:
            return beat();
        case State::unleased:
        case State::over:
            return;
    }
}

void ClusterMembership::on_engine_down(const NoAnswer& why) {
    if (state_ != State::asking && state_ != State::waiting) return;
    if (why.code == std::errc::permission_denied)
        loop_.post([this, alive = alive_, sentence = "cannot " + why.message()] {
            if (*alive && state_ == State::asking) refuse(sentence);
        });
    if (state_ == State::waiting || engine_.up()) return;
    if (!std::exchange(impatient_, true))
        patience_.start(engine_.url().down == EngineUrl::Down::run ? patience_to_run : patience_to_fail,
                        [this] { on_out_of_patience(); });
}

void ClusterMembership::on_out_of_patience() {
    impatient_ = false;
    if (state_ != State::asking) return;
    const std::string why = engine_.trouble() ? engine_.trouble()->message()
                                              : "reach the engine " + engine_.url().address() + ": no answer";
    if (engine_.url().down == EngineUrl::Down::run) return run_unleased("cannot " + why);
    refuse("cannot " + why + " (with down=run in its URL the command would run here alone)");
}

void ClusterMembership::refuse(std::string why) {
    state_ = State::over;
    next_.stop();
    patience_.stop();
    answers_.over(Outcome::refused(0, std::move(why)), 0ms);
}

// --- running

void ClusterMembership::run_here(const RespValue& granted, milliseconds sent) {
    state_ = State::running;
    run_ = granted.at(1).text;
    seal_ = cluster_.secret().seal_of(key_, run_);
    auto surroundings = std::make_shared<Surroundings>(*job_.command.surroundings);
    set_env(surroundings->env, "COALESCE_FENCE", granted.at(2).text);
    job_.command.surroundings = std::move(surroundings);
    flight_.host = cluster_.host();
    cancelled_ = shut_ = false;
    deadline_ = cluster_.guard().reserve_deadline();
    job_.guard_deadline = deadline_.number();
    hold_until(sent);
    listen(keys_.to_runner());
    next_.start(heartbeat_, heartbeat_, [this] { renew(); });
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

// The lease is counted from the sending of what was answered.
void ClusterMembership::hold_until(milliseconds base) {
    base_ = std::max(base_, base);
    const milliseconds now = since_boot();
    // With down=run the run outlives its lease, and says so.
    if (engine_.url().down == EngineUrl::Down::fail) deadline_.set(base_ + part_of(lease_, kill_at));
    runs_out_.start(std::max(base_ + part_of(lease_, term_at) - now, 0ms), [this] { on_lease_runs_out(); });
}

void ClusterMembership::renew() {
    if (state_ != State::running) return;
    shut_ = shut_ || (flight_.spool && !flight_.spool->replayable()) || (publisher_ && publisher_->past_cap());
    const std::array<std::string, 5> arguments{run_, client_, text_of(lease_), alone_ ? "0" : text_of(presence),
                                               shut_ ? "1" : "0"};
    engine_.call(Script::renew, std::array{keys_.state, keys_.waiters, keys_.stream(run_)}, arguments,
                 [this, alive = alive_, sent = since_boot(), was_alone = alone_](const Result<RespValue>& answer) {
                     if (*alive && state_ == State::running) on_renewed(sent, was_alone, answer);
                 });
}

void ClusterMembership::on_renewed(milliseconds sent, bool was_alone, const Result<RespValue>& answer) {
    if (!answer) return;  // the next one may be
    const std::string& word = answer.value().at(0).text;
    if (word == "FENCED") {
        state_ = State::over;
        if (done_) return tell_done();
        next_.stop();
        return answers_.over(Outcome::lost(job_.title + ": another machine has taken over"), 0ms);
    }
    if (!done_) hold_until(sent);
    const auto waiting =
        static_cast<std::size_t>(std::max<std::int64_t>(answer.value().at(1).integer().value_or(0), 0));
    flight_.elsewhere = waiting - std::min<std::size_t>(waiting, was_alone ? 0 : 1);
    if (done_) return;
    publish_if_wanted();
    if (word == "cancel") return on_cancelled(answer.value().at(2).integer().value_or(0) != 0);
    if (was_alone && alone_ && std::exchange(answer_alone_, false)) answers_.somebody_else();
}

void ClusterMembership::on_cancelled(bool for_all) {
    if (std::exchange(cancelled_, true)) return;
    for_all_ = for_all;
    if (for_all) return answers_.over(Outcome::cancelled(), job_.grace);
    if (alone_) return answers_.nobody_else();
    answers_.over(Outcome::lost(job_.title + ": the engine took everyone who waits for gone"), job_.grace);
}

void ClusterMembership::on_lease_runs_out() {
    const std::string why =
        "the engine " + engine_.url().address() + " has not answered for " + format_duration(since_boot() - base_);
    if (engine_.url().down == EngineUrl::Down::run) {
        state_ = State::unleased;
        next_.stop();
        if (answer_alone_)
            answers_.nobody_else();
        else
            cluster_.notice(id_, why + "; the command goes on, and others may run it, too");
        return;
    }
    answers_.over(Outcome::lost(job_.title + ": " + why + ", and others may run it soon"),
                  std::max(base_ + part_of(lease_, kill_at) - since_boot(), 0ms));
}

// With retries it is the last attempt's output that counts.
void ClusterMembership::publish_if_wanted() {
    if (flight_.elsewhere == 0 || !flight_.spool || job_.retries > 0 || publisher_) return;
    publisher_.emplace(loop_, engine_, keys_, run_, *seal_);
    publisher_->begin(flight_.spool);
}

void ClusterMembership::alone() {
    alone_ = true;
    if (state_ == State::running) {
        answer_alone_ = true;
        return renew();
    }
    if (state_ == State::following) leave();
    loop_.post([this, alive = alive_] {
        if (*alive && alone_) answers_.nobody_else();
    });
}

void ClusterMembership::joined() {
    if (!std::exchange(alone_, false)) return;
    answer_alone_ = false;
    renew();
}

// Past that moment it is the guard that has ended it, or may have.
Outcome ClusterMembership::judge(Outcome outcome) {
    const bool ours = state_ != State::running || engine_.url().down == EngineUrl::Down::run ||
                      since_boot() < base_ + part_of(lease_, kill_at);
    if (ours) return outcome;
    return Outcome::lost(job_.title + ": the lease of its run has passed, and others may run it");
}

void ClusterMembership::conclude(const RunResult& result, UniqueFunction<void()> done) {
    runs_out_.stop();
    deadline_.clear();
    done_ = std::move(done);
    if (state_ != State::running) {
        if (state_ == State::following && !ended_there_) leave();
        state_ = State::over;
        loop_.post([this, alive = alive_] {
            if (*alive) tell_done();
        });
        return;
    }
    EndRecord record{.outcome = result.outcome,
                     .attempts = result.attempts,
                     .duration = duration_cast<milliseconds>(result.duration),
                     .for_all = for_all_ || (result.outcome.kind == Outcome::Kind::cancelled && !alone_)};
    if (result.spool) record.sizes = {result.spool->size(Stream::out), result.spool->size(Stream::err)};
    const std::uint64_t size = record.sizes[0] + record.sizes[1];
    const bool short_enough = size <= engine_.url().keep_bytes && (size == 0 || result.spool->whole());
    // What is to run once is over, though it be too long to be kept: who asks later is told so.
    const bool kept = tells_of_the_command(result.outcome) && (short_enough || job_.once);
    if (!publisher_) publisher_.emplace(loop_, engine_, keys_, run_, *seal_);
    if (size > 0 && ((kept && short_enough) || flight_.elsewhere > 0) && result.spool->whole())
        publisher_->begin(result.spool);
    // Then nobody will have heard of it.
    runs_out_.start(engine_.url().down == EngineUrl::Down::run ? patience_to_run : lease_, [this] { tell_done(); });
    publisher_->finish(record, kept, kept_for(), [this](const std::string&) { tell_done(); });
}

milliseconds ClusterMembership::kept_for() const {
    const milliseconds keep = engine_.url().keep;
    return job_.once ? std::max<milliseconds>(keep, once_for) : keep;
}

void ClusterMembership::tell_done() {
    state_ = State::over;
    next_.stop();
    runs_out_.stop();
    auto done = std::move(done_);
    if (done) done();  // may destroy this
}

// --- following

std::optional<RunInfo> ClusterMembership::info_in(const RespValue& answer) const {
    const auto text = seal_->open(Seal::Kind::info, 0, answer.at(4).text);
    return text ? RunInfo::of(*text) : std::nullopt;
}

void ClusterMembership::follow(const RespValue& answer) {
    run_ = answer.at(1).text;
    seal_ = cluster_.secret().seal_of(key_, run_);
    auto info = info_in(answer);
    if (!info) return refuse("the engine tells of a run that nobody with our secret has begun");
    info_ = std::move(*info);
    const bool live = answer.at(0).text == "JOIN";
    if (live && info_.dead_here()) return bury();
    state_ = State::following;
    ended_there_ = false;
    flight_.host = info_.host;
    listen(keys_.to_waiters());
    auto follower = std::make_unique<Follower>(
        engine_, keys_, run_, *seal_,
        Follower::Findings{.on_end = [this](EndRecord record) { on_followed_end(std::move(record)); },
                           .on_broken = [this](const std::string& why) { on_broken(why); },
                           .on_gone = [link = follower_] { *link = nullptr; }});
    *follower_ = follower.get();
    beat_in(live ? milliseconds(answer.at(3).integer().value_or(0)) + after_the_lease : heartbeat_max);
    answers_.follow(std::move(follower));
}

void ClusterMembership::wait_for(const RespValue& answer) {
    run_ = answer.at(1).text;
    seal_ = cluster_.secret().seal_of(key_, run_);
    if (auto info = info_in(answer)) {
        info_ = std::move(*info);
        if (info_.dead_here()) return bury();
    }
    state_ = State::waiting;
    listen(keys_.to_waiters());
    ask_again(
        std::min<milliseconds>(heartbeat_max, milliseconds(answer.at(3).integer().value_or(0)) + after_the_lease));
}

// Its lease is not waited for.
void ClusterMembership::bury() {
    state_ = State::waiting;
    engine_.call(Script::bury, std::array{keys_.state}, std::array{run_},
                 [this, alive = alive_](const Result<RespValue>&) {
                     if (*alive && state_ == State::waiting) ask();
                 });
}

void ClusterMembership::beat_in(milliseconds delay) {
    next_.start(std::min(delay, heartbeat_max), [this] { beat(); });
}

void ClusterMembership::beat() {
    if (state_ != State::following) return;
    beat_in(heartbeat_max);  // should there be no answer
    engine_.call(Script::beat, std::array{keys_.state, keys_.waiters, keys_.stream(run_)},
                 std::array{run_, client_, text_of(presence)},
                 [this, alive = alive_, run = run_](const Result<RespValue>& answer) {
                     if (*alive && state_ == State::following && run == run_) on_beaten(answer);
                 });
}

void ClusterMembership::on_beaten(const Result<RespValue>& answer) {
    if (!answer || *follower_ == nullptr) return;
    const std::string& word = answer.value().at(0).text;
    if (word == "LOST") return lose("was lost");
    const auto left = milliseconds(answer.value().at(1).integer().value_or(0));
    flight_.elsewhere =
        static_cast<std::size_t>(std::max<std::int64_t>(answer.value().at(2).integer().value_or(1) - 1, 0));
    if (word != "DONE" && info_.dead_here()) {
        const std::string why = "was lost";
        engine_.call(Script::bury, std::array{keys_.state}, std::array{run_}, [](const auto&) {});
        return lose(why);
    }
    beat_in(word == "DONE" ? heartbeat_max : left + after_the_lease);
    (*follower_)->look();
}

void ClusterMembership::on_followed_end(EndRecord record) {
    ended_there_ = true;
    const Outcome& outcome = record.outcome;
    // It says nothing about this machine.
    if (could_not_start(outcome) && !std::exchange(tried_ourselves_, true) && answers_.again()) return ask();
    // A batch takes what is cancelled for ended by itself.
    if (outcome.kind == Outcome::Kind::cancelled && record.for_all)
        return (*follower_)
            ->end(job_.whole ? Outcome::lost(job_.title + ": cancelled for everyone") : Outcome::cancelled());
    if (outcome.kind == Outcome::Kind::cancelled) return lose("was cancelled");
    if (outcome.kind == Outcome::Kind::lost) return lose("was lost");
    (*follower_)->end(std::move(record.outcome));
}

void ClusterMembership::on_broken(const std::string& why) {
    if (!std::exchange(broken_before_, true) && (*follower_)->received() == 0 && answers_.again()) return ask();
    leave();
    state_ = State::over;
    answers_.over(Outcome::refused(0, job_.title + " on " + info_.host + ": " + why), 0ms);
}

// The next one is asked for, unless somebody here has passed on a part of this one.
void ClusterMembership::lose(const std::string& why) {
    if (answers_.again()) return ask();
    const std::uint64_t received = *follower_ != nullptr ? (*follower_)->received() : 0;
    state_ = State::over;
    next_.stop();
    answers_.over(Outcome::lost(job_.title + ": the run on " + info_.host + " " + why + " after " +
                                std::to_string(received) + " bytes"),
                  0ms);
}

void ClusterMembership::leave() {
    engine_.call(Script::leave, std::array{keys_.state, keys_.waiters}, std::array{run_, client_}, [](const auto&) {});
}

void ClusterMembership::listen(const std::string& channel) {
    words_.emplace(engine_, channel,
                   Engine::Subscription::Events{.on_subscribed = [this] { look_now(); },
                                                .on_word = [this](const std::string& word) { on_word(word); }});
}

// Something may have been said before we listened.
void ClusterMembership::look_now() {
    if (state_ == State::waiting) return ask();
    if (state_ == State::running) return renew();
    if (state_ == State::following) beat();
}

void ClusterMembership::on_word(const std::string& word) {
    if (state_ == State::running && word == "j") {
        flight_.elsewhere = std::max<std::size_t>(flight_.elsewhere, 1);
        if (!done_) publish_if_wanted();
    }
    if (state_ == State::following && word == "d") {
        if (*follower_ != nullptr) (*follower_)->look();
        return;
    }
    if (state_ == State::waiting && word == "d") return;
    look_now();
}

}  // namespace coalesce
