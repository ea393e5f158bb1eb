// SPDX-License-Identifier: MIT
#include <coalesce/meeting/keeping.h>

#include <algorithm>
#include <utility>

namespace coalesce {
namespace {

using namespace std::chrono;

constexpr std::string_view times[] = {"ttl", "max_age", "stale", "keep_failures"};

std::optional<milliseconds>& time_of(Wish& wish, std::string_view name) {
    if (name == "ttl") return wish.ttl;
    if (name == "max_age") return wish.max_age;
    return name == "stale" ? wish.stale : wish.keep_failures;
}

}  // namespace

void add_kept_orders(Message& message, const KeptOrders& orders) {
    Message kept;
    Wish wish = orders.wish;
    for (const std::string_view name : times)
        if (const auto time = time_of(wish, name)) kept.number(name, time->count());
    kept.flag("fresh", wish.fresh)
        .bytes("base", orders.place.base)
        .text("store", orders.place.name)
        .flag("shared", orders.place.shared);
    message.raw("kept", kept.object());
}

std::optional<KeptOrders> kept_orders_in(const Fields& message) {
    if (!message.has("kept")) return std::nullopt;
    const auto kept = Fields::parse(message.raw("kept"));
    if (!kept) return std::nullopt;
    KeptOrders orders;
    for (const std::string_view name : times)
        if (kept->has(name)) time_of(orders.wish, name) = milliseconds(kept->number(name));
    orders.wish.fresh = kept->flag("fresh");
    orders.place = {
        .base = kept->bytes("base").value_or(""), .name = kept->text("store"), .shared = kept->flag("shared")};
    if (orders.place.base.empty() || orders.place.name.empty()) return std::nullopt;
    return orders;
}

void Keeping::add(const std::optional<KeptOrders>& orders) {
    if (!orders) {
        serves_ = false;
        return;
    }
    const auto known = std::find_if(stores_.begin(), stores_.end(),
                                    [&](const auto& flight) { return flight->place().path() == orders->place.path(); });
    if (known != stores_.end()) return (*known)->share_with(orders->wish);
    serves_ = serves_ && stores_.empty();  // what one has is not looked for in the other
    KeptSubject subject = subject_;
    subject.surroundings = surroundings_in(orders->place, subject_.surroundings);
    auto flight = std::make_unique<KeptFlight>(std::make_shared<StoreAccess>(orders->place), std::move(subject),
                                               orders->wish, *limits_);
    if (orders->refresh)
        flight->is_refresh();
    else
        flight->serve_no_stale();
    stores_.push_back(std::move(flight));
}

bool Keeping::could_keep(std::uint64_t bytes) {
    return std::any_of(stores_.begin(), stores_.end(),
                       [bytes](const auto& flight) { return flight->could_keep(bytes); });
}

std::shared_ptr<const RunResult> Keeping::find() {
    if (std::exchange(looked_, false) || !serves_ || stores_.empty()) return nullptr;
    return stores_.front()->find();
}

void Keeping::keep(const std::shared_ptr<const RunResult>& result, UniqueFunction<void()> done) {
    for (const auto& flight : stores_) flight->keep(result);
    done();
}

void Keeping::after_delivery() noexcept {
    for (const auto& flight : stores_) flight->after_delivery();
}

std::string Keeping::words() const {
    for (const auto& flight : stores_)
        if (std::string words = flight->words(); !words.empty()) return words;
    return {};
}

bool Keeping::failed() const {
    return std::any_of(stores_.begin(), stores_.end(), [](const auto& flight) { return flight->failed(); });
}

}  // namespace coalesce
