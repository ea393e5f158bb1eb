// SPDX-License-Identifier: MIT
#include <coalesce/io/line_splitter.h>

#include <algorithm>
#include <cstring>
#include <utility>

namespace coalesce {
namespace {

// Kept for the next lines; a thousand connections that each had a long one need no more.
constexpr std::size_t spare_bytes_max = 128 * 1024;

}  // namespace

void LineSplitter::drop_given_out() {
    if (begin_ == 0) return;  // a line that grows is left its room
    bytes_.erase(0, begin_);
    scanned_ -= std::exchange(begin_, 0);
    if (bytes_.capacity() > bytes_.size() + spare_bytes_max) bytes_.shrink_to_fit();
}

std::span<char> LineSplitter::room(std::size_t bytes) {
    drop_given_out();
    had_ = bytes_.size();
    bytes_.resize(had_ + bytes);
    return {bytes_.data() + had_, bytes};
}

void LineSplitter::taken(std::size_t bytes) noexcept { bytes_.resize(had_ + bytes); }

void LineSplitter::add(std::string_view bytes) {
    drop_given_out();
    bytes_ += bytes;
}

LineSplitter::Line LineSplitter::cut(std::string_view text) const noexcept {
    const bool too_long = text.size() > line_bytes_max_;
    return {too_long ? text.substr(0, shown_of_a_long_line) : text, too_long};
}

std::optional<LineSplitter::Line> LineSplitter::next() {
    while (true) {
        const auto* const found =
            static_cast<const char*>(std::memchr(bytes_.data() + scanned_, delimiter_, bytes_.size() - scanned_));
        if (found == nullptr) break;
        const std::size_t end = static_cast<std::size_t>(found - bytes_.data());
        const std::string_view text = std::string_view(bytes_).substr(begin_, end - begin_);
        begin_ = scanned_ = end + 1;
        if (!std::exchange(skipping_, false)) return cut(text);
    }
    scanned_ = bytes_.size();
    const std::string_view text = rest();
    if (!skipping_ && text.size() <= line_bytes_max_) return std::nullopt;
    begin_ = scanned_;
    if (std::exchange(skipping_, true)) return std::nullopt;
    return cut(text);
}

std::optional<LineSplitter::Line> LineSplitter::last() {
    const std::string_view text = rest();
    begin_ = scanned_ = bytes_.size();
    if (std::exchange(skipping_, false) || text.empty()) return std::nullopt;
    return cut(text);
}

}  // namespace coalesce
