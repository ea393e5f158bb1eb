// SPDX-License-Identifier: MIT
#include <coalesce/cluster/run_elsewhere.h>

#include <algorithm>
#include <array>
#include <utility>

#include <coalesce/io/boot_time.h>

namespace coalesce {
namespace {

using namespace std::chrono;
using namespace std::chrono_literals;

constexpr milliseconds after_the_lease = 20ms;  // for who waits until it has passed

std::optional<RunInfo> info_in(const Seal& seal, const RespValue& answer) {
    const auto text = seal.open(Seal::Kind::info, 0, answer.at(4).text);
    return text ? RunInfo::of(*text) : std::nullopt;
}

}  // namespace

RunElsewhere::RunElsewhere(const Asker& asker, const RespValue& answer, Events events)
    : engine_(asker.cluster.engine()),
      keys_(asker.keys),
      client_(asker.client),
      flight_(asker.flight),
      end_only_(asker.end_only),
      events_(std::move(events)),
      name_(answer.at(1).text),
      seal_(asker.cluster.secret().seal_of(asker.key, name_)),
      info_(info_in(seal_, answer)),
      live_(answer.at(0).text == "JOIN"),
      over_since_(since_boot() - milliseconds(answer.at(3).integer().value_or(0))),
      lease_passes_in_(milliseconds(answer.at(3).integer().value_or(0)) + after_the_lease),
      next_beat_(engine_.loop()) {}

RunElsewhere::~RunElsewhere() { *alive_ = false; }

void RunElsewhere::bury(UniqueFunction<void()> done) {
    engine_.call(Script::bury, std::array{keys_.state}, std::array{name_},
                 [alive = alive_, done = std::move(done)](const Result<RespValue>&) mutable {
                     if (*alive) done();
                 });
}

std::unique_ptr<RunSource> RunElsewhere::follow() {
    flight_.host = info_->host;
    auto follower = std::make_unique<Follower>(
        engine_, keys_, name_, seal_, end_only_ ? Follower::Wanted::end_only : Follower::Wanted::all,
        Follower::Findings{.on_end =
                               [this](EndRecord record) {
                                   flight_.end_elsewhere =
                                       Run::EndElsewhere{.took = record.duration,
                                                         .over_for = live_ ? 0ms : since_boot() - over_since_,
                                                         .sizes = record.sizes};
                                   events_.on_end(std::move(record));
                               },
                           .on_broken = [this](const std::string& why) { events_.on_broken(why); },
                           .on_gone = [link = follower_] { *link = nullptr; }});
    *follower_ = follower.get();
    beat_in(live_ ? lease_passes_in_ : heartbeat_max);
    return follower;
}

void RunElsewhere::beat_in(milliseconds delay) {
    next_beat_.start(std::min(delay, heartbeat_max), [this] { beat(); });
}

void RunElsewhere::beat() {
    if (*follower_ == nullptr) return;
    if (!unanswered_since_) unanswered_since_ = since_boot();
    if (!engine_.up() && silent_for_a_lease()) return events_.on_lost("was not heard of any more");
    beat_in(heartbeat_max);  // should there be no answer
    engine_.call(Script::beat, std::array{keys_.state, keys_.waiters, keys_.stream(name_)},
                 std::array{name_, client_, std::to_string(presence.count())},
                 [this, alive = alive_](const Result<RespValue>& answer) {
                     if (*alive) on_beaten(answer);
                 });
}

bool RunElsewhere::silent_for_a_lease() const {
    return unanswered_since_ && since_boot() - *unanswered_since_ >= engine_.url().lease;
}

void RunElsewhere::on_beaten(const Result<RespValue>& answer) {
    if (*follower_ == nullptr) return;
    if (!answer) {
        // One that refuses scripts is there, and nobody renews a lease at it either. One that has come back is asked
        // first.
        if (engine_.up() && silent_for_a_lease()) events_.on_lost("was not heard of any more");
        return;
    }
    unanswered_since_.reset();
    const std::string& word = answer.value().at(0).text;
    if (word == "LOST") return events_.on_lost("was lost");
    const auto left = milliseconds(answer.value().at(1).integer().value_or(0));
    flight_.elsewhere =
        static_cast<std::size_t>(std::max<std::int64_t>(answer.value().at(2).integer().value_or(1) - 1, 0));
    // What has ended since that was answered has left as little behind as what has died. The engine knows which.
    if (word != "DONE" && info_->dead_here()) return bury([this] { beat(); });
    beat_in(word == "DONE" ? heartbeat_max : left + after_the_lease);
    if (word == "DONE") {
        events_.on_over();
        return (*follower_)->look();
    }
    look();
}

void RunElsewhere::look() {
    if (*follower_ != nullptr && !end_only_) (*follower_)->look();
}

std::uint64_t RunElsewhere::received() const noexcept { return *follower_ != nullptr ? (*follower_)->received() : 0; }

void RunElsewhere::end(Outcome outcome) {
    if (*follower_ != nullptr) (*follower_)->end(std::move(outcome));
}

void RunElsewhere::leave() {
    engine_.call(Script::leave, std::array{keys_.state, keys_.waiters}, std::array{name_, client_}, [](const auto&) {});
}

}  // namespace coalesce
