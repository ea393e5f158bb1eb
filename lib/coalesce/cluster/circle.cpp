// SPDX-License-Identifier: MIT
#include <coalesce/cluster/circle.h>

#include <coalesce/command/canonical.h>

namespace coalesce {

std::string Circle::words() const {
    return access.url.address() + ", secret " + secret.fingerprint() + ", ns " + access.url.ns;
}

std::string name_at_engine(const Circle& circle, std::string_view surroundings, std::string_view words) {
    std::string key;
    append_field(key, 's', surroundings);
    append_field(key, 'w', words);
    return circle.secret.name_of(circle.access.url.ns, key);
}

}  // namespace coalesce
