// SPDX-License-Identifier: MIT
// SharedAnswer: the result line that many get, made once.
//
// Thousands who waited for one run get the same bytes but for their ids, so the answer
// without an id is kept until another is wanted. It holds no output longer than its run
// is held by somebody else.
#pragma once

#include <memory>
#include <string>

#include <coalesce/protocol/rendering.h>

namespace coalesce {

class SharedAnswer {
  public:
    /// The line for this requester, whose id is put in; nothing where the output cannot be read back.
    [[nodiscard]] std::optional<std::string> line_for(const std::shared_ptr<const RunResult>& result,
                                                      const Delivered& delivered);

  private:
    [[nodiscard]] bool fits(const std::shared_ptr<const RunResult>& result, const Delivered& delivered) const;
    [[nodiscard]] bool make(const std::shared_ptr<const RunResult>& result);

    std::weak_ptr<const RunResult> result_;  // its spool may go
    Delivered anybody_;                      // but for the id
    std::string text_;
};

}  // namespace coalesce
