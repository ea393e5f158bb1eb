// SPDX-License-Identifier: MIT
// The name of a key outside this process: a hash that merges no two commands and
// shows no secret (SPEC K3).
#pragma once

#include <coalesce/command/key.h>

#include <cstddef>
#include <string>

namespace coalesce {

inline constexpr std::size_t key_hash_digits = 32;

/// 128 bits of BLAKE2b over the whole key, as 32 lower-case hexadecimal digits.
[[nodiscard]] std::string key_hash(const KeyView& key);

}  // namespace coalesce
