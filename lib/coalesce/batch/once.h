// SPDX-License-Identifier: MIT
// OnceMemory: the results of a batch that runs each distinct line once (SPEC B3's --once).
//
// A flight of such a batch has a keeper, which the executor tells its result before the
// key is free: a line that is read between a run's end and its delivery must not run
// again. It lives as long as the batch and holds what every distinct line has put out.
#pragma once

#include <coalesce/command/key.h>
#include <coalesce/command/wish.h>
#include <coalesce/engine/command_executor.h>

#include <memory>
#include <optional>
#include <unordered_map>

#include <coalesce/engine/retention.h>
#include <coalesce/engine/run.h>

namespace coalesce {

class OnceMemory {
  public:
    /// The result of an earlier run; null if there was none that started late enough for that wish (T3).
    [[nodiscard]] std::shared_ptr<const RunResult> find(const RequestKey& key, const Wish& wish) const;
    /// For the Job of this key, which an earlier result may answer, even one that comes while it waits to be
    /// admitted, if it is as `wish` has it; nothing: none will do. The memory must outlive it.
    [[nodiscard]] std::shared_ptr<Retention> keeper(Key key, std::optional<Wish> wish);
    /// One more waits for what that keeper finds, and has this to say of it.
    static void narrow(Retention& keeper, const std::optional<Wish>& wish);
    /// The one behind a keeper of ours, which keeps longer than a batch lasts and is told as well; it may be null.
    [[nodiscard]] static std::shared_ptr<Retention>& behind(Retention& keeper);
    /// A result that came from elsewhere than a run.
    void remember(const RequestKey& key, const std::shared_ptr<const RunResult>& result) { remember(Key(key), result); }

  private:
    class Keeper;
    struct Remembered {
        std::shared_ptr<const RunResult> first;     // for whoever does not say how old it may be
        std::shared_ptr<const RunResult> youngest;  // of those after it
    };
    void remember(Key key, const std::shared_ptr<const RunResult>& result);

    std::unordered_map<Key, Remembered, KeyHash, KeyEqual> results_;
};

}  // namespace coalesce
