// FlightRef: a flight without its types, and who waits for whom among flights.
//
// A run that asks for something becomes a requester itself. If the flight it
// asks for already waits, through any number of others, for this very run, it
// would wait for ever. So every membership taken "on behalf of" a flight is an
// edge from that flight to the one it joined, a successor has an edge to its
// predecessor, and a request that would close a ring is refused before it is
// made. Detection follows these edges, the call chain, across groups of any
// type; it does not compare the identity of an original request, which would
// refuse two branches of one request that meet on a common flight without any
// ring. Flights of one ring live on one thread; threads are blocking_group.h's.
#pragma once

#include <coalesce/flight/linked_list.h>
#include <coalesce/flight/ref.h>

#include <cstdint>
#include <utility>
#include <vector>

namespace coalesce {

/// Names a flight within its group, increasing in the order of the first
/// request. 0 names none: a request that was refused at once has no flight.
using FlightId = std::uint64_t;

namespace detail {

class FlightBase;

/// "`from` waits for `to`", for as long as a membership lasts. Either end may go first.
struct WaitEdge : Links {
    WaitEdge() noexcept = default;
    ~WaitEdge() { unlink(); }

    FlightBase* to = nullptr;  // outlives the edge: the member that owns the edge is its
};

/// The part of a flight that knows neither key nor result.
class FlightBase {
  public:
    FlightBase(const FlightBase&) = delete;
    FlightBase& operator=(const FlightBase&) = delete;

    void retain() noexcept { ++references_; }
    void release() noexcept {
        if (--references_ == 0) delete this;
    }

    [[nodiscard]] FlightId id() const noexcept { return id_; }
    /// The run is over: nothing it still holds can keep anybody waiting.
    [[nodiscard]] bool landed() const noexcept { return landed_; }
    /// Its members have their outcome, though the run may still be winding down.
    [[nodiscard]] bool settled() const noexcept { return settled_; }

    /// Records that this flight waits for `to`.
    void wait_for(FlightBase& to, WaitEdge& edge) noexcept {
        edge.to = &to;
        waits_for_.push_back(edge);
    }

    /// Whether this flight is `other` or waits for it, directly or through others.
    [[nodiscard]] bool waits_for(const FlightBase& other) const {
        if (this == &other) return !landed_;
        if (landed_ || other.landed_ || (waits_for_.empty() && !predecessor_)) return false;
        // An explicit stack: a chain of flights may be as long as memory allows.
        std::vector<const FlightBase*> to_visit{this};
        const std::uint64_t visit = ++last_visit_;
        visit_ = visit;
        while (!to_visit.empty()) {
            const FlightBase& flight = *to_visit.back();
            to_visit.pop_back();
            const auto reaches = [&](const FlightBase& next) {
                if (&next == &other) return true;
                if (!next.landed_ && next.visit_ != visit) {
                    next.visit_ = visit;
                    to_visit.push_back(&next);
                }
                return false;
            };
            if (flight.predecessor_ && reaches(*flight.predecessor_)) return true;
            for (const WaitEdge* edge = flight.waits_for_.front(); edge; edge = flight.waits_for_.after(*edge))
                if (!edge->to->settled_ && reaches(*edge->to)) return true;
        }
        return false;
    }

  protected:
    explicit FlightBase(FlightId id) noexcept : id_(id) {}

    virtual ~FlightBase() {
        while (WaitEdge* edge = waits_for_.front()) edge->unlink();
    }

    bool landed_ = false;
    bool settled_ = false;
    std::uint32_t references_ = 0;
    FlightBase* predecessor_ = nullptr;  // whose landing this flight's start awaits

  private:
    inline static thread_local constinit std::uint64_t last_visit_ = 0;

    FlightId id_;
    mutable std::uint64_t visit_ = 0;
    LinkedList<WaitEdge> waits_for_;
};

/// The flight on whose behalf this thread runs just now, if any.
inline thread_local constinit FlightBase* current_flight = nullptr;

}  // namespace detail

/// A handle to a flight of any group: to compare, to name in a log, and to say
/// on whose behalf a request is made. Holds the flight's memory, not its run.
class FlightRef {
  public:
    FlightRef() noexcept = default;
    explicit FlightRef(detail::FlightBase* flight) noexcept : flight_(flight) {}

    /// The flight whose start is on the stack, or that a FlightScope names.
    [[nodiscard]] static FlightRef current() noexcept { return FlightRef(detail::current_flight); }

    [[nodiscard]] FlightId id() const noexcept { return flight_ ? flight_->id() : 0; }
    [[nodiscard]] bool landed() const noexcept { return !flight_ || flight_->landed(); }
    explicit operator bool() const noexcept { return static_cast<bool>(flight_); }
    friend bool operator==(const FlightRef& a, const FlightRef& b) noexcept {
        return a.flight_.get() == b.flight_.get();
    }

    /// For the rooms of this library.
    [[nodiscard]] detail::FlightBase* get() const noexcept { return flight_.get(); }

  private:
    detail::Ref<detail::FlightBase> flight_;
};

/// Makes a flight the current one for a block: requests in it are made on its
/// behalf unless they say otherwise. A start function has one around it; a run
/// that goes on later, from its own events, may open one again.
class FlightScope {
  public:
    explicit FlightScope(FlightRef flight) noexcept
        : flight_(std::move(flight)), outer_(std::exchange(detail::current_flight, flight_.get())) {}
    FlightScope(const FlightScope&) = delete;
    FlightScope& operator=(const FlightScope&) = delete;
    ~FlightScope() { detail::current_flight = outer_; }

  private:
    FlightRef flight_;
    detail::FlightBase* outer_;
};

}  // namespace coalesce
