// SPDX-License-Identifier: MIT
#include <coalesce/cluster/part_digests.h>

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include <coalesce/command/key.h>

namespace coalesce {
namespace {

constexpr std::size_t digest_bytes = 4;
constexpr std::size_t parts_max = 256;  // so that it stays small beside the run that it is of

// The command first.
std::vector<std::string_view> parts_in_order(std::string_view surroundings, std::string_view words) {
    std::vector<std::string_view> parts = parts_of(words);
    const std::vector<std::string_view> others = parts_of(surroundings);
    parts.insert(parts.end(), others.begin(), others.end());
    return parts;
}

std::string digest_of(const Secret& secret, std::string_view part) {
    return secret.digest_of(part).substr(0, digest_bytes);
}

}  // namespace

std::string part_digests(const Secret& secret, std::string_view half) {
    std::string digests;
    for (const std::string_view part : parts_of(half)) digests += digest_of(secret, part);
    return digests;
}

std::string part_digests_of_key(std::string words, std::string_view surroundings) {
    if (words.size() + surroundings.size() > parts_max * digest_bytes) return {};
    return std::move(words.append(surroundings));
}

std::optional<PartsThatDiffer> parts_that_differ(const Secret& secret, std::string_view surroundings,
                                                 std::string_view words, std::string_view theirs) {
    const auto own = parts_in_order(surroundings, words);
    if (own.empty() || theirs.size() < digest_bytes || digest_of(secret, own.front()) != theirs.substr(0, digest_bytes))
        return std::nullopt;
    std::multiset<std::string> left;
    for (std::size_t at = 0; at + digest_bytes <= theirs.size(); at += digest_bytes)
        left.emplace(theirs.substr(at, digest_bytes));
    PartsThatDiffer found;
    for (const std::string_view part : own) {
        if (const auto same = left.find(digest_of(secret, part)); same != left.end()) {
            left.erase(same);
            continue;
        }
        for (const KeyPart& told : explain(part, {}))
            if (std::find(found.names.begin(), found.names.end(), told.name) == found.names.end())
                found.names.push_back(told.name);
    }
    // What differs is on both sides, mostly.
    found.only_theirs = left.size() - std::min(left.size(), found.names.size());
    return found;
}

}  // namespace coalesce
