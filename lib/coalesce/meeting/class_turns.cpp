// SPDX-License-Identifier: MIT
#include <coalesce/meeting/class_turns.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include <coalesce/io/loop.h>
#include <coalesce/io/watch.h>

namespace coalesce {
namespace {

using namespace std::chrono;

constexpr milliseconds lock_pause_min{1};
constexpr milliseconds lock_pause_max{16};
constexpr milliseconds dying_pause_min{2};
constexpr milliseconds dying_pause_max{250};
constexpr milliseconds looked_at_each{2000};  // though nothing was told,
constexpr std::size_t looked_at_once = 16;    // and where more wait so much less often: each look is at all of them
constexpr hours touched_each{12};             // cleaners of /tmp count in days

class ClassTurn final : public Turnstile::Turn {
  public:
    ClassTurn(Loop& loop, std::shared_ptr<ClassQueue> queue, unsigned jobs, std::vector<pid_t> askers,
              Turns::Time takes, UniqueFunction<void()> on_come)
        : loop_(loop),
          queue_(std::move(queue)),
          jobs_(jobs),
          askers_(std::move(askers)),
          takes_(takes),
          on_come_(std::move(on_come)),
          timer_(loop) {}

    // What is refused the first time; later somebody may make room.
    Result<> begin() {
        ClassQueue::Standing standing;
        auto taken = queue_->take(jobs_, askers_, takes_, standing);
        if (!taken) return taken.error();
        ticket_ = std::move(*taken);
        if (ticket_)
            stand(std::move(standing));
        else
            try_again();
        return {};
    }

    [[nodiscard]] bool has_come() const noexcept override { return has_come_; }
    [[nodiscard]] std::size_t others() const noexcept override { return others_; }
    [[nodiscard]] Turns::Time expected() const override { return ticket_ ? ticket_->expected() : std::nullopt; }
    [[nodiscard]] ProcessMark mark() noexcept override { return ticket_->mark(); }
    void joined_by(pid_t asker) override {
        if (has_come_) return;
        askers_.push_back(asker);
        if (!ticket_ || !ticket_->stands_apart_from(asker)) return;
        watches_.clear();
        ticket_.reset();
        pause_ = lock_pause_min;
        try_again();  // so that it comes on a later turn of the loop
    }

  private:
    void try_again() {
        timer_.start(pause_, [this] {
            pause_ = std::min(pause_ * 2, lock_pause_max);
            if (!begin()) return try_again();
            if (has_come_) tell();
        });
    }

    void look() {
        watches_.clear();
        stand(ticket_->look());
        if (has_come_) tell();
    }

    // May destroy this.
    void tell() {
        auto on_come = std::move(on_come_);
        on_come();
    }

    void stand(ClassQueue::Standing standing) {
        others_ = standing.others;
        if (standing.may_start) return come();
        watched_ = std::move(standing.watched);
        for (const Descriptor& one : watched_)
            if (auto watch = Watch::start(loop_, one.get(), Readiness::hangup, [this] { look(); }))
                watches_.push_back(std::move(*watch));
            else
                standing.look_soon = true;
        pause_ = standing.look_soon ? std::clamp(pause_ * 2, dying_pause_min, dying_pause_max) : lock_pause_min;
        const auto many = static_cast<int>(std::min<std::size_t>(standing.others / looked_at_once, 1000));
        timer_.start(standing.look_soon ? pause_ : looked_at_each * (1 + many), [this] { look(); });
    }

    void come() {
        has_come_ = true;
        ticket_->start();
        watched_.clear();
        timer_.in_background();
        timer_.start(touched_each, touched_each, [this] { ticket_->touch(); });
    }

    Loop& loop_;
    const std::shared_ptr<ClassQueue> queue_;
    const unsigned jobs_;
    std::vector<pid_t> askers_;
    const Turns::Time takes_;
    UniqueFunction<void()> on_come_;
    std::unique_ptr<ClassQueue::Ticket> ticket_;  // none: the lock was taken
    bool has_come_ = false;
    std::size_t others_ = 0;
    milliseconds pause_ = lock_pause_min;
    std::vector<Descriptor> watched_;
    std::vector<Watch> watches_;  // of the line above
    Timer timer_;
};

}  // namespace

Result<std::shared_ptr<ClassQueue>> ClassTurns::queue_of(const std::string& name) {
    if (const auto known = queues_.find(name); known != queues_.end())
        if (auto queue = known->second.lock()) return queue;
    std::erase_if(queues_, [](const auto& entry) { return entry.second.expired(); });
    auto place = place_();
    if (!place) return place.error();
    auto opened = ClassQueue::open(*place, name);
    if (opened) queues_[name] = *opened;
    return opened;
}

bool ClassTurns::shares_turn(const RunClass& run_class, const std::vector<pid_t>& askers) {
    const auto queue = queue_of(run_class.name);
    return queue && queue.value()->has_run_of(askers);
}

Result<std::unique_ptr<Turnstile::Turn>> ClassTurns::ask(Loop& loop, const RunClass& run_class, unsigned jobs,
                                                         const std::vector<pid_t>& askers, Turns::Time takes,
                                                         UniqueFunction<void()> on_come) {
    auto queue = queue_of(run_class.name);
    if (!queue) return queue.error();
    auto turn = std::make_unique<ClassTurn>(loop, std::move(*queue), jobs, askers, takes, std::move(on_come));
    if (auto begun = turn->begin(); !begun) {
        queues_.erase(run_class.name);  // its directory may have been removed: the next finds another
        return begun.error();
    }
    return std::unique_ptr<Turn>(std::move(turn));
}

}  // namespace coalesce
