// SPDX-License-Identifier: MIT
#include <coalesce/meeting/kept_answer.h>

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

#include <coalesce/command/duration.h>
#include <coalesce/command/title.h>
#include <coalesce/meeting/attention.h>
#include <coalesce/meeting/savings.h>

namespace coalesce {
namespace {

using namespace std::chrono;

// Who would not wait for a run at all still reads what there is.
constexpr milliseconds reading{1000};

std::string told(nanoseconds time) { return format_duration(duration_cast<milliseconds>(time)); }

void say_where_from(const KeptAnswer& kept, const std::string& what, OutputRelay& relay) {
    const EntryFacts& facts = kept.hit.entry.facts();
    relay.say("coalesce: kept result of " + what + ", " + told(kept.hit.verdict.age) + " old, made in " +
              title(std::string_view(facts.directory)) + " (ran " + told(facts.duration) + ")" +
              (kept.hit.verdict.refresh ? ", refreshing\n" : "\n"));
}

OutputRelay::End pass_on(OutputRelay& relay, const Entry& entry, const Entry::Piece& piece) {
    const int to = piece.stream == Stream::out ? STDOUT_FILENO : STDERR_FILENO;
    std::string_view bytes = piece.bytes;
    Stretch stretch{.offset = piece.offset, .length = piece.length};
    while (true) {
        const OutputRelay::End end = bytes.empty() ? relay.pass(to, entry.file(), stretch) : relay.pass(to, bytes);
        if (end != OutputRelay::End::interrupted || Attention::out_of_time()) return end;
        while (Attention::take_user_signal()) {
        }
        if (Attention::called()) return end;
    }
}

RunEnd end_without_all(const RunOptions& options, OutputRelay& relay, OutputRelay::End end, Stream stream) {
    if (end == OutputRelay::End::reader_gone) return {128 + SIGPIPE, SIGPIPE};
    if (end == OutputRelay::End::refused) {
        relay.say(std::string("coalesce: cannot write to standard ") + (stream == Stream::out ? "output" : "error") +
                  ": " + std::strerror(relay.error()) + "\n");
        return {125, 0};
    }
    if (const auto number = Attention::take_signal()) return {128 + *number, *number};
    relay.say("coalesce: gave up waiting for " + options.orders.title + "\n");
    return {75, 0};
}

}  // namespace

StoreKey store_key_of(const FlightOrders& orders) {
    const auto whole = std::make_shared<const CanonicalSurroundings>(orders.canonical_surroundings);
    return store_key({surroundings_in(orders.kept->place, whole), orders.canonical_words});
}

std::optional<KeptAnswer> find_kept(const FlightOrders& orders) {
    if (!orders.kept || !orders.kept->wish.reads()) return std::nullopt;
    auto store = KeptStore::open(orders.kept->place, false);
    if (!store || !store.value()) return std::nullopt;
    auto hit = store.value()->find(store_key_of(orders), orders.kept->wish, *orders.program, now());
    if (!hit) return std::nullopt;
    return KeptAnswer{.store = std::move(*store.value()), .hit = std::move(*hit)};
}

RunEnd pass_on_kept(const RunOptions& options, const KeptAnswer& kept, OutputRelay& relay) {
    const EntryFacts& facts = kept.hit.entry.facts();
    const bool warm = options.orders.kept->wish.warm;
    if (options.wait) {
        Attention::begin();
        Attention::until(steady_clock::now() + std::max(*options.wait, reading));
    }
    if (!warm)
        for (const Entry::Piece& piece : kept.hit.entry.pieces())
            if (const auto end = pass_on(relay, kept.hit.entry, piece); end != OutputRelay::End::done)
                return end_without_all(options, relay, end, piece.stream);
    if (options.verbose) say_where_from(kept, options.orders.title, relay);
    add_savings(kept.store.directory(), {.runs = kept.hit.verdict.refresh ? 1U : 0U,
                                         .joins = warm ? 0U : 1U,
                                         .time = warm ? nanoseconds(0) : facts.duration});
    return {warm ? 0 : facts.exit_status, 0};
}

}  // namespace coalesce
