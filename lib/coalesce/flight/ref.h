// SPDX-License-Identifier: MIT
// Ref: a counted pointer for objects that stay on one thread.
//
// The object counts for itself with retain() and release(), without atomics,
// since a group and all that hangs on it is loop-affine. Refused: shared_ptr,
// which costs a second word in every waiter and a locked instruction at every
// copy as soon as the program has a second thread.
#pragma once

#include <utility>

namespace coalesce::detail {

/// Owns one count of T.
template <class T>
class Ref {
  public:
    Ref() noexcept = default;
    explicit Ref(T* object) noexcept : object_(object) {
        if (object_) object_->retain();
    }
    Ref(const Ref& other) noexcept : Ref(other.object_) {}
    Ref(Ref&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
    Ref& operator=(Ref other) noexcept {
        std::swap(object_, other.object_);
        return *this;
    }
    ~Ref() {
        if (object_) object_->release();
    }

    /// Takes over a count the caller already holds.
    [[nodiscard]] static Ref adopt(T* object) noexcept {
        Ref ref;
        ref.object_ = object;
        return ref;
    }

    [[nodiscard]] T* get() const noexcept { return object_; }
    T* operator->() const noexcept { return object_; }
    T& operator*() const noexcept { return *object_; }
    explicit operator bool() const noexcept { return object_ != nullptr; }

  private:
    T* object_ = nullptr;
};

}  // namespace coalesce::detail
