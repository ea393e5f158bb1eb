// SPDX-License-Identifier: MIT
// JoinOptions: what one request asks for beyond its key.
//
// The defaults are the ordinary request, and cost a join nothing. Deadlines are
// left to the caller's loop: a requester that gives up leaves, and a stop token
// says that from elsewhere on the same thread.
#pragma once

#include <coalesce/flight/flight_ref.h>

#include <stop_token>

namespace coalesce {

/// Options of Group::join.
struct JoinOptions {
    /// Only a run that begins after this request will do.
    bool fresh = false;
    /// Nobody waits on this request's behalf: ignore FlightRef::current() as well.
    bool independent = false;
    /// The flight whose run makes this request; by default the one whose start is on the stack.
    FlightRef on_behalf_of = {};
    /// Leaves when stopped; operation_canceled is delivered. Stop it on the group's thread.
    std::stop_token stop = {};
};

}  // namespace coalesce
