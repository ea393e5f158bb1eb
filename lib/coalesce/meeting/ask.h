// SPDX-License-Identifier: MIT
// Asking flights and servers: one line there, one line back.
//
// Whoever only asks is not held up by one that was stopped, or that does not take its
// connection: after a few seconds there is no answer, and at once where who asks is told to end (SPEC R5).
#pragma once

#include <coalesce/command/result.h>

#include <optional>
#include <string>

#include <coalesce/io/descriptor.h>

namespace coalesce {

/// Sends one line to the flight that was connected to and returns the one that is answered;
/// no value: there is no such flight (any more).
std::optional<std::string> ask_flight(Result<Descriptor> connected, const std::string& line);

/// The same with the server at `path`.
Result<std::string> ask_server(const std::string& path, const std::string& line);

}  // namespace coalesce
