// SPDX-License-Identifier: MIT
// LinkedList: a ring of objects that carry their own links.
//
// Joining, leaving and moving a whole list are O(1), allocate nothing and need
// no list to unlink from: an object that leaves knows its neighbours. That is
// what lets a callback take out a peer while the list is being walked. The list
// owns nothing and never moves, since its members point back at its root.
#pragma once

namespace coalesce::detail {

/// The links of a member, or the root of a list. Unlinked means pointing at itself.
struct Links {
    Links() noexcept : previous(this), next(this) {}
    Links(const Links&) = delete;
    Links& operator=(const Links&) = delete;

    [[nodiscard]] bool linked() const noexcept { return next != this; }

    void unlink() noexcept {
        previous->next = next;
        next->previous = previous;
        previous = next = this;
    }

    Links* previous;
    Links* next;
};

/// A list of T, which derives from Links.
template <class T>
class LinkedList {
  public:
    [[nodiscard]] bool empty() const noexcept { return !root_.linked(); }
    [[nodiscard]] T* front() const noexcept { return empty() ? nullptr : static_cast<T*>(root_.next); }

    /// The member after `member`, or null at the end.
    [[nodiscard]] T* after(const T& member) const noexcept {
        const Links& links = member;
        return links.next == &root_ ? nullptr : static_cast<T*>(links.next);
    }

    void push_back(T& member) noexcept {
        Links& links = member;
        links.previous = root_.previous;
        links.next = &root_;
        root_.previous->next = &links;
        root_.previous = &links;
    }

    /// Moves every member of `other` to the end of this list, in order.
    void splice_back(LinkedList& other) noexcept {
        if (other.empty()) return;
        Links& from = other.root_;
        root_.previous->next = from.next;
        from.next->previous = root_.previous;
        from.previous->next = &root_;
        root_.previous = from.previous;
        from.previous = from.next = &from;
    }

  private:
    Links root_;
};

}  // namespace coalesce::detail
