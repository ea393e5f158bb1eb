// SPDX-License-Identifier: MIT
// Submission: how a request of a batch becomes a requester of a flight.
//
// It joins, or leads with a job that has what the batch asks for all of them: the memory of --once, the
// store's keeper behind it, the name by which other machines know the run. A line's job is made only
// where it leads.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include <coalesce/batch/batch.h>
#include <coalesce/batch/intake.h>
#include <coalesce/batch/once.h>
#include <coalesce/engine/command_executor.h>
#include <coalesce/kept/kept_desk.h>

namespace coalesce {

class Submission {
  public:
    /// All of them must outlive it. `cluster`: of machines with which runs are shared; null: with none.
    Submission(CommandExecutor& executor, const BatchOptions& options, const Intake& intake, KeptDesk& desk,
               OnceMemory& once, Cluster* cluster)
        : executor_(executor), options_(options), intake_(intake), desk_(desk), once_(once), cluster_(cluster) {}

    [[nodiscard]] RunTicket submit(Intake::Asking& asking);

    /// An earlier result that will do for it; null: there is none, or it is not asked for.
    [[nodiscard]] std::shared_ptr<const RunResult> result_of_earlier(const Intake::Asking& asking) const;
    /// A result that came from the store.
    void remember(const RequestKey& key, const std::shared_ptr<const RunResult>& result);

  private:
    template <class Line>
    struct LineToLead;
    // Whether it has part in that memory: what is like no other request has not.
    [[nodiscard]] bool once(const RequestKey& key) const { return options_.once && !is_unshared(key.words); }
    [[nodiscard]] std::shared_ptr<Retention> keeper_of(const Intake::Asking& asking) const;
    [[nodiscard]] RunTicket submit_and_keep(Intake::Asking& asking);
    // `keeper`: the request's; null: it wishes nothing.
    [[nodiscard]] RunTicket submit_job(Intake::Asking& asking, std::shared_ptr<Retention> keeper);
    [[nodiscard]] Job job_of_line(std::string line);
    void share(Job& job, const RequestKey& key);

    CommandExecutor& executor_;
    const BatchOptions& options_;
    const Intake& intake_;
    KeptDesk& desk_;
    OnceMemory& once_;
    Cluster* const cluster_;
};

}  // namespace coalesce
