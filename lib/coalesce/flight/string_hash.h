// StringHash: hashes whatever views as a string, so that a lookup copies nothing.
//
// std::hash<std::string> takes a std::string only; with this hash and
// std::equal_to<> a group of std::string keys is joined with a string_view, and
// the string is made only by the requester that leads.
#pragma once

#include <cstddef>
#include <functional>
#include <string_view>

namespace coalesce {

/// A transparent hash for std::string keys.
struct StringHash {
    using is_transparent = void;
    [[nodiscard]] std::size_t operator()(std::string_view text) const noexcept {
        return std::hash<std::string_view>{}(text);
    }
};

}  // namespace coalesce
