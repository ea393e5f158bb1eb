// SPDX-License-Identifier: MIT
// Stream: which of a command's two outputs a byte belongs to.
#pragma once

#include <cstddef>
#include <cstdint>

namespace coalesce {

enum class Stream : std::uint8_t { out = 0, err = 1 };

[[nodiscard]] constexpr std::size_t index_of(Stream stream) noexcept { return static_cast<std::size_t>(stream); }

}  // namespace coalesce
