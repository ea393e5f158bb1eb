// SPDX-License-Identifier: MIT
// Results: what becomes of a request that has ended: it is printed, accounted for and counted.
//
// Each request ends here once, whatever it came to: a result of its own or a shared one, a
// refusal, the end of its patience. Output that is too long to be kept is shown while it
// comes (LongOutput). Who waits for what, and for how long, is Batch's.
#pragma once

#include <coalesce/command/key.h>
#include <coalesce/command/result.h>
#include <coalesce/flight/unique_function.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include <coalesce/batch/batch.h>
#include <coalesce/batch/delivery.h>
#include <coalesce/batch/ledger.h>
#include <coalesce/batch/long_output.h>
#include <coalesce/batch/record.h>
#include <coalesce/engine/run.h>

namespace coalesce {

class CommandExecutor;
class Loop;
class Progress;

/// A request that more must be remembered of than its place in the input: where an account,
/// a JSON result or a waiting limit needs it.
struct BatchRequester {
    std::uint64_t sequence = 0;
    std::string id;       ///< the client's, as JSON text; empty: none
    std::string command;  ///< as it was asked for
    std::string key;      ///< its hash, where the report wants it
    bool with_output = true;
    std::chrono::system_clock::time_point at;
    std::chrono::steady_clock::time_point at_steady;
};

class Results {
  public:
    /// One request's end.
    struct End {
        std::uint64_t sequence = 0;
        bool joined = false;
        bool gave_up = false;  ///< it stopped waiting; its result is as far as the run has come
        std::size_t requesters = 1;
        std::shared_ptr<const RunResult> result;
        std::unique_ptr<BatchRequester> requester;  ///< null: remember() has said that it need not be
    };
    struct Events {
        UniqueFunction<void(const Error&)> on_refused;  ///< once: the output cannot be written any more
        UniqueFunction<void()> on_progress;             ///< when something was written out
    };

    /// `options`, `executor` and `progress` must outlive it.
    Results(Loop& loop, CommandExecutor& executor, const BatchOptions& options, Ledger ledger, Progress& progress,
            Events events);

    /// What is to be kept of a request until its end; null where its place is enough.
    [[nodiscard]] std::unique_ptr<BatchRequester> remember(std::uint64_t sequence, const KeyView& key,
                                                           std::string_view command) const;

    /// Nothing is printed for that place in the input.
    void skip(std::uint64_t sequence) { delivery_.skip(sequence); }
    void add(End&& end);
    /// It is not waited for any more, since the batch ends: only its accounts say so.
    void abandon(const BatchRequester& requester, RunResult unfinished, bool joined);

    /// The run is past the replay limit and paused; `leader` is nothing where it has left.
    void stalled(FlightId run, const std::optional<LongOutput::Leader>& leader) { long_output_.begin(run, leader); }
    /// The run has landed.
    void run_landed(FlightId run) { long_output_.over(run); }

    /// Requests that wait to be written, and the recorded output that waits with them.
    [[nodiscard]] std::uint64_t waiting() const noexcept { return delivery_.waiting(); }
    [[nodiscard]] std::uint64_t backlog_bytes() const noexcept { return delivery_.backlog_bytes(); }
    /// Something is on its way out: there will be progress when it is read.
    [[nodiscard]] bool writing() const noexcept { return delivery_.writing(); }

    [[nodiscard]] BatchSummary summary() const;
    /// Ends the accounts; false if one of them could not be written.
    bool finish();

  private:
    void print(End&& end);
    [[nodiscard]] bool leaves_printing_to_another(const End& end, bool with_output);
    void keep_within_limits(std::shared_ptr<const RunResult>& result) const;
    void account(const RunResult& result, const BatchRequester& requester, bool joined, std::size_t requesters,
                 bool gave_up);

    const BatchOptions& options_;
    CommandExecutor& executor_;
    Progress& progress_;
    Ledger ledger_;
    const bool remembers_;  // of a request more than its place
    Delivery delivery_;
    LongOutput long_output_;
    BatchSummary sums_;
    // Of unique results: their leaders had no output. What was kept is known by the object, which --once remembers.
    std::set<std::pair<FlightId, const RunResult*>> unprinted_;
    std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
};

}  // namespace coalesce
