// Waiter: one requester's place in a flight, and the pool places come from.
//
// A place is what a ticket holds: linked into the flight until its turn, with
// the callback in it. Two million requesters of one flight are an ordinary
// load, so a place is 56 bytes (asserted) and comes from slabs: an edge of the
// wait-for graph or a stop callback, which few requesters have, live outside.
// The pool gives its slabs back when the last place of the group is free, not
// before; a long-lived requester may thus hold a burst's memory. Refused: one
// malloc a place, which costs as much as the rest of a join.
#pragma once

#include <coalesce/flight/flight_ref.h>
#include <coalesce/flight/landing.h>
#include <coalesce/flight/spare_blocks.h>
#include <coalesce/flight/unique_function.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <optional>
#include <stop_token>
#include <utility>
#include <vector>

namespace coalesce::detail {

template <class T, class State>
class Flight;
template <class T, class State>
struct Waiter;

/// Leaves the flight when the requester's stop token says so.
template <class T, class State>
struct LeaveOnStop {
    Waiter<T, State>* waiter;
    void operator()() const noexcept;
};

/// What only some requesters have. Over-aligned so that its pointer has room for flags.
template <class T, class State>
struct alignas(32) WaiterExtras {
    WaitEdge edge;
    std::optional<std::stop_callback<LeaveOnStop<T, State>>> stop;
};

template <class T, class State>
struct Waiter : Links {
    enum Flag : std::uintptr_t {
        kLeader = 1,     // began the flight
        kTicket = 2,     // a ticket holds it, and through it the flight
        kCancelled = 4,  // it gets operation_canceled, however the flight ends
        kOver = 8,       // called or gone: no callback will be called any more
        kFlags = 31,
    };

    explicit Waiter(Flight<T, State>& of) noexcept : flight(&of) {}

    [[nodiscard]] bool is(Flag flag) const noexcept { return (extras_and_flags & flag) != 0; }
    void set(Flag flag) noexcept { extras_and_flags |= flag; }
    void clear(Flag flag) noexcept { extras_and_flags &= ~std::uintptr_t{flag}; }

    [[nodiscard]] WaiterExtras<T, State>* extras() const noexcept {
        // NOLINTNEXTLINE(performance-no-int-to-ptr): five flags share the word
        return reinterpret_cast<WaiterExtras<T, State>*>(extras_and_flags & ~std::uintptr_t{kFlags});
    }
    WaiterExtras<T, State>& need_extras() {
        if (!extras()) extras_and_flags |= reinterpret_cast<std::uintptr_t>(new WaiterExtras<T, State>);
        return *extras();
    }
    /// Ends the edge and the stop callback. Fine inside that stop callback.
    void drop_extras() noexcept {
        if (auto* dropped = extras()) {
            extras_and_flags &= kFlags;
            delete dropped;
        }
    }

    Flight<T, State>* flight;
    UniqueFunction<void(const Landing<T>&)> callback;
    std::uintptr_t extras_and_flags = 0;
};

/// Memory for waiters: a free list over slabs that double up to 64 KiB.
template <class T>
class WaiterPool {
  public:
    WaiterPool() noexcept = default;
    WaiterPool(const WaiterPool&) = delete;
    WaiterPool& operator=(const WaiterPool&) = delete;

    template <class... Args>
    [[nodiscard]] T* make(Args&&... args) {
        static_assert(sizeof(T) <= 56, "2,000,000 waiters are to fit in 64 bytes each");
        void* place = kReuseMemory ? take_place() : ::operator new(sizeof(T));
        ++live_;
        return ::new (place) T(std::forward<Args>(args)...);  // does not throw
    }

    void free(T* waiter) noexcept {
        waiter->~T();
        if constexpr (!kReuseMemory) return ::operator delete(waiter);
        Place* place = ::new (static_cast<void*>(waiter)) Place;
        place->next = free_;
        free_ = place;
        if (--live_ == 0 && slabs_.size() > 1) shrink();
    }

  private:
    union Place {
        Place() noexcept : next(nullptr) {}
        Place* next;
        alignas(T) std::byte bytes[sizeof(T)];
    };

    struct FreeSlab {
        void operator()(Place* slab) const noexcept { ::operator delete(slab); }
    };

    static constexpr std::size_t kFirstSlab = 16;
    static constexpr std::size_t kLargestSlab = 65536 / sizeof(Place);

    void* take_place() {
        if (free_) {
            Place* place = free_;
            free_ = place->next;
            return place;
        }
        if (fresh_ == fresh_end_) add_slab();
        return fresh_++;
    }

    void add_slab() {
        const std::size_t places = std::min(kFirstSlab << std::min<std::size_t>(slabs_.size(), 16), kLargestSlab);
        std::unique_ptr<Place, FreeSlab> slab(static_cast<Place*>(::operator new(places * sizeof(Place))));
        slabs_.push_back(std::move(slab));
        fresh_ = slabs_.back().get();
        fresh_end_ = fresh_ + places;
    }

    // Nobody holds a place: keep the first slab only, whole.
    void shrink() noexcept {
        slabs_.erase(slabs_.begin() + 1, slabs_.end());
        free_ = nullptr;
        fresh_ = slabs_.front().get();
        fresh_end_ = fresh_ + kFirstSlab;
    }

    Place* free_ = nullptr;
    Place* fresh_ = nullptr;  // never used yet, up to fresh_end_
    Place* fresh_end_ = nullptr;
    std::size_t live_ = 0;
    std::vector<std::unique_ptr<Place, FreeSlab>> slabs_;
};

}  // namespace coalesce::detail
