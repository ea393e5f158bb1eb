// SPDX-License-Identifier: MIT
// What a terminal tells of itself.
#pragma once

#include <cstddef>
#include <optional>

namespace coalesce {

/// The columns of the terminal that is open there; nothing where it is none, or does not tell.
[[nodiscard]] std::optional<std::size_t> terminal_columns(int fd) noexcept;

}  // namespace coalesce
