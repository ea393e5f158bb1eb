// SPDX-License-Identifier: MIT
#include <coalesce/batch/once.h>

#include <algorithm>
#include <utility>

#include <coalesce/kept/verdict.h>

namespace coalesce {

class OnceMemory::Keeper final : public Retention {
  public:
    Keeper(OnceMemory& memory, Key key, std::optional<Wish> wish)
        : memory_(memory), key_(std::move(key)), wish_(wish) {}

    std::shared_ptr<const RunResult> find() override {
        return wish_ ? memory_.find({key_.surroundings, key_.words}, *wish_) : nullptr;
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
    std::optional<Wish> wish_;
};

std::shared_ptr<const RunResult> OnceMemory::find(const RequestKey& key, const Wish& wish) const {
    const auto found = results_.find(key);
    if (found == results_.end()) return nullptr;
    if (!wish.fresh && !wish.max_age) return found->second;  // of a million lines nobody asks what time it is
    return may_join(wish, found->second->started, now()) ? found->second : nullptr;
}

void OnceMemory::narrow(Retention& keeper, const std::optional<Wish>& wish) {
    std::optional<Wish>& own = static_cast<Keeper&>(keeper).wish_;
    if (!wish || wish->fresh) return own.reset();
    if (!own || !wish->max_age) return;
    own->max_age = std::min(own->max_age.value_or(*wish->max_age), *wish->max_age);
}

std::shared_ptr<Retention>& OnceMemory::behind(Retention& keeper) { return static_cast<Keeper&>(keeper).behind_; }

std::shared_ptr<Retention> OnceMemory::keeper(Key key, std::optional<Wish> wish) {
    return std::make_shared<Keeper>(*this, std::move(key), wish);
}

}  // namespace coalesce
