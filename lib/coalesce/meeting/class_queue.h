// SPDX-License-Identifier: MIT
// ClassQueue: the runs of one class that are under way or wait for it, of all processes of a user (SPEC C).
//
// A directory of the meeting place has a ticket for each: a FIFO whose name is its number, so that
// they stand in the order of their coming, and which its process holds open for reading. The kernel
// lets go of it at that process's death, however it dies, and tells whoever has it open for
// writing: so a ticket is a lock, and its end is heard by any number of others without asking
// again and again. (Of flock nobody is told; of inotify a user has 128.)
//
// A run may start when fewer than N tickets stand before its own, where N is the smallest number that they
// and it name. Tickets before it only ever go, since numbers are given under a lock; so whoever has looked needs
// to look again only when one of them goes. Who waits behind another that waits is told by that
// one's start (a second FIFO), so that an end wakes one, not all.
//
// Where it is known how long a run usually takes, its ticket says so (a symbolic link, so that it is whole
// or not there): from that, and from when those that run were recorded, who waits is told for how long.
//
// A run that is started is recorded, from its own process, before it executes anything. A ticket whose holder
// was killed is taken away by who finds it, once it has ended what is left of its run (SPEC R6). One whose
// run is over, while its process group has members still, stays until those have gone, and nobody
// ends them: it is marked so.
//
// A command that runs under a run of the class, and asks for another, stands in a queue of its own behind
// that run's ticket, one at a time: its ticket has that one's number before its own.
//
// Nothing here waits or has a loop: see ClassTurns.
#pragma once

#include <coalesce/command/result.h>

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <coalesce/engine/turns.h>
#include <coalesce/io/descriptor.h>
#include <coalesce/io/spawn.h>
#include <coalesce/meeting/flight_record.h>
#include <coalesce/meeting/meeting_place.h>

namespace coalesce {

class ClassQueue : public std::enable_shared_from_this<ClassQueue> {
  public:
    /// That of the class, whose directory is made if missing.
    static Result<std::shared_ptr<ClassQueue>> open(const MeetingPlace& place, const std::string& name);

    /// Where a ticket stands.
    struct Standing {
        bool may_start = false;
        std::size_t others = 0;           ///< for which it waits
        std::vector<Descriptor> watched;  ///< look again when one of them has an error
        bool look_soon = false;           ///< something before it is about to end that cannot be watched
    };

    class Ticket {
      public:
        /// Given back: at once, or when the group of the run that was started has gone.
        ~Ticket();
        Ticket(const Ticket&) = delete;
        Ticket& operator=(const Ticket&) = delete;

        [[nodiscard]] Standing look();
        /// When it may start, if those before it take as long as usual; nothing: of one of them that is not known.
        [[nodiscard]] Turns::Time expected() const;
        /// Whether `asker` is part of a run behind whose ticket it does not stand: taken anew, for that process too, it
        /// would.
        [[nodiscard]] bool stands_apart_from(pid_t asker) const;
        /// From now on it has started; those behind it look at it anew.
        void start() noexcept;
        /// What the run is known by.
        [[nodiscard]] ProcessMark mark() noexcept;
        /// It is alive, to those who remove what is old.
        void touch() const noexcept;

      private:
        friend class ClassQueue;
        using Path = std::vector<std::uint64_t>;
        Ticket(std::shared_ptr<ClassQueue> queue, Path path, unsigned jobs);
        [[nodiscard]] bool counts(const std::string& ticket, bool& dying);

        const std::shared_ptr<ClassQueue> queue_;
        const Path path_;
        const unsigned jobs_;
        const std::string name_;
        const std::string mark_;
        const FlightRecorder recorder_;
        Descriptor alive_;
        Descriptor waiting_;
        bool started_ = false;
        std::optional<std::int64_t> dying_since_us_;  // what a killed one left
    };

    /// A ticket behind all others, or behind that of the run which one of `askers` is part of: the last of them, or one
    /// that runs below that. It is looked at already: see `standing`. Null: somebody has the lock, ask again in a
    /// moment. `takes`: how long its run usually does.
    Result<std::unique_ptr<Ticket>> take(unsigned jobs, const std::vector<pid_t>& askers, Turns::Time takes,
                                         Standing& standing);
    /// Whether there is such a run.
    [[nodiscard]] bool has_run_of(const std::vector<pid_t>& askers) const;

  private:
    struct Found;
    ClassQueue(Descriptor directory, std::string name) : directory_(std::move(directory)), name_(std::move(name)) {}
    [[nodiscard]] Result<std::vector<Found>> tickets() const;
    [[nodiscard]] Ticket::Path run_above(const std::vector<Found>& tickets, pid_t asker) const;
    [[nodiscard]] Ticket::Path run_above(const std::vector<Found>& tickets, const std::vector<pid_t>& askers) const;
    [[nodiscard]] Result<Descriptor> hold(const std::string& file) const;
    [[nodiscard]] Descriptor watch(const std::string& file) const noexcept;
    [[nodiscard]] Turns::Time left_by(const std::string& ticket) const;
    [[nodiscard]] std::string mark_of(const std::string& ticket) const;
    enum class Left { nothing, group, dying };
    [[nodiscard]] Left left_of(const std::string& ticket) const;
    void remove(const std::string& ticket) const noexcept;

    Descriptor directory_;
    const std::string name_;
};

}  // namespace coalesce
