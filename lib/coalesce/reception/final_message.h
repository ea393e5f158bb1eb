// SPDX-License-Identifier: MIT
// FinalMessages: what a requester is told at its end, by the form that it asked for (SPEC S4).
//
// The whole result, the line that ends what it followed, or why there is none. Short results that
// many ask for are rendered once. That it is the last message, and the only one of its kind, is the
// reception's promise.
#pragma once

#include <string>

#include <coalesce/reception/requester.h>
#include <coalesce/reception/shared_answer.h>

namespace coalesce {

class FinalMessages {
  public:
    /// What its flight has landed with.
    void send(Requester& requester, const Landing<RunResult>& landing);

  private:
    static void refuse(const Requester& requester, const Landing<RunResult>& landing);
    static void end_following(Requester& requester, const std::string& last_line);
    void answer_whole(Requester& requester, const Landing<RunResult>& landing);

    SharedAnswer shared_answer_;
};

}  // namespace coalesce
