// SPDX-License-Identifier: MIT
// Operations: what a client asks besides commands, about flights and its own requests.
//
// Status, cancel, leave and signal, answered in the protocol's words and by the same rules
// at both doors: which of them a door offers, and how it is asked, is the door's.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include <coalesce/reception/reception.h>

namespace coalesce {

/// A line that no request can be: it was cut, and the rest of it is passed over.
void refuse_too_long(Reception& reception, Client& client);

/// What status tells of one flight, as JSON text; `turn`, of one that waits, as expectations() has it.
[[nodiscard]] std::string object_of(const Reception& reception, LiveFlight& flight,
                                    std::optional<std::chrono::milliseconds> turn = {});

/// An array of all that the client may see, oldest first, as JSON text.
[[nodiscard]] std::string flights_seen_by(Reception& reception, const Client& client);

/// The live flights that the client may see, oldest first.
void tell_status(Reception& reception, Client& client, std::string_view id);

/// Ends for everyone the one flight whose name begins with `name`. Returns its whole name; empty: the client was told
/// why there is none to end.
std::string cancel_flight(Reception& reception, Client& client, std::string_view id, std::string_view name);

/// The client's own request of that id stops waiting; its answer says so.
void leave_request(Reception& reception, Client& client, const std::string& id);

/// A signal that the client's own request of that id got: for the command, or a reason to leave (SPEC R5).
void signal_request(Reception& reception, Client& client, const std::string& id, int number);

}  // namespace coalesce
