// SPDX-License-Identifier: MIT
#include <coalesce/reception/requester.h>

#include <unistd.h>

namespace coalesce {

void Client::know(Requester& requester) {
    if (by_id)
        requester.need_extras().place_by_id =
            by_id->emplace(std::pair(std::string_view(requester.id), !requester.waiting), &requester);
}

void Client::forget(Requester& requester) {
    if (!requester.extras) return;
    if (const auto known = std::exchange(requester.extras->place_by_id, std::nullopt)) by_id->erase(*known);
}

Requester* Client::request_of(std::string_view id) {
    if (!by_id) {
        by_id.emplace();
        for (Requester& requester : requesters)
            if (!requester.over) know(requester);
    }
    const auto found = by_id->lower_bound({id, false});
    return found == by_id->end() || found->first.first != id ? nullptr : found->second;
}

bool may_see(const Client& client, uid_t owner) noexcept {
    return client.uid == owner || client.uid == 0 || client.uid == ::geteuid();
}

}  // namespace coalesce
