// SPDX-License-Identifier: MIT
// Request lines: what a requester asks for, in the words of whom it asks.
//
// A flight's socket was found by the key, so a join says only how it is joined, and within which limits the run behind
// it would be ours; a server knows nothing of us and gets the whole request.
#pragma once

#include <string>

#include <coalesce/meeting/requester.h>

namespace coalesce {

/// How much of a run's start the requester wants word of, and what it can say of whom it asks for.
struct JoinTerms {
    bool quiet = false;
    bool knows_ancestry = false;  ///< also where it has none
};
[[nodiscard]] std::string joining_line(const RunOptions& options, const JoinTerms& terms);
[[nodiscard]] std::string server_request(const RunOptions& options, bool quiet);

}  // namespace coalesce
