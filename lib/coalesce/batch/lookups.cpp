// SPDX-License-Identifier: MIT
#include <coalesce/batch/lookups.h>

#include <utility>

namespace coalesce {

KeptQuestion question_of(const Intake::Asking& asking) {
    return {
        .job = *asking.job, .surroundings = asking.key.surroundings, .words = asking.key.words, .wish = asking.wish};
}

void Lookups::look(Intake::Asking&& asking, Requester requester) {
    any_ = true;
    const std::uint64_t sequence = asking.sequence;
    desk_.look(question_of(asking),
               [this, sequence](std::shared_ptr<const RunResult> result) { answered(sequence, std::move(result)); });
    Key key(asking.key);
    std::string command(asking.command);
    waiting_.emplace(sequence, Waiting{.asking = std::move(asking),
                                       .key = std::move(key),
                                       .command = std::move(command),
                                       .requester = std::move(requester)});
}

void Lookups::answered(std::uint64_t sequence, std::shared_ptr<const RunResult> result) {
    auto node = waiting_.extract(sequence);
    if (!node) return;
    Waiting& waiting = node.mapped();
    Intake::Asking asking = std::move(waiting.asking).with(waiting.key, waiting.command);
    on_answered_(std::move(asking), std::move(waiting.requester), std::move(result));
}

void Lookups::abandon(UniqueFunction<void(const BatchRequester&)> take) {
    for (const auto& [sequence, waiting] : std::exchange(waiting_, {}))
        if (waiting.requester) take(*waiting.requester);
}

}  // namespace coalesce
