// SPDX-License-Identifier: MIT
#include <coalesce/cluster/cluster.h>

#include <coalesce/command/canonical.h>

#include <utility>

#include <coalesce/cluster/membership.h>
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

std::string name_at_engine(const Circle& circle, std::string_view surroundings, std::string_view words) {
    std::string key;
    append_field(key, 's', surroundings);
    append_field(key, 'w', words);
    return circle.secret.name_of(circle.access.url.ns, key);
}

Cluster::Cluster(Loop& loop, Circle circle, Guard& guard)
    : secret_(std::move(circle.secret)), guard_(guard), host_(own_host()), engine_(loop, std::move(circle.access)) {}

std::unique_ptr<Sharing::Membership> Cluster::ask(FlightId id, Job& job, Run& run, Answers answers) {
    if (!live_.insert(job.shared_as).second)
        return std::make_unique<LocalMembership>(engine_.loop(), std::move(answers));
    return std::make_unique<ClusterMembership>(*this, id, job, run, std::move(answers));
}

}  // namespace coalesce
