// SPDX-License-Identifier: MIT
#include <coalesce/batch/once.h>

#include <utility>

namespace coalesce {

class OnceMemory::Keeper final : public Retention {
  public:
    Keeper(OnceMemory& memory, Key key, bool may_find) : memory_(memory), key_(std::move(key)), may_find_(may_find) {}

    std::shared_ptr<const RunResult> find() override {
        return may_find_ ? memory_.find({key_.surroundings, key_.words}) : nullptr;
    }

    // The first one stays: those who came for it were told that it is the line's result.
    void keep(const std::shared_ptr<const RunResult>& result, UniqueFunction<void()> done) override {
        if (result->outcome.kind != Outcome::Kind::cancelled) memory_.results_.emplace(std::move(key_), result);
        if (behind_) return behind_->keep(result, std::move(done));
        done();
    }

  private:
    friend OnceMemory;
    std::shared_ptr<Retention> behind_;
    OnceMemory& memory_;
    Key key_;
    const bool may_find_;
};

std::shared_ptr<const RunResult> OnceMemory::find(const RequestKey& key) const {
    const auto found = results_.find(KeyView(key));
    return found == results_.end() ? nullptr : found->second;
}

std::shared_ptr<Retention>& OnceMemory::behind(Retention& keeper) { return static_cast<Keeper&>(keeper).behind_; }

std::shared_ptr<Retention> OnceMemory::keeper(Key key, bool may_find) {
    return std::make_shared<Keeper>(*this, std::move(key), may_find);
}

}  // namespace coalesce
