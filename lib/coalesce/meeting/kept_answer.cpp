// SPDX-License-Identifier: MIT
#include <coalesce/meeting/kept_answer.h>

#include <algorithm>
#include <string>
#include <utility>

#include <coalesce/meeting/attention.h>
#include <coalesce/kept/savings.h>
#include <coalesce/meeting/past_output.h>
#include <coalesce/meeting/result_words.h>
#include <coalesce/meeting/tail.h>

namespace coalesce {
namespace {

using namespace std::chrono;

// Who would not wait for a run at all still reads what there is.
constexpr milliseconds reading{1000};

Extent extent_of(const Entry& entry, const Entry::Piece& piece) {
    const bool in_file = piece.bytes.empty();
    return {.bytes = piece.bytes,
            .file = in_file ? entry.file() : -1,
            .offset = piece.offset,
            .length = in_file ? piece.length : piece.bytes.size()};
}

// The same of its last lines alone.
std::optional<RunEnd> pass_on_tail(const RunOptions& options, const Entry& entry, OutputRelay& relay) {
    Tail tail(*options.tail, options.orders.spool_directory);
    for (const Entry::Piece& piece : entry.pieces())
        if (auto taken = tail.take(piece.stream, extent_of(entry, piece)); !taken) {
            relay.say("coalesce: cannot " + taken.error().message() + "\n");
            return RunEnd{125, 0};
        }
    return tail.pass_on(options.orders.title, relay);
}

}  // namespace

std::optional<RunEnd> pass_on_output(const Entry& entry, const std::string& title, OutputRelay& relay) {
    for (const Entry::Piece& piece : entry.pieces())
        if (const auto end = pass_on_past(piece.stream, extent_of(entry, piece), title, relay)) return end;
    return std::nullopt;
}

StoreKey store_key_of(const FlightOrders& orders) {
    const auto whole = std::make_shared<const CanonicalSurroundings>(orders.canonical_surroundings);
    const auto in_store = surroundings_in(orders.kept->place, whole);
    return store_key({in_store, orders.canonical_words}, in_store == whole ? orders.key : std::string());
}

std::optional<KeptAnswer> find_kept(const FlightOrders& orders, const Wish& wish) {
    if (!wish.reads()) return std::nullopt;
    auto store = KeptStore::open(orders.kept->place, false);
    if (!store || !store.value()) return std::nullopt;
    auto hit = store.value()->find(store_key_of(orders), wish, *orders.program, now());
    if (!hit) return std::nullopt;
    return KeptAnswer{.store = std::move(*store.value()), .hit = std::move(*hit)};
}

std::optional<KeptAnswer> find_kept(const FlightOrders& orders) {
    return orders.kept ? find_kept(orders, orders.kept->wish) : std::nullopt;
}

RunEnd pass_on_kept(const RunOptions& options, const KeptAnswer& kept, OutputRelay& relay) {
    const EntryFacts& facts = kept.hit.entry.facts();
    const bool warm = options.orders.kept->wish.warm;
    if (options.wait) {
        Attention::begin();
        Attention::until(steady_clock::now() + std::max(*options.wait, reading));
    }
    if (!warm) {
        const Entry& entry = kept.hit.entry;
        const auto end =
            options.tail ? pass_on_tail(options, entry, relay) : pass_on_output(entry, options.orders.title, relay);
        if (end) return *end;
    }
    if (options.verbose)
        relay.say("coalesce: " +
                  kept_words({.title = options.orders.title,
                              .age = kept.hit.verdict.age,
                              .directory = facts.directory,
                              .duration = facts.duration,
                              .refreshing = kept.hit.verdict.refresh}) +
                  "\n");
    if (!warm) add_savings(kept.store.directory(), {.joins = 1, .time = facts.duration});
    return {warm ? 0 : facts.exit_status, 0};
}

}  // namespace coalesce
