// SPDX-License-Identifier: MIT
#include <coalesce/meeting/keeping.h>

#include <algorithm>
#include <utility>

#include <coalesce/meeting/members.h>

namespace coalesce {
namespace {

// Nobody joins to warm: who does gets the output.
template <class Members, class Orders>
void name_members(Members&& members, Orders& orders) {
    auto& [place, wish, refresh] = orders;
    auto& [base, store, shared, bounds] = place;
    auto& [total_bytes, entry_bytes] = bounds;
    auto& [ttl, max_age, stale, keep_failures, fresh, warm] = wish;
    members("ttl", ttl);
    members("max_age", max_age);
    members("stale", stale);
    members("keep_failures", keep_failures);
    members("fresh", fresh);
    members("base", base);
    members("store", store);
    members("shared", shared);
    members("max_size", total_bytes);
    members("max_entry", entry_bytes);
}

}  // namespace

void add_kept_orders(Message& message, const KeptOrders& orders) {
    Message kept;
    name_members(MemberWriter(kept), orders);
    message.raw("kept", kept.object());
}

std::optional<KeptOrders> kept_orders_in(const Fields& message) {
    if (!message.has("kept")) return std::nullopt;
    const auto kept = Fields::parse(message.raw("kept"));
    if (!kept) return std::nullopt;
    KeptOrders orders;
    name_members(MemberReader(*kept), orders);
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
    const Moment ended = now();
    const auto until = std::chrono::steady_clock::now() + publishing_max;
    for (const auto& flight : stores_) flight->keep(result, ended, until);
    done();
}

void Keeping::after_delivery() noexcept {
    for (const auto& flight : stores_) flight->after_delivery();
}

void Keeping::leave() noexcept {
    for (const auto& flight : stores_) flight->leave();
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
