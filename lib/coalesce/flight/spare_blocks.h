// SpareBlocks: memory of flights that have ended, for the next ones. Internal.
//
// Leading and landing is the hot path of keys that are seldom shared, and a
// third of its time was malloc. A few blocks are kept, not all: what a burst of
// keys took goes back to the heap. Under AddressSanitizer nothing is kept, here
// and in waiter.h, since memory that is used again hides a use after free.
#pragma once

#include <cstddef>
#include <new>

namespace coalesce::detail {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kReuseMemory = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
inline constexpr bool kReuseMemory = false;
#else
inline constexpr bool kReuseMemory = true;
#endif
#else
inline constexpr bool kReuseMemory = true;
#endif

/// A short free list of blocks of one size. A block of another size is plain heap.
class SpareBlocks {
  public:
    SpareBlocks() noexcept = default;
    SpareBlocks(const SpareBlocks&) = delete;
    SpareBlocks& operator=(const SpareBlocks&) = delete;
    ~SpareBlocks() {
        while (first_) ::operator delete(pop());
    }

    [[nodiscard]] void* take(std::size_t bytes) { return first_ && bytes == bytes_ ? pop() : ::operator new(bytes); }

    void give_back(void* block, std::size_t bytes) noexcept {
        if (count_ == kMost || (first_ && bytes != bytes_)) return ::operator delete(block);
        bytes_ = bytes;
        first_ = ::new (block) Spare{first_};
        ++count_;
    }

  private:
    struct Spare {
        Spare* next;
    };
    static constexpr std::size_t kMost = kReuseMemory ? 64 : 0;

    void* pop() noexcept {
        Spare* spare = first_;
        first_ = spare->next;
        --count_;
        return spare;
    }

    Spare* first_ = nullptr;
    std::size_t bytes_ = 0;
    std::size_t count_ = 0;
};

}  // namespace coalesce::detail
