// SPDX-License-Identifier: MIT
// Waiter: one requester's place in a flight, and the pool places come from.
//
// A place is what a ticket holds: linked into the flight until its turn, with
// the callback in it. Two million requesters of one flight are an ordinary load,
// and most of what a join costs is memory that was never touched before, so a
// place is 48 bytes (asserted) and comes from slabs: an edge of the wait-for graph
// or a stop callback, which few requesters have, live outside, and who has them
// reaches its flight through them.
// The pool gives its slabs back when the last place of the group is free, not
// before; a long-lived requester may thus hold a burst's memory. Refused: one
// malloc a place, which costs as much as the rest of a join.
#pragma once

#include <coalesce/flight/flight_ref.h>
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

class FlightCore;
struct Waiter;

/// Leaves the flight when the requester's stop token says so.
struct LeaveOnStop {
    Waiter* waiter;
    void operator()() const noexcept;
};

/// What only some requesters have.
struct alignas(16) WaiterExtras {
    explicit WaiterExtras(FlightCore& of) noexcept : flight(&of) {}

    FlightCore* flight;
    WaitEdge edge;
    std::optional<std::stop_callback<LeaveOnStop>> stop;
};

struct Waiter : Links {
    using Extras = WaiterExtras;

    enum Flag : std::uintptr_t {
        kTicket = 1,     // a ticket holds it, and through it the flight
        kCancelled = 2,  // it gets operation_canceled, however the flight ends
        kOver = 4,       // called or gone: no callback will be called any more
        kExtras = 8,     // has extras, which know the flight
        kFlags = 15,
    };

    explicit Waiter(FlightCore& of) noexcept;

    [[nodiscard]] bool is(Flag flag) const noexcept { return (home_and_flags & flag) != 0; }
    void set(Flag flag) noexcept { home_and_flags |= flag; }
    void clear(Flag flag) noexcept { home_and_flags &= ~std::uintptr_t{flag}; }

    [[nodiscard]] FlightCore& flight() const noexcept { return is(kExtras) ? *extras()->flight : *home<FlightCore>(); }

    /// Null if it has none.
    [[nodiscard]] Extras* extras() const noexcept { return is(kExtras) ? home<Extras>() : nullptr; }
    Extras& need_extras() {
        if (!is(kExtras)) move_to(new Extras(flight()), kExtras);
        return *extras();
    }
    /// Ends the edge and the stop callback. Fine inside that stop callback.
    void drop_extras() noexcept;

    UniqueFunction<void(const void* landing)> callback;

  private:
    template <class Home>
    [[nodiscard]] static std::uintptr_t word(Home* home) noexcept {
        static_assert(alignof(Home) > kFlags, "the flags share the word");
        return reinterpret_cast<std::uintptr_t>(home);
    }
    template <class Home>
    [[nodiscard]] Home* home() const noexcept {
        // NOLINTNEXTLINE(performance-no-int-to-ptr): four flags share the word
        return reinterpret_cast<Home*>(home_and_flags & ~std::uintptr_t{kFlags});
    }
    template <class Home>
    void move_to(Home* home, std::uintptr_t flag) noexcept {
        home_and_flags = word(home) | (home_and_flags & kFlags) | flag;
    }

    std::uintptr_t home_and_flags;  // the flight, or the extras that know it
};

/// Memory for waiters: a free list over slabs that double up to 64 KiB.
class WaiterPool {
  public:
    WaiterPool() noexcept = default;
    WaiterPool(const WaiterPool&) = delete;
    WaiterPool& operator=(const WaiterPool&) = delete;

    [[nodiscard]] Waiter* make(FlightCore& flight) {
        static_assert(sizeof(Waiter) <= 48, "2,000,000 waiters are to fit in 64 bytes each");
        void* place = kAddressSanitizer ? ::operator new(sizeof(Waiter)) : take_place();
        ++live_;
        return ::new (place) Waiter(flight);  // does not throw
    }

    void free(Waiter* waiter) noexcept {
        waiter->~Waiter();
        if constexpr (kAddressSanitizer) return ::operator delete(waiter);
        Place* place = ::new (static_cast<void*>(waiter)) Place;
        place->next = free_;
        free_ = place;
        if (--live_ == 0 && slabs_.size() > 1) shrink();
    }

  private:
    union Place {
        Place() noexcept : next(nullptr) {}
        Place* next;
        alignas(Waiter) std::byte bytes[sizeof(Waiter)];
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
