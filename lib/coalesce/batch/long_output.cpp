// SPDX-License-Identifier: MIT
#include <coalesce/batch/long_output.h>

#include <coalesce/batch/delivery.h>
#include <coalesce/command/size.h>
#include <coalesce/engine/command_executor.h>
#include <coalesce/io/loop.h>

namespace coalesce {

LongOutput::LongOutput(Loop& loop, CommandExecutor& executor, Delivery& delivery, std::uint64_t replay_bytes,
                       bool as_text)
    : loop_(loop), executor_(executor), delivery_(delivery), replay_bytes_(replay_bytes), as_text_(as_text) {}

void LongOutput::begin(FlightId run, const std::optional<Leader>& leader) {
    if (live_.contains(run) || drains_.contains(run)) return;
    if (!leader) return executor_.refuse(run, refusal());
    if (!leader->with_output) return drain(run);
    if (!as_text_) return executor_.refuse(run, refusal());
    live_.emplace(run, leader->sequence);
    std::shared_ptr<CommandExecutor::Loan> loan;
    if (!delivery_.is_next(leader->sequence))  // it is paused, and one whose turn is before may wait for its place
        loan = std::make_shared<CommandExecutor::Loan>(executor_.lend_place_of(run));
    delivery_.add_live(leader->sequence, executor_.spool_of(run), std::move(loan));
}

bool LongOutput::shown_to(FlightId run, std::uint64_t sequence) const {
    const auto live = live_.find(run);
    return live != live_.end() && live->second == sequence;
}

void LongOutput::give_up(FlightId run) { executor_.refuse(run, refusal()); }

// On a later turn: the run is being recorded just now.
void LongOutput::drain(FlightId run) {
    drains_.emplace(run, nullptr);
    loop_.post([this, run] {
        const auto spool = executor_.spool_of(run);
        const auto found = drains_.find(run);
        if (!spool || found == drains_.end()) return;
        const auto read_on = [reader = &found->second] {
            while (const auto piece = (*reader)->next()) (*reader)->advance(piece->extent.length);
        };
        found->second = std::make_unique<SpoolReader>(*spool, SpoolReader::AtTheEnd{},
                                                      read_on);  // others may have let its beginning go
        read_on();
    });
}

Outcome LongOutput::refusal() const {
    return Outcome::refused(0, "the output is longer than the replay limit of " + format_size(replay_bytes_) +
                                   "; raise it with --replay-limit");
}

}  // namespace coalesce
