// SPDX-License-Identifier: MIT
// MeetingPlace: a directory in which wrappers of one user find each other's flights (SPEC R9).
//
// A flight of key K is a socket K.sock that its supervisor listens on. Which process the
// flight runs stands beside it, in K.run (see FlightRecord), so that whoever finds a
// dead supervisor can end what is left of its process group (R6). Joining needs no lock.
// To lead, a requester takes the lock, looks again, sees to it that nothing is left of a
// dead supervisor's run, and binds: nobody can bind in between, and nobody waits on
// a socket that is not listened on (its queue dies with its owner). Nothing here waits: who finds the
// lock taken, or a run still dying, is told so and asks again, and hears of other things
// meanwhile. In which directories a user's wrappers meet is MeetingPlaces' business.
#pragma once

#include <coalesce/command/result.h>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <coalesce/io/descriptor.h>
#include <coalesce/meeting/flight_record.h>
#include <coalesce/meeting/leftovers.h>

namespace coalesce {

class MeetingPlace {
  public:
    /// The directory at `path`, made if missing, for this user alone. Refused, naming the
    /// culprit, unless it is a directory of this user with mode 0700.
    static Result<MeetingPlace> open(const std::string& path);
    /// The same of one that the user has named: made, too, but taken as it is.
    static Result<MeetingPlace> open_named(const std::string& path);
    /// The same of one that is only looked at: nothing where it is missing, or is refused.
    static std::optional<MeetingPlace> look(const std::string& path);

    /// A connection to a live flight; an empty descriptor: there is none. Not to be
    /// able to tell is an error: taking a live flight for dead would end its run. With
    /// EAGAIN its queue is full.
    Result<Descriptor> connect(const std::string& key) const;

    /// The right to lead; given back at its end.
    class Lock {
      public:
        explicit Lock(Descriptor file) : file_(std::move(file)) {}
        Lock(Lock&&) = default;
        Lock& operator=(Lock&&) = delete;
        ~Lock();

      private:
        Descriptor file_;
    };
    /// Refused with EWOULDBLOCK while somebody else has it.
    Result<Lock> lock() const;

    /// Listens for the flight named `key`. Only with the lock, when nobody answers there.
    Result<Descriptor> bind(const std::string& key) const;

    /// The flight named `key` is over: newcomers lead a new one. Only its supervisor
    /// may say so, while its listener is open, or who has the lock and found it dead.
    void leave(const std::string& key) noexcept;

    /// Ends what is left of the process group that a dead supervisor of `key` ran.
    [[nodiscard]] Leftovers end_leftovers(const std::string& key) const;

    /// Removes what a dead supervisor of `key` left; false: something is in the way, still.
    bool clean(const std::string& key);
    /// The same of any key; where there are many flights it looks at some, and at others
    /// the next time.
    void sweep();

    /// Says that a flight is alive to those who remove what is old. Once a day will do.
    void touch(const std::string& key) const noexcept;

    /// Writes down, from a child between fork and exec, which process the flight runs; its parent has that numbering.
    [[nodiscard]] FlightRecorder recorder(const std::string& key, std::optional<Numbering> numbering) const;

    /// The keys that have a socket here, live or not; the server's name is no key.
    [[nodiscard]] std::vector<std::string> keys() const;

    /// The flight that runs this process as its command; empty: none that is here.
    [[nodiscard]] std::string flight_of(pid_t command) const;

    /// Where the user's server listens, unless it was told otherwise.
    [[nodiscard]] std::string server_socket() const { return path_ + "/server.sock"; }
    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    [[nodiscard]] int directory() const noexcept { return directory_.get(); }

  private:
    MeetingPlace(std::string path, Descriptor directory) : path_(std::move(path)), directory_(std::move(directory)) {}
    [[nodiscard]] bool runs(const std::string& key, const Numbering& own) const;

    std::string path_;
    Descriptor directory_;
};

}  // namespace coalesce
