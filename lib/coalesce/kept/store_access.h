// SPDX-License-Identifier: MIT
// StoreAccess: one store for a process that asks it often, opened when it is first needed.
//
// Nothing is made before there is something to keep, and a store that is removed under a long-lived
// process (a cache is something that people remove) is made anew. Who was given the store has it for
// as long as it likes. Any thread may ask.
#pragma once

#include <coalesce/command/result.h>

#include <memory>
#include <mutex>
#include <utility>

#include <coalesce/kept/store.h>

namespace coalesce {

class StoreAccess {
  public:
    explicit StoreAccess(StorePlace place) : place_(std::move(place)) {}

    /// The store; null: there is none and `make` is not set.
    [[nodiscard]] Result<std::shared_ptr<const KeptStore>> open(bool make);
    [[nodiscard]] const StorePlace& place() const noexcept { return place_; }

  private:
    const StorePlace place_;
    std::mutex mutex_;
    std::shared_ptr<const KeptStore> store_;
};

}  // namespace coalesce
