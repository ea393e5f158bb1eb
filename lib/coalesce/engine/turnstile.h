// SPDX-License-Identifier: MIT
// Turnstile: the seam for runs that wait for others of their class, of whatever process (SPEC C).
//
// The executor knows no class. For a run that has one it asks for a turn when there is a place
// for it, and starts it when its turn has come; until then it is queued, and has no place under the
// limit of this process: what it waits for may itself wait for a place here. The turn is given
// back when the run is over; whether its process group is gone by then is for the turn to see to.
// A run without a class costs one branch.
#pragma once

#include <coalesce/command/result.h>
#include <coalesce/command/run_class.h>
#include <coalesce/flight/unique_function.h>

#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <vector>

#include <coalesce/engine/turns.h>
#include <coalesce/io/spawn.h>

namespace coalesce {

class Loop;

class Turnstile {
  public:
    /// One run's. Its destruction gives it back, whether it had come or not.
    class Turn {
      public:
        Turn() = default;
        Turn(const Turn&) = delete;
        Turn& operator=(const Turn&) = delete;
        virtual ~Turn() = default;

        /// The run may start.
        [[nodiscard]] virtual bool has_come() const noexcept = 0;
        /// How many runs of the class it waits for, as far as that is known.
        [[nodiscard]] virtual std::size_t others() const noexcept = 0;
        /// When it comes, guessed from how long the runs before it took at other times.
        [[nodiscard]] virtual Turns::Time expected() const = 0;
        /// By what the run's processes are known, should this process be killed: a hook for the child that
        /// is started, and an entry for its environment. Asked for once it has come.
        [[nodiscard]] virtual ProcessMark mark() noexcept = 0;
        /// One more process asks for the run. While that waits it comes to share the turn of the run that the process
        /// is part of, if there is one, which would else wait for it as it waits for that.
        virtual void joined_by(pid_t asker) = 0;
    };

    virtual ~Turnstile() = default;

    /// Whether one of them is part of a run of that class, so that what they ask for shares its turn.
    [[nodiscard]] virtual bool shares_turn(const RunClass& run_class, const std::vector<pid_t>& askers) = 0;

    /// A turn for a run of that class, of which `jobs` may be under way at a time. `askers` are the processes that ask:
    /// a run that one of them is part of shares its turn. `takes`: how long it may be under way. `on_come` is called on
    /// a later turn of the loop, unless it has come already; the turn may be destroyed from there.
    [[nodiscard]] virtual Result<std::unique_ptr<Turn>> ask(Loop& loop, const RunClass& run_class, unsigned jobs,
                                                            const std::vector<pid_t>& askers, Turns::Time takes,
                                                            UniqueFunction<void()> on_come) = 0;
};

}  // namespace coalesce
