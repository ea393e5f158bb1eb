// SPDX-License-Identifier: MIT
// Places: how many runs there may be at a time, and which of them lend their place (SPEC F12).
//
// A run that waits for another one lends its place under the limit, so that commands
// which ask for commands cannot deadlock it. A loan belongs to its flight, not to one
// run of it: between two tries there is no place to lend, and the next try lends its
// own. Given back, the place is taken at once, even over the limit: the run is there
// already. A loan may outlive its flight, and whoever gave it.
#pragma once

#include <coalesce/flight/flight_ref.h>

#include <cstddef>
#include <memory>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace coalesce {

class Places {
  public:
    /// `limit` 0: there is none.
    explicit Places(unsigned limit) : state_(std::make_shared<State>()), limit_(limit) {}

    /// Beside so many that are spoken for.
    [[nodiscard]] bool free(std::size_t spoken_for = 0) const noexcept {
        return limit_ == 0 || working() + spoken_for < limit_;
    }
    /// Runs that have their place for themselves.
    [[nodiscard]] std::size_t working() const noexcept { return state_->running.size() - state_->lending; }

    /// Its own, also while it lends it.
    [[nodiscard]] bool has(FlightId id) const { return state_->running.contains(id); }

    void take(FlightId id) {
        if (state_->running.insert(id).second && state_->loans.contains(id)) ++state_->lending;
    }
    void give_back(FlightId id) {
        if (state_->running.erase(id) > 0 && state_->loans.contains(id)) --state_->lending;
    }

    class Loan;
    /// Nothing is lent where no run of that flight is under way.
    [[nodiscard]] Loan lend(FlightId id);

  private:
    struct State {
        std::unordered_set<FlightId> running;
        std::unordered_map<FlightId, unsigned> loans;  // how many hold one
        std::size_t lending = 0;                       // of those that run
    };

    std::shared_ptr<State> state_;
    unsigned limit_;
};

/// Held while the asking command waits.
class Places::Loan {
  public:
    Loan() = default;
    Loan(Loan&& other) noexcept : state_(std::move(other.state_)), id_(other.id_) {}
    Loan& operator=(Loan&& other) noexcept {
        std::swap(state_, other.state_);
        std::swap(id_, other.id_);
        return *this;
    }
    /// Whether anything is lent.
    explicit operator bool() const noexcept { return state_ != nullptr; }
    ~Loan() {
        if (!state_) return;
        const auto found = state_->loans.find(id_);
        if (--found->second > 0) return;
        state_->loans.erase(found);
        if (state_->running.contains(id_)) --state_->lending;
    }

  private:
    friend class Places;
    std::shared_ptr<State> state_;
    FlightId id_{};
};

inline Places::Loan Places::lend(FlightId id) {
    Loan loan;
    if (!state_->running.contains(id)) return loan;
    if (state_->loans[id]++ == 0) ++state_->lending;
    loan.state_ = state_;
    loan.id_ = id;
    return loan;
}

}  // namespace coalesce
