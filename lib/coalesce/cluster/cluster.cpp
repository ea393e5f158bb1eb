// SPDX-License-Identifier: MIT
#include <coalesce/cluster/cluster.h>

#include <utility>

#include <coalesce/cluster/membership.h>
#include <coalesce/cluster/part_digests.h>
#include <coalesce/io/loop.h>

namespace coalesce {
namespace {

// Of a run that is shared with nobody.
class LocalMembership final : public Sharing::Membership {
  public:
    LocalMembership(Loop& loop, Sharing::Answers answers) : loop_(loop), answers_(std::move(answers)) {
        later([this] { answers_.run_here(); });
    }
    ~LocalMembership() override { *alive_ = false; }
    void alone() override {
        later([this] { answers_.nobody_else(); });
    }
    void joined() override {}
    void called_off(bool) override {}
    [[nodiscard]] Outcome judge(Outcome outcome) override { return outcome; }
    void conclude(const RunResult&, UniqueFunction<void()> done) override {
        done_ = std::move(done);
        later([this] {
            auto told = std::move(done_);
            told();  // may destroy this
        });
    }

  private:
    void later(UniqueFunction<void()> say) {
        loop_.post([alive = alive_, say = std::move(say)]() mutable {
            if (*alive) say();
        });
    }
    Loop& loop_;
    Sharing::Answers answers_;
    UniqueFunction<void()> done_;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace

Cluster::Cluster(Loop& loop, Circle circle, Guard& guard, std::chrono::milliseconds patience)
    : loop_(loop), circle_(std::move(circle)), guard_(guard), patience_(patience), host_(own_host()) {}

Engine& Cluster::engine() {
    if (!engine_) engine_.emplace(loop_, circle_.access);
    return *engine_;
}

void Cluster::share(Job& job, const RequestKey& key) {
    if (is_unshared(key.words)) return;
    if (last_whole_ != key.surroundings) {
        last_whole_ = key.surroundings;
        last_common_ = cluster_surroundings(key.surroundings->bytes);
        last_digests_ = part_digests(circle_.secret, last_common_);
    }
    job.shared_as = name_at_engine(circle_, last_common_, key.words);
    job.shared_parts = part_digests_of_key(part_digests(circle_.secret, key.words), last_digests_);
}

std::unique_ptr<Sharing::Membership> Cluster::ask(FlightId id, Job& job, Run& run, Answers answers) {
    if (!live_.insert(job.shared_as).second) return std::make_unique<LocalMembership>(loop_, std::move(answers));
    return std::make_unique<ClusterMembership>(*this, id, job, run, std::move(answers));
}

}  // namespace coalesce
