// SPDX-License-Identifier: MIT
// Digest: what checks that bytes are the ones that were written, or names a state.
//
// BLAKE2b from libsodium, in the two lengths that the store uses. Of 128 bits where an
// accident is to be noticed, of 256 where two commands must never be taken for one (K3).
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include <sodium.h>

namespace coalesce {

template <std::size_t Bytes>
using DigestBytes = std::array<unsigned char, Bytes>;
using Checksum = DigestBytes<16>;
using Digest = DigestBytes<32>;

/// Taken piece by piece. `secret`, if there is one, is 16 to 64 bytes long.
template <std::size_t Bytes>
class Digester {
  public:
    explicit Digester(std::string_view secret = {}) noexcept {
        crypto_generichash_init(&state_, reinterpret_cast<const unsigned char*>(secret.data()), secret.size(), Bytes);
    }
    void add(std::string_view bytes) noexcept {
        crypto_generichash_update(&state_, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
    }
    /// With its length in front, so that no two splits of the same bytes agree.
    void add_field(std::string_view bytes) noexcept {
        unsigned char length[8];
        for (std::size_t i = 0; i < sizeof length; ++i) length[i] = static_cast<unsigned char>(bytes.size() >> 8 * i);
        crypto_generichash_update(&state_, length, sizeof length);
        add(bytes);
    }
    [[nodiscard]] DigestBytes<Bytes> end() noexcept {
        DigestBytes<Bytes> digest{};
        crypto_generichash_final(&state_, digest.data(), digest.size());
        return digest;
    }

  private:
    crypto_generichash_state state_;
};

template <std::size_t Bytes>
[[nodiscard]] DigestBytes<Bytes> digest_of(std::string_view bytes, std::string_view secret = {}) noexcept {
    Digester<Bytes> digester(secret);
    digester.add(bytes);
    return digester.end();
}

template <std::size_t Bytes>
[[nodiscard]] std::string_view bytes_of(const DigestBytes<Bytes>& digest) noexcept {
    return {reinterpret_cast<const char*>(digest.data()), digest.size()};
}

template <std::size_t Bytes>
[[nodiscard]] std::string hexadecimal(const DigestBytes<Bytes>& digest) {
    std::string text(2 * Bytes + 1, '\0');
    sodium_bin2hex(text.data(), text.size(), digest.data(), digest.size());
    text.pop_back();
    return text;
}

}  // namespace coalesce
