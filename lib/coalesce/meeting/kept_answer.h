// SPDX-License-Identifier: MIT
// A kept answer: what the store has for a wrapper's request, passed on as its run would have been (SPEC T14).
//
// Looked for before anything else is opened, and again by whoever is about to lead. It prints nothing of its
// own (-v aside), waits for nothing but its reader, and counts what it has spared.
#pragma once

#include <optional>

#include <coalesce/kept/store.h>
#include <coalesce/meeting/output_relay.h>
#include <coalesce/meeting/requester.h>

namespace coalesce {

struct KeptAnswer {
    KeptStore store;
    KeptStore::Hit hit;
};

/// The key of the request's results in its store.
[[nodiscard]] StoreKey store_key_of(const FlightOrders& orders);

/// What is kept and grants the request's wish; nothing also where the store cannot be read.
[[nodiscard]] std::optional<KeptAnswer> find_kept(const FlightOrders& orders);

/// Passes it on to our own stdout and stderr (with --warm: nothing of it), and says how the request ends.
[[nodiscard]] RunEnd pass_on_kept(const RunOptions& options, const KeptAnswer& kept, OutputRelay& relay);

}  // namespace coalesce
