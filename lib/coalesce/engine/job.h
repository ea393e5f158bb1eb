// SPDX-License-Identifier: MIT
// Job: what a flight is to run, and how.
#pragma once

#include <coalesce/command/command.h>
#include <coalesce/command/run_class.h>

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <coalesce/engine/retention.h>
#include <coalesce/io/child.h>

namespace coalesce {

/// Made only for the request that leads.
struct Job {
    Command command;
    /// Set when the command is a shell line: it may then be executed directly.
    std::optional<std::string> line;
    std::string title;
    std::optional<std::chrono::milliseconds> timeout;  ///< of one attempt (F10)
    unsigned retries = 0;                              ///< further attempts after a failure
    std::chrono::milliseconds grace{10'000};           ///< from TERM to KILL
    std::optional<RunClass> run_class;                 ///< in which it waits for its turn
    pid_t asker = 0;                                   ///< who leads; a run that it is part of shares its turn
    std::optional<Child::Launched> launched;           ///< its first process, where that was started already
    std::shared_ptr<Retention> retention;              ///< becomes its Run's, unless that has one
    std::chrono::milliseconds asked{0};                ///< since boot: when its leader did, if before it came here
    std::string shared_as;             ///< by what those elsewhere know it (sharing.h); empty: it is not shared
    std::string shared_parts;          ///< by what they see how the key of theirs differs
    bool once = false;                 ///< among them, any earlier result will do
    bool end_only = false;             ///< of a run elsewhere nobody here wants more than its end
    std::uint32_t guard_deadline = 0;  ///< of the guard's, which whoever shares it puts off
    bool refresh = false;              ///< it runs for a store, since what that has is stale
};

}  // namespace coalesce
