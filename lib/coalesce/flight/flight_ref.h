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
struct WaitEdge {
    WaitEdge() noexcept : out{{}, this}, in{{}, this} {}
    WaitEdge(const WaitEdge&) = delete;
    WaitEdge& operator=(const WaitEdge&) = delete;
    ~WaitEdge() { cut(); }

    void cut() noexcept {
        out.unlink();
        in.unlink();
    }

    struct End : Links {
        WaitEdge* edge;
    };
    FlightBase* from = nullptr;
    FlightBase* to = nullptr;
    End out;  // in from's list of those it waits for
    End in;   // in to's list of those who wait for it
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
        edge.from = this;
        edge.to = &to;
        waits_for_.push_back(edge.out);
        to.waited_for_by_.push_back(edge.in);
    }

    /// Whether this flight is `other` or waits for it, directly or through others.
    [[nodiscard]] bool waits_for(const FlightBase& other) const;

  protected:
    explicit FlightBase(FlightId id) noexcept : id_(id) {}

    virtual ~FlightBase() {
        while (WaitEdge::End* end = waits_for_.front()) end->edge->cut();
        while (WaitEdge::End* end = waited_for_by_.front()) end->edge->cut();
    }

    bool landed_ = false;
    bool settled_ = false;
    std::uint32_t references_ = 0;
    FlightBase* predecessor_ = nullptr;  // whose landing this flight's start awaits
    FlightBase* follower_ = nullptr;     // whose predecessor this is

  private:
    friend class WaitWalk;

    FlightId id_;
    mutable std::uint64_t visits_[2] = {0, 0};  // the last walk of each direction that came by
    LinkedList<WaitEdge::End> waits_for_;
    LinkedList<WaitEdge::End> waited_for_by_;
};

/// A walk over the wait-for graph, one edge a step, with a stack of its own: a
/// chain of flights may be as long as memory allows.
class WaitWalk {
  public:
    enum Direction { kForward, kBackward };
    enum Step { kGoesOn, kArrived, kExhausted };

    WaitWalk(Direction direction, const FlightBase& start, const FlightBase& goal, std::uint64_t visit)
        : direction_(direction), visit_(visit), goal_(goal) {
        enter(start);
    }

    Step step() {
        if (!at_) {
            if (to_visit_.empty()) return kExhausted;
            enter(*to_visit_.back());
        }
        if (neighbour_) return look_at(*std::exchange(neighbour_, nullptr));
        if (!end_) {
            at_ = nullptr;
            return kGoesOn;
        }
        const WaitEdge& edge = *end_->edge;
        end_ = edges(*at_).after(*end_);
        if (edge.to->settled_) return kGoesOn;  // about to be told, so not waiting
        return look_at(direction_ == kForward ? *edge.to : *edge.from);
    }

  private:
    [[nodiscard]] const LinkedList<WaitEdge::End>& edges(const FlightBase& flight) const noexcept {
        return direction_ == kForward ? flight.waits_for_ : flight.waited_for_by_;
    }

    void enter(const FlightBase& flight) noexcept {
        if (!to_visit_.empty()) to_visit_.pop_back();
        flight.visits_[direction_] = visit_;
        at_ = &flight;
        end_ = edges(flight).front();
        neighbour_ = direction_ == kForward ? flight.predecessor_ : flight.follower_;
    }

    Step look_at(const FlightBase& flight) {
        if (&flight == &goal_) return kArrived;
        if (flight.landed_ || flight.visits_[direction_] == visit_) return kGoesOn;
        flight.visits_[direction_] = visit_;
        to_visit_.push_back(&flight);
        return kGoesOn;
    }

    Direction direction_;
    std::uint64_t visit_;
    const FlightBase& goal_;
    const FlightBase* at_ = nullptr;
    const FlightBase* neighbour_ = nullptr;
    const WaitEdge::End* end_ = nullptr;
    std::vector<const FlightBase*> to_visit_;
};

// From both ends in turn, until either has nowhere to go: mostly one of them has
// nobody behind it, and then a request deep in a long chain costs nothing.
inline bool FlightBase::waits_for(const FlightBase& other) const {
    static thread_local constinit std::uint64_t last_visit = 0;
    if (landed_ || other.landed_) return false;
    if (this == &other) return true;
    ++last_visit;
    WaitWalk forward(WaitWalk::kForward, *this, other, last_visit);
    WaitWalk backward(WaitWalk::kBackward, other, *this, last_visit);
    for (;;) {
        for (WaitWalk* walk : {&forward, &backward}) {
            const WaitWalk::Step step = walk->step();
            if (step != WaitWalk::kGoesOn) return step == WaitWalk::kArrived;
        }
    }
}

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
