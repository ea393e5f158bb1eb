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

    void keep(const std::shared_ptr<const RunResult>& result, UniqueFunction<void()> done) override {
        if (result->outcome.kind != Outcome::Kind::cancelled) memory_.remember(std::move(key_), result);
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
    const auto& [first, youngest] = found->second;
    if (!wish.fresh && !wish.max_age) return first;  // of a million lines nobody asks what time it is
    const Moment at = now();
    if (may_join(wish, first->started, at)) return first;
    return youngest && may_join(wish, youngest->started, at) ? youngest : nullptr;
}

// The first one stays: those who came for it were told that it is the line's result.
void OnceMemory::remember(Key key, const std::shared_ptr<const RunResult>& result) {
    const auto [found, is_first] = results_.try_emplace(std::move(key), Remembered{result, nullptr});
    if (is_first) return;
    auto& [first, youngest] = found->second;
    if (result->started > (youngest ? youngest : first)->started) youngest = result;
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
