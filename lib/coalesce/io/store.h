// SPDX-License-Identifier: MIT
// Store: bytes that are only ever appended, on the heap while few, in a file once many; or that lie in somebody else's.
//
// Up to a limit they lie in heap blocks; past it all of them move to one file
// (a memfd, or an unlinked file in a directory of the user's choice) and the heap
// is given back. Bytes once written never change and never move inside the file,
// so its descriptor can be handed to readers for sendfile. The front can be
// released when nobody needs it any more. What lies in memory is counted against a
// budget, which its owner has to heed. One growing std::string was measured at
// twice the cost of blocks.
#pragma once

#include <coalesce/command/result.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <coalesce/io/descriptor.h>
#include <coalesce/io/memory_budget.h>

namespace coalesce {

struct StoreLimits {
    std::uint64_t heap_bytes = 1 << 20;  ///< past this the bytes leave the heap
    std::string directory = {};          ///< for the unlinked file; empty: a memfd
    /// What is kept without a directory counts here. Outlives the store.
    MemoryBudget* budget = &MemoryBudget::of_this_process();
};

/// A run of consecutive bytes: in memory, or in a file.
struct Extent {
    std::string_view bytes;    ///< set when in memory; valid until the next append
    int file = -1;             ///< set when in a file
    std::uint64_t offset = 0;  ///< where in the file
    std::uint64_t length = 0;
};

class Store {
  public:
    /// `limits` outlive the store.
    explicit Store(const StoreLimits& limits) : limits_(&limits) {}
    ~Store();
    Store(const Store&) = delete;
    Store& operator=(const Store&) = delete;

    /// Appends all of `bytes`, or none that will ever be read: after a refusal
    /// (no space, no descriptors) the store takes no more.
    Result<> append(std::span<const char> bytes);

    [[nodiscard]] std::uint64_t size() const noexcept { return size_; }

    /// As much as lies together from `offset` (< size()), `length` at most.
    [[nodiscard]] Extent extent(std::uint64_t offset, std::uint64_t length) const noexcept;

    /// Copies bytes [offset, offset + into.size()), all of which must exist.
    Result<> read(std::uint64_t offset, std::span<char> into) const;

    /// Gives the space before `offset` back to the system, where it can.
    void release_before(std::uint64_t offset) noexcept;
    /// What is left before `offset` stays in the file for as long as that is, for whoever
    /// else still reads there.
    void leave_before(std::uint64_t offset) noexcept;

    /// Becomes, being empty, the same bytes for another thread: a copy of what is on the heap, the same file
    /// otherwise. Nothing more comes to either.
    Result<> share(const Store& other);
    /// Lies, being empty, in a file that somebody else wrote and nobody changes any more: `size` bytes from `offset`
    /// on, not its beginning. It takes no memory until it is handed over. Nothing more comes.
    void lie_in(Descriptor file, std::uint64_t offset, std::uint64_t size) noexcept;
    /// Moves what is on the heap, and all that comes, to the file.
    Result<> move_to_file();
    /// A descriptor for another process that may read it: it cannot write, nor open the
    /// file anew for writing, if it is another user's. Of somebody else's file that gets a copy.
    Result<Descriptor> hand_over();
    /// Nothing more will come, nor be released: what was handed over cannot be changed from here on.
    void seal() noexcept;

    /// The file, once there is one; -1 while the bytes are on the heap.
    [[nodiscard]] int file() const noexcept { return file_.get(); }

  private:
    struct Block {
        std::uint64_t start;
        std::size_t used;
        std::size_t capacity;
        std::unique_ptr<char[]> bytes;
    };
    void append_to_heap(std::span<const char> bytes);
    Result<> write_to_file(std::span<const char> bytes);
    Result<> write_at(int file, std::uint64_t at, std::span<const char> bytes) const;
    Result<> copy_to(int file) const;
    Result<> move_to_own_file();
    Result<> move_to_file_and_reader();

    [[nodiscard]] bool in_memory() const noexcept { return limits_->directory.empty(); }

    const StoreLimits* limits_;
    std::uint64_t size_ = 0;
    std::uint64_t released_ = 0;  // or left to others
    std::uint64_t left_ = 0;      // of that, bytes that are still in the file
    std::vector<Block> blocks_;
    Descriptor file_;
    std::uint64_t begins_at_ = 0;  // in file_, if that is somebody else's
    Descriptor reader_;            // only where there is no /proc
    bool refused_ = false;
    bool handed_over_ = false;
};

}  // namespace coalesce
