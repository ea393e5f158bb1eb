// SPDX-License-Identifier: MIT
// Lookups: requests of a batch about which the store is asked before they ask for a run (SPEC T13).
//
// Each is handed over whole, waits here, and comes back with what answers it, or with nothing; in the
// order in which they came, so that those who then lead do so in the order of the input. A batch that
// wishes nothing of the store has none, and opens none of its files (T1).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include <coalesce/batch/intake.h>
#include <coalesce/batch/results.h>
#include <coalesce/kept/kept_desk.h>

namespace coalesce {

class Lookups {
  public:
    using Requester = std::unique_ptr<BatchRequester>;
    /// What the asking points to lasts as long as the call. `result` is null where a run is to be asked for.
    using Answered = UniqueFunction<void(Intake::Asking&&, Requester, std::shared_ptr<const RunResult> result)>;

    Lookups(KeptDesk& desk, Answered on_answered) : desk_(desk), on_answered_(std::move(on_answered)) {}

    /// The asking has its job.
    void look(Intake::Asking&& asking, Requester requester);
    [[nodiscard]] std::size_t count() const noexcept { return waiting_.size(); }
    /// Whether the store has been asked at all.
    [[nodiscard]] bool any() const noexcept { return any_; }
    /// Nobody waits any more; whoever did and is remembered is handed over.
    void abandon(UniqueFunction<void(const BatchRequester&)> take);

  private:
    struct Waiting {
        Intake::Asking asking;  // its key and command are these
        Key key;
        std::string command;
        Requester requester;
    };
    void answered(std::uint64_t sequence, std::shared_ptr<const RunResult> result);

    KeptDesk& desk_;
    Answered on_answered_;
    std::map<std::uint64_t, Waiting> waiting_;  // by the line's number
    bool any_ = false;
};

/// What a request asks of the store, for the desk.
[[nodiscard]] KeptQuestion question_of(const Intake::Asking& asking);

}  // namespace coalesce
