// SPDX-License-Identifier: MIT
#include <coalesce/cluster/leased_run.h>

#include <signal.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include <coalesce/cluster/records.h>
#include <coalesce/cluster/run_elsewhere.h>
#include <coalesce/io/boot_time.h>

namespace coalesce {
namespace {

using namespace std::chrono;
using namespace std::chrono_literals;

constexpr int heartbeats_a_lease = 5;
constexpr milliseconds once_for = 1h;
constexpr milliseconds told_within = 2s;  // where the engine is not needed (down=run)

// Of the lease: the command gets TERM, and KILL.
constexpr double term_at = 0.6;
constexpr double kill_at = 0.85;

milliseconds part_of(milliseconds whole, double part) {
    return milliseconds(static_cast<std::int64_t>(static_cast<double>(whole.count()) * part));
}

// What says something about the command, and not about the machine that ran it, or its user.
bool tells_of_the_command(const Outcome& outcome) {
    return outcome.kind == Outcome::Kind::exited || outcome.kind == Outcome::Kind::signalled ||
           outcome.kind == Outcome::Kind::timed_out;
}

}  // namespace

LeasedRun::LeasedRun(const Holder& holder, const std::string& name, milliseconds sent, Events events)
    : engine_(holder.cluster.engine()),
      keys_(holder.keys),
      client_(holder.client),
      job_(holder.job),
      flight_(holder.flight),
      events_(std::move(events)),
      name_(name),
      seal_(holder.cluster.secret().seal_of(holder.key, name_)),
      lease_(engine_.url().lease),
      heartbeat_(std::min<milliseconds>(RunElsewhere::heartbeat_max, lease_ / heartbeats_a_lease)),
      next_(engine_.loop()),
      runs_out_(engine_.loop()),
      deadline_(holder.cluster.guard().reserve_deadline()),
      alone_(holder.alone) {
    job_.guard_deadline = deadline_.number();
    hold_until(sent);
    next_.start(heartbeat_, heartbeat_, [this] { renew(); });
}

LeasedRun::~LeasedRun() { *alive_ = false; }

bool LeasedRun::too_late(const EngineUrl& url, milliseconds sent) {
    return since_boot() >= sent + part_of(url.lease, term_at);
}

milliseconds LeasedRun::kept_for(const EngineUrl& url, const Job& job) {
    return job.once ? std::max<milliseconds>(url.keep, once_for) : url.keep;
}

void LeasedRun::give_back(Engine& engine, const EngineKeys& keys, const Seal& seal, const std::string& name) {
    const EndRecord record{.outcome = Outcome::cancelled()};
    engine.call(Script::finish, std::array{keys.state, keys.waiters, keys.stream(name)},
                std::array<std::string, 5>{name, "2", seal.seal(Seal::Kind::end, 2, record.text()), "15000", "0"},
                [](const auto&) {});
}

void LeasedRun::give_back() {
    let_go();
    process_over();
    job_.guard_deadline = 0;
    give_back(engine_, keys_, seal_, name_);
}

// The lease is counted from the sending of what was answered.
void LeasedRun::hold_until(milliseconds base) {
    lapsed_ = lapsed_ || (base_ > 0ms && !ours());
    base_ = std::max(base_, base);
    const milliseconds now = since_boot();
    // With down=run the run outlives its lease, and says so.
    if (engine_.url().down == EngineUrl::Down::fail) deadline_.set(base_ + part_of(lease_, kill_at));
    runs_out_.start(std::max(base_ + part_of(lease_, term_at) - now, 0ms), [this] { events_.on_runs_out(); });
}

void LeasedRun::renew() {
    if (!held_) return;
    shut_ = shut_ || (flight_.spool && !flight_.spool->replayable());
    // After a silence those who wait elsewhere may be heard of later than we, who are not to end it before.
    if (unanswered_for() > 2 * heartbeat_) counted_until_ = since_boot() + 2 * RunElsewhere::heartbeat_max;
    const bool uncounted = alone_ && (cancelled_ || since_boot() >= counted_until_);
    const std::array<std::string, 5> arguments{name_, client_, std::to_string(lease_.count()),
                                               uncounted ? "0" : std::to_string(RunElsewhere::presence.count()),
                                               shut_ ? "1" : "0"};
    engine_.call(
        Script::renew, std::array{keys_.state, keys_.waiters, keys_.stream(name_)}, arguments,
        [this, alive = alive_, renewal = Renewal{since_boot(), uncounted, shut_}](const Result<RespValue>& answer) {
            if (*alive && held_) on_renewed(renewal, answer);
        });
}

void LeasedRun::on_renewed(const Renewal& renewal, const Result<RespValue>& answer) {
    if (!answer) return;  // the next one may be
    if (renewal.shut && publisher_) publisher_->shut();
    const std::string& word = answer.value().at(0).text;
    if (word == "FENCED") {
        let_go();
        return done_ ? told() : events_.on_fenced();
    }
    if (!done_) hold_until(renewal.sent);
    const auto waiting =
        static_cast<std::size_t>(std::max<std::int64_t>(answer.value().at(1).integer().value_or(0), 0));
    flight_.elsewhere = waiting - std::min<std::size_t>(waiting, renewal.uncounted ? 0 : 1);
    if (done_) {
        if (renewal.shut && finish_) std::exchange(finish_, {})();
        return;
    }
    publish_if_wanted();
    if (word == "cancel") {
        for_all_ = for_all_ || answer.value().at(2).integer().value_or(0) != 0;
        if (!for_all_ && !alone_) return;  // somebody has joined here since, so that the next renewal takes it back
        if (!std::exchange(cancelled_, true)) events_.on_cancelled(for_all_);
        return;
    }
    if (renewal.uncounted && alone_ && std::exchange(asks_who_waits_, false)) events_.on_somebody_else();
}

// With retries it is the last attempt's output that counts.
void LeasedRun::publish_if_wanted() {
    if (flight_.elsewhere == 0 || !flight_.spool || job_.retries > 0 || publisher_) return;
    if (flight_.spool->whole()) return publisher().begin(flight_.spool);
    if (!shut_) shut();  // who has joined since it was, finds at the end that it has not all of it
}

Publisher& LeasedRun::publisher() {
    if (!publisher_) publisher_.emplace(engine_.loop(), engine_, keys_, name_, seal_, [this] { shut(); });
    return *publisher_;
}

void LeasedRun::shut() {
    shut_ = true;
    renew();
}

void LeasedRun::ask_who_waits() {
    alone_ = asks_who_waits_ = true;
    renew();
}

void LeasedRun::joined() {
    alone_ = asks_who_waits_ = cancelled_ = false;
    renew();
}

void LeasedRun::joined_elsewhere() {
    flight_.elsewhere = std::max<std::size_t>(flight_.elsewhere, 1);
    if (!done_) publish_if_wanted();
}

void LeasedRun::called_off(bool for_everyone) {
    if (!held_) return;
    if (!for_everyone) return shut();
    for_all_ = true;
    engine_.call(Script::cancel, std::array{keys_.state}, std::array{name_}, [](const auto&) {});
}

bool LeasedRun::ours() const {
    return engine_.url().down == EngineUrl::Down::run || since_boot() < base_ + part_of(lease_, kill_at);
}

bool LeasedRun::may_have_been_ended(const Outcome& outcome) const {
    // Of a line that needed no shell its end is told as a shell would have.
    return !ours() ||
           (lapsed_ && (outcome == Outcome::signalled(SIGKILL) || outcome == Outcome::exited(128 + SIGKILL)));
}

milliseconds LeasedRun::unanswered_for() const { return since_boot() - base_; }

milliseconds LeasedRun::until_killed() const { return std::max(base_ + part_of(lease_, kill_at) - since_boot(), 0ms); }

void LeasedRun::let_go() {
    held_ = false;
    next_.stop();
}

void LeasedRun::go_on_alone() {
    let_go();
    publisher_.reset();  // or the run would wait for a reader that stands still
}

void LeasedRun::process_over() {
    runs_out_.stop();
    deadline_.clear();
}

void LeasedRun::conclude(const RunResult& result, UniqueFunction<void()> done) {
    process_over();
    done_ = std::move(done);
    // Nobody else waited when it was sent a signal: whoever hears of this end was away, or came later (SPEC M20, M23).
    const Outcome& outcome = result.cut_short ? Outcome::cancelled() : result.outcome;
    EndRecord record{.outcome = outcome,
                     .attempts = result.attempts,
                     .duration = duration_cast<milliseconds>(result.duration),
                     .for_all = for_all_ && outcome.kind == Outcome::Kind::cancelled};
    if (result.spool) record.sizes = {result.spool->size(Stream::out), result.spool->size(Stream::err)};
    const std::uint64_t size = record.sizes[0] + record.sizes[1];
    const bool short_enough = size <= engine_.url().keep_bytes && (size == 0 || result.spool->whole());
    // What is to run once is over, though it be too long to be kept: who asks later is told so.
    const bool tells = tells_of_the_command(outcome);
    const bool for_later = tells && short_enough;
    auto kept = for_later ? Publisher::Kept::output_and_end : Publisher::Kept::nothing;
    if (tells && job_.once) kept = Publisher::Kept::at_least_end;
    // Then nobody will have heard of it.
    runs_out_.start(engine_.url().down == EngineUrl::Down::run && !engine_.up() ? told_within : lease_,
                    [this] { told(); });
    const bool publishable = size > 0 && result.spool->whole();
    finish_ = [this, record, kept, for_later, spool = publishable ? result.spool : nullptr] {
        if (spool && (for_later || flight_.elsewhere > 0)) publisher().begin(spool);
        first_byte_.reset();
        publisher().finish(record, kept, kept_for(engine_.url(), job_), [this](const std::string&) { told(); });
    };
    // Nobody joins behind that question: its answer counts everyone who is to have the output, which is held until
    // then.
    if (publishable && !for_later && flight_.elsewhere == 0) {
        first_byte_ = std::make_unique<SpoolReader>(*result.spool, [] {});
        return shut();
    }
    std::exchange(finish_, {})();
}

void LeasedRun::engine_lost() {
    if (done_ && engine_.url().down == EngineUrl::Down::run)
        runs_out_.start(std::min(runs_out_.due_in(), told_within), [this] { told(); });
}

void LeasedRun::told() {
    let_go();
    runs_out_.stop();
    auto done = std::move(done_);
    if (done) done();  // may destroy this
}

}  // namespace coalesce
