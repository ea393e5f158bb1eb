// SPDX-License-Identifier: MIT
#include <coalesce/io/spool.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace coalesce {
namespace {

// A stretch of one stream in one word: the stream in the top bit.
constexpr std::uint32_t error_bit = std::uint32_t{1} << 31;
constexpr std::uint32_t longest_segment = error_bit - 1;

// Punching holes costs a system call, so it is done in strides.
constexpr std::uint64_t longest_release_stride = 1 << 20;

constexpr std::uint64_t order_heap_bytes = 64 * 1024;

}  // namespace

Spool::Spool(std::shared_ptr<const SpoolLimits> limits)
    : limits_(std::move(limits)),
      order_limits_{.heap_bytes = order_heap_bytes, .directory = {}, .budget = limits_->store.budget},
      bytes_(limits_->store),
      order_(order_limits_) {}

Spool::~Spool() {
    for (SpoolReader* reader = readers_.front(); reader != nullptr; reader = readers_.after(*reader))
        reader->spool_ = nullptr;
}

Result<> Spool::append(Stream stream, std::span<const char> bytes) {
    if (bytes.empty()) return {};
    // First of all, so that a refusal leaves bytes and order in step.
    if (auto ordered = end_segment_unless_grows(stream, bytes.size()); !ordered) return ordered;
    if (auto kept = bytes_.append(bytes); !kept) return kept;
    grow(stream, bytes.size());
    if (!short_of_memory_ && kept_bytes() > limits_->always_kept_bytes && limits_->store.budget->exhausted())
        short_of_memory_ = true;
    tell_of_more();
    return {};
}

Result<> Spool::lie_in(Descriptor file, std::uint64_t offset, std::span<const Segment> segments) {
    for (const auto& [stream, length] : segments) {
        if (auto ordered = end_segment_unless_grows(stream, length); !ordered) return ordered;
        grow(stream, length);
    }
    bytes_.lie_in(std::move(file), offset, size(Stream::out) + size(Stream::err));
    close();
    return {};
}

Result<> Spool::end_segment_unless_grows(Stream stream, std::uint64_t by) {
    if (!last_ || (last_->stream == stream && by <= longest_segment - last_->length)) return {};
    const std::uint32_t word = last_->length | (last_->stream == Stream::err ? error_bit : 0);
    char raw[sizeof word];
    std::memcpy(raw, &word, sizeof word);
    auto ordered = order_.append(raw);
    if (ordered) last_.reset();
    return ordered;
}

void Spool::grow(Stream stream, std::uint64_t by) noexcept {
    sizes_[index_of(stream)] += by;
    if (!last_) last_ = Segment{stream, 0};
    last_->length += static_cast<std::uint32_t>(by);
}

void Spool::close() {
    closed_ = true;
    if (replayable()) bytes_.seal();  // else what has been read is yet to be released
    tell_of_more();
}

// They may be joined meanwhile, by one at the end.
void Spool::tell_of_more() {
    for (SpoolReader* reader = readers_.front(); reader != nullptr; reader = readers_.after(*reader))
        if (reader->on_more_) reader->on_more_();
}

bool Spool::full() {
    room_awaited_ = !has_room();
    return room_awaited_;
}

bool Spool::has_room() const {
    if (kept_bytes() >= std::max<std::uint64_t>(limits_->replay_bytes, 1)) return false;
    return !short_of_memory_ || kept_bytes() <= limits_->always_kept_bytes || !limits_->store.budget->exhausted();
}

std::uint64_t Spool::segment_count() const noexcept { return order_.size() / sizeof(std::uint32_t) + (last_ ? 1 : 0); }

Spool::Segment Spool::segment(std::uint64_t number) const {
    if (number * sizeof(std::uint32_t) == order_.size()) return *last_;
    std::uint32_t word = 0;
    char raw[sizeof word];
    // The order was written by us into our own file; not to get it back would hand
    // a requester wrong bytes.
    if (!order_.read(number * sizeof word, raw)) std::abort();
    std::memcpy(&word, raw, sizeof word);
    return {(word & error_bit) != 0 ? Stream::err : Stream::out, word & longest_segment};
}

std::optional<SpoolPiece> Spool::only_piece() const noexcept {
    if (!last_ || order_.size() > 0 || !whole()) return std::nullopt;
    const Extent extent = bytes_.extent(0, bytes_.size());
    if (extent.file >= 0 || extent.length < bytes_.size()) return std::nullopt;
    return SpoolPiece{last_->stream, extent};
}

Result<std::shared_ptr<Spool>> Spool::twin() const {
    if (!closed_ || !whole()) std::abort();
    auto twin = std::make_shared<Spool>(limits_);
    if (auto shared = twin->bytes_.share(bytes_); !shared) return shared.error();
    if (auto shared = twin->order_.share(order_); !shared) return shared.error();
    twin->last_ = last_;
    twin->sizes_ = sizes_;
    twin->closed_ = true;
    return twin;
}

// Only past the replay limit: before it a newcomer may still need every byte.
void Spool::release_what_all_have_read() {
    if (replayable()) return;
    if (readers_.empty()) return end_wait_for_room();
    std::uint64_t slowest = bytes_.size();
    std::uint64_t segment = segment_count();
    for (const SpoolReader* reader = readers_.front(); reader != nullptr; reader = readers_.after(*reader)) {
        slowest = std::min(slowest, reader->position_);
        segment = std::min(segment, reader->segment_);
    }
    const std::uint64_t stride =
        std::min({longest_release_stride, limits_->replay_bytes / 2, limits_->always_kept_bytes / 2});
    if (slowest < released_ + stride) return;
    bytes_.release_before(slowest);
    order_.release_before(segment * sizeof(std::uint32_t));  // as much as the bytes, where the streams alternate
    released_ = slowest;
    // Remembered, not compared: others too may have given memory back since.
    if (has_room()) end_wait_for_room();
}

void Spool::end_wait_for_room() {
    if (!std::exchange(room_awaited_, false)) return;
    if (on_room_) on_room_();
}

SpoolReader::SpoolReader(Spool& spool, UniqueFunction<void()> on_more) : spool_(&spool), on_more_(std::move(on_more)) {
    if (spool.released_ > 0) std::abort();  // a gap: whoever lets people join must ask replayable()
    spool.readers_.push_back(*this);
}

SpoolReader::SpoolReader(Spool& spool, AtTheEnd /*at_the_end*/, UniqueFunction<void()> on_more)
    : spool_(&spool), on_more_(std::move(on_more)), position_(spool.bytes_.size()) {
    if (spool.last_) {
        segment_ = spool.segment_count() - 1;
        read_of_segment_ = spool.last_->length;
    }
    spool.readers_.push_back(*this);
    spool.release_what_all_have_read();
}

SpoolReader::~SpoolReader() {
    if (spool_ == nullptr) return;
    unlink();
    spool_->release_what_all_have_read();
}

std::optional<SpoolReader::Piece> SpoolReader::next() const {
    if (spool_ == nullptr || position_ == spool_->bytes_.size()) return std::nullopt;
    std::uint64_t number = segment_;
    std::uint32_t read = read_of_segment_;
    Spool::Segment segment = spool_->segment(number);
    if (read == segment.length) {  // it had been the growing one, and was read to its end
        segment = spool_->segment(++number);
        read = 0;
    }
    return Piece{segment.stream, spool_->bytes_.extent(position_, segment.length - read)};
}

void SpoolReader::advance(std::uint64_t length) {
    if (length == 0) return;
    const Spool::Segment segment = spool_->segment(segment_);
    if (read_of_segment_ == segment.length) {
        ++segment_;
        read_of_segment_ = 0;
    }
    read_of_segment_ += static_cast<std::uint32_t>(length);
    position_ += length;
    spool_->release_what_all_have_read();
}

bool SpoolReader::finished() const noexcept {
    return spool_ == nullptr || (spool_->closed_ && position_ == spool_->bytes_.size());
}

}  // namespace coalesce
