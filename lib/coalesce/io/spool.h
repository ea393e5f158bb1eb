// SPDX-License-Identifier: MIT
// Spool: a run's recorded output, two streams in the order in which they were read.
//
// The bytes of both streams lie in one Store; a second Store holds the order, one
// 32-bit word for each stretch of one stream. Every reader has a cursor of its
// own: it replays from byte 0, then follows live, and nobody waits for anybody.
// Memory stays bounded (SPEC F9): past `replay_bytes` the spool is no longer
// replayable to newcomers, what all readers have read is released, and full()
// asks the run to pause until the slowest reader has caught up. The same holds for one
// that is past the first MiB when the memory of all spools together is used up.
#pragma once

#include <coalesce/command/result.h>
#include <coalesce/flight/linked_list.h>
#include <coalesce/flight/unique_function.h>

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include <coalesce/io/store.h>
#include <coalesce/io/stream.h>

namespace coalesce {

struct SpoolLimits {
    StoreLimits store = {};
    std::uint64_t replay_bytes = std::uint64_t{1} << 30;
    /// A spool may keep so much though the memory of all is used up: the runs that others
    /// hold up have to get on.
    std::uint64_t always_kept_bytes = 1 << 20;
};

class SpoolReader;

/// A stretch of one stream.
struct SpoolPiece {
    Stream stream;
    Extent extent;
};

class Spool {
  public:
    /// Limits that many share; a spool may outlive whoever made it.
    explicit Spool(std::shared_ptr<const SpoolLimits> limits);
    /// The same for one of its own.
    explicit Spool(const SpoolLimits& limits) : Spool(std::make_shared<const SpoolLimits>(limits)) {}
    ~Spool();
    Spool(const Spool&) = delete;
    Spool& operator=(const Spool&) = delete;

    /// Records bytes just read. After a refusal the spool takes no more; what it
    /// has recorded stays readable.
    Result<> append(Stream stream, std::span<const char> bytes);
    /// A stretch of one stream, shorter than 2 GiB.
    struct Segment {
        Stream stream;
        std::uint32_t length;
    };
    /// Is, being empty, what lies in that file from `offset` on, and closed. Somebody else wrote it, and nobody changes
    /// it any more: nothing is copied, or counted as memory. Refused where there is no room for the order.
    Result<> lie_in(Descriptor file, std::uint64_t offset, std::span<const Segment> segments);
    /// No more will come: readers learn it through finished().
    void close();

    [[nodiscard]] bool closed() const noexcept { return closed_; }
    [[nodiscard]] std::uint64_t size() const noexcept { return bytes_.size(); }
    [[nodiscard]] std::uint64_t size(Stream stream) const noexcept { return sizes_[index_of(stream)]; }

    /// Everything from byte 0 is still there and will stay: a newcomer can join.
    [[nodiscard]] bool replayable() const noexcept {
        return !short_of_memory_ && bytes_.size() <= limits_->replay_bytes;
    }
    /// Nothing has been released: it can be read from byte 0.
    [[nodiscard]] bool whole() const noexcept { return released_ == 0; }
    /// As much is kept as may be: the run should pause. Who is told so is told of room.
    [[nodiscard]] bool full();
    [[nodiscard]] bool has_readers() const noexcept { return !readers_.empty(); }
    /// Called when a reader has made room after full(), or the last one has gone: whoever paces the run is to look
    /// anew.
    void on_room(UniqueFunction<void()> on_room) { on_room_ = std::move(on_room); }

    /// The one stretch in memory that this closed spool consists of; most are like that.
    [[nodiscard]] std::optional<SpoolPiece> only_piece() const noexcept;
    /// Puts the bytes into the file now, for a reader that wants its descriptor.
    Result<> move_to_file() { return bytes_.move_to_file(); }
    /// The file's descriptor for another process, to read only.
    Result<Descriptor> hand_over() { return bytes_.hand_over(); }
    /// The same of a closed spool that is whole, for a reader on another thread, whatever becomes of this one.
    [[nodiscard]] Result<std::shared_ptr<Spool>> twin() const;
    /// Whether a stream of this closed spool is UTF-8: whoever has read all of it says so, and spares that to the
    /// others.
    [[nodiscard]] std::optional<bool>& is_text(Stream stream) noexcept { return is_text_[index_of(stream)]; }
    /// The file that holds the bytes, or -1 while they are on the heap.
    [[nodiscard]] int file() const noexcept { return bytes_.file(); }

  private:
    friend class SpoolReader;
    [[nodiscard]] std::uint64_t kept_bytes() const noexcept { return bytes_.size() - released_; }
    [[nodiscard]] std::uint64_t segment_count() const noexcept;
    [[nodiscard]] Segment segment(std::uint64_t number) const;
    Result<> end_segment_unless_grows(Stream stream, std::uint64_t by);
    void grow(Stream stream, std::uint64_t by) noexcept;
    [[nodiscard]] bool has_room() const;
    void tell_of_more();
    void release_what_all_have_read();
    void end_wait_for_room();

    const std::shared_ptr<const SpoolLimits> limits_;
    // A few bytes for each stretch: never on a disk, whose failure could not be told from an order.
    const StoreLimits order_limits_;
    Store bytes_;
    Store order_;
    std::optional<Segment> last_;  // still growing, so not in order_ yet
    std::array<std::uint64_t, 2> sizes_{};
    std::array<std::optional<bool>, 2> is_text_{};
    detail::LinkedList<SpoolReader> readers_;  // thousands may leave, one by one
    std::uint64_t released_ = 0;
    UniqueFunction<void()> on_room_;
    bool closed_ = false;
    bool short_of_memory_ = false;
    bool room_awaited_ = false;
};

class SpoolReader : public detail::Links {
  public:
    /// A cursor at byte 0. `on_more`, if given, is called when bytes come or the
    /// spool closes; reading from inside it is fine, destroying a reader is not. The
    /// spool may go first.
    explicit SpoolReader(Spool& spool, UniqueFunction<void()> on_more = {});
    /// A cursor behind all that there is, for whoever wants none of what comes and must not
    /// keep it from being released.
    struct AtTheEnd {};
    SpoolReader(Spool& spool, AtTheEnd at_the_end, UniqueFunction<void()> on_more);
    ~SpoolReader();
    SpoolReader(const SpoolReader&) = delete;
    SpoolReader& operator=(const SpoolReader&) = delete;

    using Piece = SpoolPiece;
    /// What comes next, all of one stream; empty when there is nothing now. The
    /// same again until advance().
    [[nodiscard]] std::optional<Piece> next() const;
    /// The first `length` bytes of next() are dealt with.
    void advance(std::uint64_t length);
    /// Everything was read and nothing will come.
    [[nodiscard]] bool finished() const noexcept;
    [[nodiscard]] std::uint64_t position() const noexcept { return position_; }
    /// The bytes that lie before `offset` and have not been released stay in the file: another
    /// process may be reading them though this reader is about to go.
    void leave_before(std::uint64_t offset) noexcept {
        if (spool_ != nullptr) spool_->bytes_.leave_before(offset);
    }

  private:
    friend class Spool;
    Spool* spool_;
    UniqueFunction<void()> on_more_;
    std::uint64_t position_ = 0;
    std::uint64_t segment_ = 0;
    std::uint32_t read_of_segment_ = 0;
};

}  // namespace coalesce
