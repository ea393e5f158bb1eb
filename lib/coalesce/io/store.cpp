// SPDX-License-Identifier: MIT
#include <coalesce/io/store.h>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

namespace coalesce {
namespace {

constexpr std::size_t first_block_bytes = 256;
constexpr std::size_t largest_block_bytes = 64 * 1024;

Result<Descriptor> make_file(const std::string& directory) {
    Descriptor file(directory.empty() ? ::memfd_create("coalesce-spool", MFD_CLOEXEC | MFD_ALLOW_SEALING)
                                      : ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
    if (!file && !directory.empty() && (errno == EOPNOTSUPP || errno == EISDIR)) {
        std::string name = directory + "/coalesce-spool-XXXXXX";
        file = Descriptor(::mkostemp(name.data(), O_CLOEXEC));
        if (file) ::unlink(name.c_str());
    }
    if (!file)
        return system_error_now(directory.empty() ? "make a memory file for the output"
                                                  : "make a file for the output in " + directory);
    return file;
}

}  // namespace

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
    return {};
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
    auto file = make_file(limits_->directory);
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
    blocks_.clear();
    blocks_.shrink_to_fit();
    return {};
}

Result<> Store::write_to_file(std::span<const char> bytes) {
    std::uint64_t at = size_;
    while (!bytes.empty()) {
        const ssize_t wrote = ::pwrite(file_.get(), bytes.data(), bytes.size(), static_cast<off_t>(at));
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
    if (file_) return {.bytes = {}, .file = file_.get(), .offset = offset, .length = std::min(length, size_ - offset)};
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
            const ssize_t read = ::pread(part.file, into.data(), into.size(), static_cast<off_t>(offset));
            if (read < 0 && errno == EINTR) continue;
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
                    static_cast<off_t>(offset - released_)) == 0)
        released_ = offset;
}

}  // namespace coalesce
