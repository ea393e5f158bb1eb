// SPDX-License-Identifier: MIT
#include <coalesce/io/last_lines.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace coalesce {
namespace {

constexpr std::uint64_t block_bytes = 16 * 1024;  // on the stack, which may be small

}  // namespace

Result<> LastLines::append(std::span<const char> bytes) {
    if (lines_ == 0) return {};
    if (!has_room()) {
        if (auto gone = let_go(); !gone) return gone;
        if (!has_room()) return system_error_of(ENOMEM, "keep the last lines of the output");
    }
    if (auto appended = store_.append(bytes); !appended) return appended;
    if (store_.size() < look_at_) return {};
    if (auto gone = let_go(); !gone) return gone;
    const std::uint64_t held = store_.size() - start_;
    look_at_ = store_.size() + std::max(held, least_look);
    return {};
}

// The budget's limit is not looked up for what the heap has room for.
bool LastLines::has_room() const {
    return store_.file() < 0 || !limits_->directory.empty() || !limits_->budget->exhausted();
}

// The newline that ends the last line is not the end of one before it.
Result<> LastLines::let_go() {
    std::array<char, block_bytes> block;
    std::uint64_t left = lines_;
    std::uint64_t end = store_.size();
    if (end > start_) --end;
    while (end > start_) {
        const std::uint64_t length = std::min(end - start_, block_bytes);
        const std::span<char> read(block.data(), static_cast<std::size_t>(length));
        if (auto done = store_.read(end - length, read); !done) return done;
        for (std::uint64_t at = length; at > 0; --at) {
            if (block[static_cast<std::size_t>(at - 1)] != '\n' || --left > 0) continue;
            start_ = end - length + at;
            store_.release_before(start_);
            return {};
        }
        end -= length;
    }
    return {};
}

Result<std::vector<Extent>> LastLines::extents() {
    if (auto gone = let_go(); !gone) return gone.error();
    std::vector<Extent> extents;
    for (std::uint64_t at = start_; at < store_.size(); at += extents.back().length)
        extents.push_back(store_.extent(at, store_.size() - at));
    return extents;
}

}  // namespace coalesce
