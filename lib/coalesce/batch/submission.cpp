// SPDX-License-Identifier: MIT
#include <coalesce/batch/submission.h>

#include <memory>
#include <optional>
#include <utility>

#include <coalesce/batch/lookups.h>
#include <coalesce/cluster/cluster.h>

namespace coalesce {

// Copied only where it has to wait: who joins leads nothing.
template <class Line>
struct Submission::LineToLead {
    Submission& submission;
    Line line;

    Job operator()() { return submission.job_of_line(std::string(std::move(line))); }
    LineToLead<std::string> own() && { return {submission, std::string(std::move(line))}; }
};

std::shared_ptr<const RunResult> Submission::result_of_earlier(const Intake::Asking& asking) const {
    return options_.once && !asking.fresh ? once_.find(asking.key, asking.wish) : nullptr;
}

void Submission::remember(const RequestKey& key, const std::shared_ptr<const RunResult>& result) {
    if (result->kept && once(key)) once_.remember(key, result);
}

std::shared_ptr<Retention> Submission::keeper_of(const Intake::Asking& asking) const {
    return once_.keeper(Key(asking.key), asking.fresh ? std::nullopt : std::optional<Wish>(asking.wish));
}

RunTicket Submission::submit(Intake::Asking& asking) {
    const bool particular = (asking.fresh || asking.wish.max_age) && once(asking.key);
    RunTicket ticket = submit_and_keep(asking);
    if (!particular || ticket.leader() || ticket.landed()) return ticket;
    // Its leader may wait for an earlier run to end, and would take what that comes to.
    std::shared_ptr<Retention>& retention = ticket.state().retention;
    if (!retention) retention = keeper_of(asking);
    OnceMemory::narrow(*retention, asking.fresh ? std::nullopt : std::optional<Wish>(asking.wish));
    return ticket;
}

RunTicket Submission::submit_and_keep(Intake::Asking& asking) {
    if (!asking.wish.anything()) return submit_job(asking, nullptr);
    if (!asking.job) asking.job = intake_.job_of_line(std::string(asking.command));
    asking.fresh = !may_join(asking.wish, executor_.flights().find_state(KeyView(asking.key)), now());
    const auto keeper = asking.wish.keeps() ? desk_.keeper(question_of(asking)) : nullptr;
    RunTicket ticket = submit_job(asking, keeper);
    if (!keeper || ticket.landed()) return ticket;
    std::shared_ptr<Retention>& retention = ticket.state().retention;
    const bool has_part = once(asking.key);
    if (has_part && !retention) retention = keeper_of(asking);
    KeptDesk::share(has_part ? OnceMemory::behind(*retention) : retention, keeper);
    return ticket;
}

RunTicket Submission::submit_job(Intake::Asking& asking, std::shared_ptr<Retention> keeper) {
    if (!asking.job) return executor_.submit(asking.key, LineToLead<std::string_view>{*this, asking.command});
    const bool has_part = once(asking.key);
    if (has_part) asking.job->retention = keeper_of(asking);
    share(*asking.job, asking.key);
    return executor_.submit(
        asking.key,
        [this, job = std::move(*asking.job), key = Key(asking.key), keeper = std::move(keeper), has_part]() mutable {
            auto& retention = has_part ? OnceMemory::behind(*job.retention) : job.retention;
            if (!keeper)
                keeper = desk_.keeper({.job = job, .surroundings = key.surroundings, .words = key.words, .wish = {}});
            retention = std::move(keeper);
            return std::move(job);
        },
        {.fresh = asking.fresh});
}

Job Submission::job_of_line(std::string line) {
    std::shared_ptr<Retention> keeper;
    if (options_.once && !options_.rules.no_share) keeper = once_.keeper(intake_.key_of_line(line), Wish{});
    std::optional<Key> key;
    if (cluster_ != nullptr) key.emplace(intake_.key_of_line(line));
    Job job = intake_.job_of_line(std::move(line));
    job.retention = std::move(keeper);
    if (key) share(job, {key->surroundings, key->words});
    return job;
}

void Submission::share(Job& job, const RequestKey& key) {
    if (cluster_ == nullptr) return;
    cluster_->share(job, key);
    job.once = options_.once;
    // Where one line may wish that its result be kept, all of it is needed.
    const bool may_be_kept =
        options_.wish.anything() || options_.options_for || options_.input == BatchOptions::Input::json;
    job.end_only = options_.unique && !may_be_kept;
}

}  // namespace coalesce
