// SPDX-License-Identifier: MIT
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
inline constexpr bool kAddressSanitizer = true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
inline constexpr bool kAddressSanitizer = true;
#else
inline constexpr bool kAddressSanitizer = false;
#endif
#else
inline constexpr bool kAddressSanitizer = false;
#endif

/// A short free list of blocks of one size. A block of another size is plain heap, and
/// so is one for a type that wants more than the usual alignment.
class SpareBlocks {
  public:
    SpareBlocks() noexcept = default;
    SpareBlocks(const SpareBlocks&) = delete;
    SpareBlocks& operator=(const SpareBlocks&) = delete;
    ~SpareBlocks() {
        while (first_) ::operator delete(pop());
    }

    /// Room for a T.
    template <class T>
    [[nodiscard]] void* take() {
        if constexpr (kOverAligned<T>) return ::operator new (sizeof(T), std::align_val_t{alignof(T)});
        return first_ && sizeof(T) == bytes_ ? pop() : ::operator new(sizeof(T));
    }

    template <class T>
    void give_back(void* block) noexcept {
        if constexpr (kOverAligned<T>) return ::operator delete (block, std::align_val_t{alignof(T)});
        if (count_ == kMost || (first_ && sizeof(T) != bytes_)) return ::operator delete(block);
        bytes_ = sizeof(T);
        first_ = ::new (block) Spare{first_};
        ++count_;
    }

  private:
    struct Spare {
        Spare* next;
    };
    static constexpr std::size_t kMost = kAddressSanitizer ? 0 : 64;
    template <class T>
    static constexpr bool kOverAligned = alignof(T) > __STDCPP_DEFAULT_NEW_ALIGNMENT__;

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
