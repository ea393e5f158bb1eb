// SPDX-License-Identifier: MIT
#include <coalesce/io/store.h>

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <coalesce/io/unnamed_file.h>

namespace coalesce {
namespace {

constexpr std::size_t first_block_bytes = 256;
constexpr std::size_t largest_block_bytes = 64 * 1024;

}  // namespace

Store::~Store() {
    if (in_memory()) limits_->budget->give_back(size_ - released_ + left_);
    if (file_) limits_->budget->closed_file();
}

Result<> Store::append(std::span<const char> bytes) {
    if (refused_) return system_error_of(ENOSPC, "keep the output");
    if (!file_ && size_ + bytes.size() > limits_->heap_bytes) {
        auto moved = move_to_file();
        if (!moved) {
            refused_ = true;
            return moved;
        }
    }
    if (file_) {
        auto written = write_to_file(bytes);
        if (!written) {
            refused_ = true;
            return written;
        }
    } else {
        append_to_heap(bytes);
    }
    size_ += bytes.size();
    if (in_memory()) limits_->budget->take(bytes.size());
    return {};
}

Result<> Store::share(const Store& other) {
    if (other.file_) {
        file_ = Descriptor(::fcntl(other.file_.get(), F_DUPFD_CLOEXEC, 0));
        if (!file_) return system_error_now("read the kept output back");
        limits_->budget->opened_file();
    }
    for (const Block& block : other.blocks_) {
        append_to_heap({block.bytes.get(), block.used});
        size_ += block.used;
    }
    begins_at_ = other.begins_at_;
    size_ = other.size_;
    released_ = size_;  // it is counted there
    return {};
}

void Store::lie_in(Descriptor file, std::uint64_t offset, std::uint64_t size) noexcept {
    file_ = std::move(file);
    limits_->budget->opened_file();
    begins_at_ = offset;
    size_ = size;
    released_ = size_;
}

// Blocks double from small to 64 KiB: most commands print a line or nothing.
void Store::append_to_heap(std::span<const char> bytes) {
    std::uint64_t at = size_;
    while (!bytes.empty()) {
        if (blocks_.empty() || blocks_.back().used == blocks_.back().capacity) {
            const std::size_t doubled = blocks_.empty() ? first_block_bytes : blocks_.back().capacity * 2;
            const std::size_t capacity =
                std::max(std::min(bytes.size(), largest_block_bytes), std::min(doubled, largest_block_bytes));
            blocks_.push_back({at, 0, capacity, std::make_unique_for_overwrite<char[]>(capacity)});
        }
        Block& block = blocks_.back();
        const std::size_t part = std::min(bytes.size(), block.capacity - block.used);
        std::memcpy(block.bytes.get() + block.used, bytes.data(), part);
        block.used += part;
        at += part;
        bytes = bytes.subspan(part);
    }
}

Result<> Store::move_to_file() {
    if (file_) return {};
    auto file = make_unnamed_file("the output", limits_->directory);
    if (!file) return file.error();
    file_ = std::move(*file);
    const std::uint64_t whole = std::exchange(size_, 0);
    for (const Block& block : blocks_) {
        auto written = write_to_file({block.bytes.get(), block.used});
        if (!written) {
            file_.reset();  // the heap still has everything that was taken
            size_ = whole;
            return written;
        }
        size_ += block.used;
    }
    limits_->budget->opened_file();
    blocks_.clear();
    blocks_.shrink_to_fit();
    return {};
}

Result<> Store::write_to_file(std::span<const char> bytes) { return write_at(file_.get(), size_, bytes); }

Result<> Store::write_at(int file, std::uint64_t at, std::span<const char> bytes) const {
    while (!bytes.empty()) {
        const ssize_t wrote = ::pwrite(file, bytes.data(), bytes.size(), static_cast<off_t>(at));
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0)
            return system_error_now(limits_->directory.empty() ? "keep the output in memory"
                                                               : "keep the output in " + limits_->directory);
        at += static_cast<std::uint64_t>(wrote);
        bytes = bytes.subspan(static_cast<std::size_t>(wrote));
    }
    return {};
}

Extent Store::extent(std::uint64_t offset, std::uint64_t length) const noexcept {
    if (file_)
        return {.bytes = {},
                .file = file_.get(),
                .offset = begins_at_ + offset,
                .length = std::min(length, size_ - offset)};
    // The last block that starts at or before the offset.
    const auto after = std::upper_bound(blocks_.begin(), blocks_.end(), offset,
                                        [](std::uint64_t wanted, const Block& block) { return wanted < block.start; });
    const Block& block = *(after - 1);
    const std::size_t skip = static_cast<std::size_t>(offset - block.start);
    const std::size_t part = static_cast<std::size_t>(std::min<std::uint64_t>(length, block.used - skip));
    return {.bytes = {block.bytes.get() + skip, part}, .file = -1, .offset = 0, .length = part};
}

Result<> Store::read(std::uint64_t offset, std::span<char> into) const {
    while (!into.empty()) {
        const Extent part = extent(offset, into.size());
        std::size_t got = static_cast<std::size_t>(part.length);
        if (part.file < 0) {
            std::memcpy(into.data(), part.bytes.data(), got);
        } else {
            const ssize_t read = ::pread(part.file, into.data(), into.size(), static_cast<off_t>(part.offset));
            if (read < 0 && errno == EINTR) continue;
            if (read == 0) errno = EIO;  // shorter than it was: somebody else's doing, or the disk's
            if (read <= 0) return system_error_now("read the kept output back");
            got = static_cast<std::size_t>(read);
        }
        offset += got;
        into = into.subspan(got);
    }
    return {};
}

void Store::release_before(std::uint64_t offset) noexcept {
    constexpr std::uint64_t page = 4096;
    offset = offset / page * page;
    if (!file_ || offset <= released_) return;
    if (::fallocate(file_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(released_),
                    static_cast<off_t>(offset - released_)) != 0)
        return;
    if (in_memory()) limits_->budget->give_back(offset - released_);
    released_ = offset;
}

void Store::leave_before(std::uint64_t offset) noexcept {
    if (offset <= released_) return;
    left_ += offset - released_;
    released_ = offset;
}

Result<Descriptor> Store::hand_over() {
    if (auto moved = begins_at_ > 0 ? move_to_own_file() : move_to_file(); !moved) return moved.error();
    if (!reader_) {
        auto opened = open_for_reading(file_.get());
        if (opened) handed_over_ = true;
        if (opened || opened.error().code != std::errc::no_such_file_or_directory) return opened;
        if (auto moved = move_to_file_and_reader(); !moved) return moved.error();
    }
    Descriptor copy(::fcntl(reader_.get(), F_DUPFD_CLOEXEC, 0));
    if (!copy) return system_error_now("hand the kept output over");
    return copy;
}

// All that has not been released.
Result<> Store::copy_to(int file) const {
    char block[65536];
    for (std::uint64_t at = begins_at_ > 0 ? 0 : released_; at < size_;) {
        const std::size_t length = static_cast<std::size_t>(std::min<std::uint64_t>(sizeof block, size_ - at));
        if (auto got = read(at, {block, length}); !got) return got;
        if (auto written = write_at(file, at, {block, length}); !written) return written;
        at += length;
    }
    return {};
}

// Who has a descriptor of somebody else's file might open that anew, and change it for all.
Result<> Store::move_to_own_file() {
    if (in_memory() && limits_->budget->exhausted()) return system_error_of(ENOMEM, "keep the output in memory");
    auto own = make_unnamed_file("the output", limits_->directory);
    if (!own) return own.error();
    if (auto copied = copy_to(own->get()); !copied) return copied;
    file_ = std::move(*own);
    begins_at_ = 0;
    released_ = 0;
    if (in_memory()) limits_->budget->take(size_);
    return {};
}

// Where there is no /proc to open the file anew by. Nobody else has it yet.
Result<> Store::move_to_file_and_reader() {
    auto made = make_file_and_reader("the output", limits_->directory);
    if (!made) return made.error();
    if (auto copied = copy_to(made->file.get()); !copied) return copied;
    file_ = std::move(made->file);
    reader_ = std::move(made->reader);
    return {};
}

// What nobody else has needs no seal.
void Store::seal() noexcept {
    if (handed_over_ && in_memory()) ::coalesce::seal(file_.get());
}

}  // namespace coalesce
