// SPDX-License-Identifier: MIT
#include <coalesce/batch/halt.h>

#include <string>
#include <utility>

#include <coalesce/command/command.h>
#include <coalesce/command/number.h>

namespace coalesce {

Result<HaltRule> parse_halt(std::string_view text) {
    const Error wrong{{},
                      display_word(text) + " is not one of now or soon, a comma, one of fail, success or done, " +
                          "and =N or =N%, such as soon,fail=10%"};
    HaltRule rule;
    const auto take = [&text](std::string_view word) {
        if (!text.starts_with(word)) return false;
        text.remove_prefix(word.size());
        return true;
    };
    if (take("now,"))
        rule.now = true;
    else if (!take("soon,"))
        return wrong;
    if (take("success="))
        rule.counted = HaltRule::Counted::success;
    else if (take("done="))
        rule.counted = HaltRule::Counted::done;
    else if (!take("fail="))
        return wrong;
    rule.percent = text.ends_with('%');
    if (rule.percent) text.remove_suffix(1);
    if (!read_whole_number(text, rule.enough) || rule.enough == 0) return wrong;
    if (rule.percent && rule.enough > 100) return wrong;
    return rule;
}

bool Halt::run_over(const Outcome& outcome, std::uint64_t requests) {
    return count(outcome, counts_requests() ? requests : 1);
}

bool Halt::request_over(const Outcome& outcome) { return counts_requests() && count(outcome, 1); }

bool Halt::input_over(std::uint64_t requests) {
    requests_ = requests;
    return judge();
}

bool Halt::count(const Outcome& outcome, std::uint64_t many) {
    if (!rule_ || outcome.withdrawn()) return false;
    if (rule_->counted != HaltRule::Counted::done &&
        outcome.success() != (rule_->counted == HaltRule::Counted::success))
        return false;
    counted_ += many;
    if (!met_) last_ = outcome;
    return judge();
}

bool Halt::judge() {
    if (!rule_ || met_ || counted_ == 0) return false;
    if (rule_->percent && !requests_) return false;
    if (rule_->percent ? counted_ * 100 < rule_->enough * *requests_ : counted_ < rule_->enough) return false;
    met_ = true;
    if (rule_->counted == HaltRule::Counted::success)
        status_ = 0;
    else if (!last_.success())
        status_ = last_.status();
    return true;
}

}  // namespace coalesce
