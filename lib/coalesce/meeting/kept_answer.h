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

/// What is kept and grants the wish, of a request that has one; nothing also where the store cannot be read.
[[nodiscard]] std::optional<KeptAnswer> find_kept(const FlightOrders& orders, const Wish& wish);
/// What grants the request's own; nothing for one that has none.
[[nodiscard]] std::optional<KeptAnswer> find_kept(const FlightOrders& orders);

/// Passes an entry's output on to our own stdout and stderr. Nothing when that is done; else how we end, which
/// has been told. `title` names the command.
[[nodiscard]] std::optional<RunEnd> pass_on_output(const Entry& entry, const std::string& title, OutputRelay& relay);

/// Passes it on to our own stdout and stderr (with --warm: nothing of it), and says how the request ends.
[[nodiscard]] RunEnd pass_on_kept(const RunOptions& options, const KeptAnswer& kept, OutputRelay& relay);

}  // namespace coalesce
