// SPDX-License-Identifier: MIT
// FlightRef: a flight without its types.
//
// What a run needs in order to ask for something on its own behalf, across
// groups of any type, so that a request that would wait for itself can be told
// (wait_graph.h). While a flight's start is on the stack nobody has to say so:
// it is the current one. A run that goes on later, from its own events, names
// itself or opens a FlightScope. Flights of one ring live on one thread; threads
// that block are left to blocking_group.h.
#pragma once

#include <coalesce/flight/ref.h>
#include <coalesce/flight/wait_graph.h>

#include <cstdint>
#include <utility>

namespace coalesce {

/// Names a flight within its group, increasing in the order of the first
/// request. 0 names none: a request that was refused at once has no flight.
using FlightId = std::uint64_t;

namespace detail {

/// The part of a flight that knows neither key nor result.
class FlightBase : public WaitNode {
  public:
    void retain() noexcept { ++references_; }
    void release() noexcept {
        if (--references_ == 0) end();
    }

    [[nodiscard]] FlightId id() const noexcept { return id_; }

  protected:
    explicit FlightBase(FlightId id) noexcept : id_(id) {}
    ~FlightBase() = default;

    /// Nobody holds it any more: destroys it, and its memory goes back where it came from.
    virtual void end() noexcept = 0;

  private:
    std::uint32_t references_ = 0;
    FlightId id_;
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
