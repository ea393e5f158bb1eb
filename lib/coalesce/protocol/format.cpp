// SPDX-License-Identifier: MIT
#include <coalesce/protocol/format.h>

#define FMT_HEADER_ONLY
#include <fmt/format.h>

namespace coalesce {

std::string formatted_values(fmt::string_view sentence, fmt::format_args values) {
    return fmt::vformat(sentence, values);
}

}  // namespace coalesce
