// SPDX-License-Identifier: MIT
// Keeping: what a wrapper's flight asks of the stores that its requesters named (SPEC T).
//
// As a rule there is one store, the leader's or the one that a joiner brought: a joiner's wish is
// enough, and outlives it (T2). Only the wish and its place travel in the message with which a
// requester joins; what is kept is of the leader's command, whose key they share. A store is opened
// when it is needed. The leader looked into it just before it began to lead, so the first run does
// not look again; those that follow in the same supervisor do (T13), and are served nothing stale: a
// supervisor starts no refresh, it runs.
#pragma once

#include <coalesce/engine/retention.h>
#include <coalesce/kept/kept_flight.h>
#include <coalesce/protocol/message.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace coalesce {

/// What one requester asks, and of which store.
struct KeptOrders {
    StorePlace place;
    Wish wish;
    bool refresh = false;  ///< it runs for the store alone
};

/// Orders as a member of the message that joins, and back; nothing where that has none.
void add_kept_orders(Message& message, const KeptOrders& orders);
[[nodiscard]] std::optional<KeptOrders> kept_orders_in(const Fields& message);

class Keeping final : public Retention {
  public:
    /// `subject` is as the flight has it: its surroundings are whole. `limits` are those of the executor; `looked`:
    /// whoever leads found nothing a moment ago.
    Keeping(KeptSubject subject, const SpoolLimits& limits, bool looked)
        : subject_(std::move(subject)), limits_(&limits), looked_(looked) {}

    /// One more requester's wish; nothing: it is served nothing that was kept.
    void add(const std::optional<KeptOrders>& orders);
    /// Whether output of so many bytes could still be kept by anyone.
    [[nodiscard]] bool could_keep(std::uint64_t bytes);

    [[nodiscard]] std::shared_ptr<const RunResult> find() override;
    void keep(const std::shared_ptr<const RunResult>& result, UniqueFunction<void()> done) override;
    /// Once everybody has been served; slow.
    void after_delivery() noexcept;
    /// The same where somebody else waits: without what is slow.
    void leave() noexcept;

    /// What came of it, for `-v`: "kept for 10m".
    [[nodiscard]] std::string words() const override;
    /// It could not be written: worth telling without `-v`.
    [[nodiscard]] bool failed() const override;

  private:
    KeptSubject subject_;
    const SpoolLimits* limits_;
    bool looked_;
    bool serves_ = true;
    std::vector<std::unique_ptr<KeptFlight>> stores_;
};

}  // namespace coalesce
