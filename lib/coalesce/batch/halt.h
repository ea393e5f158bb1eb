// SPDX-License-Identifier: MIT
// Halt: when a batch stops before the end of its input (SPEC B5's --halt).
//
// The words are GNU parallel's. A number counts runs: a failure that a thousand lines
// share is one failure. A percentage is of all requests, so it is not judged before
// the input has ended: until then nobody knows what they are. Nothing is stopped here;
// whoever asks is told, once, that it is time.
#pragma once

#include <coalesce/command/outcome.h>
#include <coalesce/command/result.h>

#include <cstdint>
#include <optional>
#include <string_view>

namespace coalesce {

struct HaltRule {
    enum class Counted { fail, success, done };
    bool now = false;  ///< end what is running, rather than let it finish
    Counted counted = Counted::fail;
    bool percent = false;
    unsigned enough = 1;  ///< so many, or so many of a hundred
};

/// "now,fail=3", "soon,done=50%" …
[[nodiscard]] Result<HaltRule> parse_halt(std::string_view text);

class Halt {
  public:
    explicit Halt(std::optional<HaltRule> rule) : rule_(rule) {}

    /// Whether it matters how many requests a run had.
    [[nodiscard]] bool counts_requests() const noexcept { return rule_ && rule_->percent; }

    /// A run is over, or a kept result stands for one, for so many requests. True: stop, and so in the others.
    [[nodiscard]] bool run_over(const Outcome& outcome, std::uint64_t requests);
    /// A request that no run has ended: it was refused, gave up, or found a result.
    [[nodiscard]] bool request_over(const Outcome& outcome);
    /// The input has ended after so many requests.
    [[nodiscard]] bool input_over(std::uint64_t requests);

    [[nodiscard]] bool now() const noexcept { return rule_ && rule_->now; }
    /// What the batch exits with because it was stopped; nothing: as any other (SPEC B6).
    [[nodiscard]] std::optional<int> status() const noexcept { return status_; }

  private:
    [[nodiscard]] bool count(const Outcome& outcome, std::uint64_t many);
    [[nodiscard]] bool judge();

    std::optional<HaltRule> rule_;
    std::uint64_t counted_ = 0;
    std::optional<std::uint64_t> requests_;  // once all are known
    Outcome last_;                           // of those that counted
    std::optional<int> status_;
    bool met_ = false;
};

}  // namespace coalesce
