// SPDX-License-Identifier: MIT
// Result words: what a requester's user is told of a result, beside the result (SPEC R8, T24).
//
// From the messages of a flight or a server, or of what was found in the store; when it is said is the requester's
// business.
#pragma once

#include <chrono>
#include <string>

#include <coalesce/protocol/message.h>

namespace coalesce {

/// What is told of a kept result, whoever found it: "kept result of make docs, 2m old, made in /src (ran 1m)".
struct KeptFacts {
    const std::string& title;
    std::chrono::nanoseconds age;
    const std::string& directory;
    std::chrono::nanoseconds duration;
    bool refreshing;
};
[[nodiscard]] std::string kept_words(const KeptFacts& kept);
/// The same of the event "started", where a server had it; `title` is what the requester calls its command.
[[nodiscard]] std::string kept_words(const Fields& event, const std::string& title);

/// Of the event "exit", what came of the wish to keep: with -v, and always where the store could not be written (T15).
[[nodiscard]] std::string keeping_words(const Fields& event, bool verbose);

/// Of the event "exit": "shared with 2 others, ran for 3s".
[[nodiscard]] std::string shared_words(const Fields& event);

}  // namespace coalesce
