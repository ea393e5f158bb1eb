// SPDX-License-Identifier: MIT
// Part digests: by what one sees which parts of two keys differ, without telling either.
//
// They are sealed in a run's info, four bytes for each part of its key: so much may be kept of
// every live run, and what the parts are is not. Who has the other key, and the secret, can name
// those of its own parts that the run has not; of those that only the run has it knows how many.
// Two parts may have one digest: it is for a person who wonders, and decides nothing.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <coalesce/cluster/secret.h>

namespace coalesce {

/// Of the parts of one half of a key, as canonical bytes (command/key.h).
[[nodiscard]] std::string part_digests(const Secret& secret, std::string_view half);

/// Of a whole key: those of its words, the command's first, and those of its surroundings. Empty where there are too
/// many parts.
[[nodiscard]] std::string part_digests_of_key(std::string words, std::string_view surroundings);

struct PartsThatDiffer {
    std::vector<std::string> names;  ///< of our own, each once
    std::size_t only_theirs = 0;
};

/// What our key has otherwise than that of these digests; nothing if that is of another command, or unknown.
[[nodiscard]] std::optional<PartsThatDiffer> parts_that_differ(const Secret& secret, std::string_view surroundings,
                                                               std::string_view words, std::string_view theirs);

}  // namespace coalesce
