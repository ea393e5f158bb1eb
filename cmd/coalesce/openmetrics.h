// SPDX-License-Identifier: MIT
// What `coalesce stats` knows, as OpenMetrics 1.0 text: for Prometheus and what reads its format.
#pragma once

#include <coalesce/kept/savings.h>
#include <coalesce/protocol/message.h>

#include <optional>
#include <string>

namespace coalesce {

/// The whole exposition, with its end. Doors are told apart by a label; what is not there is left out.
[[nodiscard]] std::string openmetrics(const std::optional<Savings>& wrappers, const std::optional<Savings>& kept,
                                      const std::optional<Fields>& server);

}  // namespace coalesce
