// SPDX-License-Identifier: MIT
// The trace of the model test: what was done to the real group and what it did,
// in one line of entries. An operation may contain events (a callback, a start,
// a cancel callback, the end of a captured object), and an event contains the
// operations that were made inside it, up to its kEnd.
#pragma once

#include <cstddef>
#include <iostream>
#include <string>
#include <vector>

namespace coalesce::test::model {

enum class Kind {
    // operations, made by the driver
    kJoin,
    kThen,
    kLeave,
    kDrop,
    kDetach,
    kStop,
    kValue,
    kError,
    kDropCompleter,
    kClose,
    kOpen,
    kKeep,
    kLetGo,
    kQueue,
    kBegin,
    kOnCancel,
    kStopToken,
    kCancel,
    kCancelId,
    kForget,
    kStep,
    kDestroyGroup,
    kLook,
    // what an operation returned
    kJoined,
    kThrew,
    kReturned,
    // events, made by the code under test
    kStart,
    kCall,
    kCancelled,
    kAlone,
    kCallbackGone,
    kStartGone,
    kEnd,
};

inline const char* name(Kind kind) {
    static constexpr const char* kNames[] = {
        "join",          "then",           "leave",         "drop",       "detach",      "stop",   "value",
        "error",         "drop-completer", "close",         "open",       "keep",        "let-go", "queue",
        "begin",         "on-cancel",      "stop-token",    "cancel",     "cancel-id",   "forget", "step",
        "destroy-group", "look",           "-> joined",     "-> threw",   "-> returned", "START",  "CALL",
        "CANCELLED",     "ALONE",          "CALLBACK-GONE", "START-GONE", "end"};
    return kNames[static_cast<std::size_t>(kind)];
}

struct Entry {
    Kind kind;
    std::vector<long> numbers;
    std::string text;

    friend bool operator==(const Entry&, const Entry&) = default;
    friend std::ostream& operator<<(std::ostream& out, const Entry& entry) {
        out << name(entry.kind);
        for (const long number : entry.numbers) out << ' ' << number;
        return out << ' ' << entry.text;
    }
};

/// Separates the parts of what a look has seen.
inline constexpr long kNextPart = -777;

using Trace = std::vector<Entry>;

}  // namespace coalesce::test::model
