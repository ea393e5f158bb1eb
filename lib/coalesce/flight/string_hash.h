// SPDX-License-Identifier: MIT
// StringHash: hashes whatever views as a string, fast, so that a lookup copies nothing.
//
// std::hash<std::string> takes a std::string only; with this hash and
// std::equal_to<> a group of std::string keys is joined with a string_view, and
// the string is made only by the requester that leads. Its bytes are taken
// sixteen at a time by a multiplication whose halves are folded (the idea of
// wyhash), because std::hash was a quarter of a join. It is not seeded: where
// strangers choose the keys, collisions can be provoked, as with std::hash, and
// cost time, never a wrong join.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace coalesce {
namespace detail {

[[nodiscard]] inline std::uint64_t fold_product(std::uint64_t a, std::uint64_t b) noexcept {
#if defined(__SIZEOF_INT128__)
    __extension__ using Wide = unsigned __int128;
    const Wide product = Wide{a} * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
#else
    const std::uint64_t product = a * (b | 1);
    return product ^ (product >> 32) ^ ((a >> 32) * (b >> 32));
#endif
}

[[nodiscard]] inline std::uint64_t load_bytes(const char* from, std::size_t count) noexcept {
    std::uint64_t word = 0;
    std::memcpy(&word, from, count);
    return word;
}

[[nodiscard]] inline std::uint64_t hash_bytes(const char* bytes, std::size_t count) noexcept {
    constexpr std::uint64_t kA = 0xA0761D6478BD642Fu, kB = 0xE7037ED1A0B428DBu;
    std::uint64_t hash = kA ^ count;
    const char* at = bytes;
    std::size_t left = count;
    for (; left > 16; at += 16, left -= 16) hash = fold_product(load_bytes(at, 8) ^ kB, load_bytes(at + 8, 8) ^ hash);
    std::uint64_t low = 0, high = 0;
    if (count >= 16) {  // the last sixteen, some of them for the second time
        low = load_bytes(bytes + count - 16, 8);
        high = load_bytes(bytes + count - 8, 8);
    } else if (left >= 8) {
        low = load_bytes(at, 8);
        high = load_bytes(at + left - 8, 8);
    } else if (left >= 4) {
        low = load_bytes(at, 4);
        high = load_bytes(at + left - 4, 4);
    } else if (left > 0) {
        low = (std::uint64_t{static_cast<unsigned char>(at[0])} << 16) |
              (std::uint64_t{static_cast<unsigned char>(at[left / 2])} << 8) | static_cast<unsigned char>(at[left - 1]);
    }
    return fold_product(kB ^ count, fold_product(low ^ kB, high ^ hash));
}

}  // namespace detail

/// A transparent hash for std::string keys.
struct StringHash {
    using is_transparent = void;
    [[nodiscard]] std::size_t operator()(std::string_view text) const noexcept {
        return static_cast<std::size_t>(detail::hash_bytes(text.data(), text.size()));
    }
};

}  // namespace coalesce
