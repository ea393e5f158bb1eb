// SPDX-License-Identifier: MIT
#include <coalesce/command/ancestry.h>

#include <coalesce/command/command.h>

namespace coalesce {

std::string_view ancestry_in(const std::vector<std::string>& env) {
    return env_value(env, kAncestryVariable).value_or(std::string_view());
}

std::string ancestry_below(std::string_view above, std::string_view key) {
    std::string out(above);
    if (!out.empty()) out += ':';
    return out.append(key);
}

void enter_flight(std::vector<std::string>& env, std::string_view key) {
    set_env(env, kAncestryVariable, ancestry_below(ancestry_in(env), key));
}

std::string_view nearest_flight(std::string_view ancestry) { return ancestry.substr(ancestry.rfind(':') + 1); }

std::string_view above_nearest(std::string_view ancestry) {
    const std::size_t colon = ancestry.rfind(':');
    return colon == std::string_view::npos ? std::string_view() : ancestry.substr(0, colon);
}

bool runs_under(std::string_view ancestry, std::string_view key) {
    for (; !ancestry.empty(); ancestry = above_nearest(ancestry))
        if (nearest_flight(ancestry) == key) return true;
    return false;
}

}  // namespace coalesce
