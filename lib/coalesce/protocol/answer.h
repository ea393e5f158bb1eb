// SPDX-License-Identifier: MIT
// Answer: the messages that a requester hears of its run, and a flight in the answer to "status".
//
// Server and supervisor speak through these, so that a word is the same at both doors
// (coalesce-protocol(7)). Output travels by Rendering or DescriptorRelay; who is told what,
// and when, is the reception's.
#pragma once

#include <coalesce/engine/run.h>

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include <coalesce/engine/run_times.h>
#include <coalesce/protocol/message.h>
#include <coalesce/protocol/rendering.h>

namespace coalesce {

/// Why a run did not end by itself, in the protocol's word; empty: it did.
[[nodiscard]] std::string_view code_of(const Outcome& outcome);

/// A message about the request of that id (JSON text; empty: it has none), yet without anything else.
[[nodiscard]] Message message_to(std::string_view id);

/// The line that says why a request got no result.
[[nodiscard]] std::string error_line(std::string_view id, std::string_view code, std::string_view why);

/// What a requester is told of the start, beside the Run.
struct StartFacts {
    bool joined = false;
    std::size_t waiting = 0;
    std::optional<Usually> usually = {};
};

/// The line that tells a requester of the start. Who joined is told what it joined: with a
/// key of one's own that may be another command.
[[nodiscard]] std::string started_line(std::string_view id, const Run& run, const StartFacts& started);

/// The line that says that a run waits, for an earlier one or for others of its class; for how long, if that can be
/// guessed.
[[nodiscard]] std::string waiting_line(std::string_view id, const Run& run,
                                       std::optional<std::chrono::milliseconds> turn);

/// What such a line says of the time that earlier runs took.
[[nodiscard]] std::optional<Usually> usually_in(const Fields& message);

/// Adds how a run ended: "exit" or "signal", and where it did not end by itself "code" and "message".
void add_end(Message& message, const RunResult& result, const std::string& command);

/// The same where nothing runs for it: what was kept is passed on.
[[nodiscard]] std::string kept_line(std::string_view id, const RunResult& result);

/// A result that had been kept: {"age":…,"left":…,"refreshing":…}.
[[nodiscard]] Message kept_facts(const KeptMark& kept);

/// The last line in the modes that send output as it comes.
[[nodiscard]] std::string exit_line(const RunResult& result, const Delivered& delivered);

/// What "status" tells of one flight, beside its Run.
struct FlightStatus {
    std::string_view name;  ///< which no other run has
    std::string_view key;   ///< its hash
    std::size_t waiting = 0;
    std::optional<Usually> usually = {};
    std::optional<std::chrono::milliseconds> turn = {};  ///< of one that has not started: until it does, as a guess
};

/// One element of the answer to "status".
[[nodiscard]] std::string flight_object(const Run& run, const FlightStatus& status);

}  // namespace coalesce
