// SPDX-License-Identifier: MIT
#include <coalesce/engine/key_hash.h>

#include <sodium.h>

#include <array>
#include <cstdint>

namespace coalesce {
namespace {

void add(crypto_generichash_state& state, std::string_view bytes) {
    const std::uint64_t length = bytes.size();  // prefixed, so that no two splits agree
    crypto_generichash_update(&state, reinterpret_cast<const unsigned char*>(&length), sizeof length);
    crypto_generichash_update(&state, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
}

}  // namespace

// sodium_init() is not needed for hashing, and would open /dev/urandom at start.
std::string key_hash(const KeyView& key) {
    std::array<unsigned char, key_hash_digits / 2> digest{};
    crypto_generichash_state state;
    crypto_generichash_init(&state, nullptr, 0, digest.size());
    add(state, key.surroundings != nullptr ? std::string_view(key.surroundings->bytes) : std::string_view());
    add(state, key.words);
    crypto_generichash_final(&state, digest.data(), digest.size());
    std::array<char, 2 * digest.size() + 1> text{};
    sodium_bin2hex(text.data(), text.size(), digest.data(), digest.size());
    return text.data();
}

}  // namespace coalesce
