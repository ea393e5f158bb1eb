// SPDX-License-Identifier: MIT
// WaitNode: who waits for whom, and whether one more would close a ring.
//
// A run that asks for something becomes a requester itself. If what it asks for
// already waits, through any number of others, for this very run, it would wait
// for ever. So everything that runs is a node; a membership taken on its behalf
// is an edge from it to what it joined, a successor has an edge to its
// predecessor, and a request that would close a ring is refused before it is
// made. Edges are the call chain; refused is the comparison of an original
// request's identity, which would also refuse two branches of one request that
// meet on a common run without any ring. A graph is used by one thread at a
// time: a loop's own, or whoever holds the lock of blocking_group.h.
#pragma once

#include <coalesce/flight/linked_list.h>

#include <atomic>
#include <cstdint>
#include <utility>
#include <vector>

namespace coalesce::detail {

class WaitNode;

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
    WaitNode* from = nullptr;
    WaitNode* to = nullptr;
    End out;  // in from's list of those it waits for
    End in;   // in to's list of those who wait for it
};

/// Something that runs, as far as waiting for it goes.
class WaitNode {
  public:
    WaitNode(const WaitNode&) = delete;
    WaitNode& operator=(const WaitNode&) = delete;

    /// The run is over: nothing it still holds can keep anybody waiting.
    [[nodiscard]] bool landed() const noexcept { return landed_; }
    /// Its members have their outcome, though the run may still be winding down.
    [[nodiscard]] bool settled() const noexcept { return settled_; }

    /// Records that this node waits for `to`.
    void wait_for(WaitNode& to, WaitEdge& edge) noexcept {
        edge.from = this;
        edge.to = &to;
        waits_for_.push_back(edge.out);
        to.waited_for_by_.push_back(edge.in);
    }

    /// Whether this node is `other` or waits for it, directly or through others.
    [[nodiscard]] bool waits_for(const WaitNode& other) const;

  protected:
    WaitNode() noexcept = default;
    ~WaitNode() {
        while (WaitEdge::End* end = waits_for_.front()) end->edge->cut();
        while (WaitEdge::End* end = waited_for_by_.front()) end->edge->cut();
    }

    bool landed_ = false;
    bool settled_ = false;
    WaitNode* predecessor_ = nullptr;  // whose landing this one's start awaits
    WaitNode* follower_ = nullptr;     // whose predecessor this is

  private:
    friend class WaitWalk;

    mutable std::uint64_t visits_[2] = {0, 0};  // the last walk of each direction that came by
    LinkedList<WaitEdge::End> waits_for_;
    LinkedList<WaitEdge::End> waited_for_by_;
};

/// A walk over the graph, one edge a step, with a stack of its own: a
/// chain of flights may be as long as memory allows.
class WaitWalk {
  public:
    enum Direction { kForward, kBackward };
    enum Step { kGoesOn, kArrived, kExhausted };

    WaitWalk(Direction direction, const WaitNode& start, const WaitNode& goal, std::uint64_t visit)
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
    [[nodiscard]] const LinkedList<WaitEdge::End>& edges(const WaitNode& flight) const noexcept {
        return direction_ == kForward ? flight.waits_for_ : flight.waited_for_by_;
    }

    void enter(const WaitNode& flight) noexcept {
        if (!to_visit_.empty()) to_visit_.pop_back();
        flight.visits_[direction_] = visit_;
        at_ = &flight;
        end_ = edges(flight).front();
        neighbour_ = direction_ == kForward ? flight.predecessor_ : flight.follower_;
    }

    Step look_at(const WaitNode& flight) {
        if (&flight == &goal_) return kArrived;
        if (flight.landed_ || flight.visits_[direction_] == visit_) return kGoesOn;
        flight.visits_[direction_] = visit_;
        to_visit_.push_back(&flight);
        return kGoesOn;
    }

    Direction direction_;
    std::uint64_t visit_;
    const WaitNode& goal_;
    const WaitNode* at_ = nullptr;
    const WaitNode* neighbour_ = nullptr;
    const WaitEdge::End* end_ = nullptr;
    std::vector<const WaitNode*> to_visit_;
};

// From both ends in turn, until either has nowhere to go: mostly one of them has
// nobody behind it, and then a request deep in a long chain costs nothing.
inline bool WaitNode::waits_for(const WaitNode& other) const {
    static constinit std::atomic<std::uint64_t> last_visit = 0;  // of all graphs
    if (landed_ || other.landed_) return false;
    if (this == &other) return true;
    const std::uint64_t visit = last_visit.fetch_add(1, std::memory_order_relaxed) + 1;
    WaitWalk forward(WaitWalk::kForward, *this, other, visit);
    WaitWalk backward(WaitWalk::kBackward, other, *this, visit);
    for (;;) {
        for (WaitWalk* walk : {&forward, &backward}) {
            const WaitWalk::Step step = walk->step();
            if (step != WaitWalk::kGoesOn) return step == WaitWalk::kArrived;
        }
    }
}

}  // namespace coalesce::detail
