// SPDX-License-Identifier: MIT
// MeetingPlace: where wrappers of one user find each other's flights (SPEC R9).
//
// A directory that only its owner can enter. A flight of key K is a socket K.sock
// that its supervisor listens on. Which process the flight runs is written into the
// socket's own time of modification, so that whoever finds a dead supervisor can end what is left
// of its process group (R6): nothing else is as cheap, needs no second file, and
// cannot be half written. Joining needs no lock. To lead, a requester takes
// the lock, looks again, ends and removes what a dead supervisor left, and binds:
// nobody can bind in between, and nobody waits on a socket that is not listened on
// (its queue dies with its owner). Sockets are bound and reached through the
// directory's descriptor, so the length of its path does not matter.
#pragma once

#include <coalesce/command/result.h>

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <coalesce/io/descriptor.h>

namespace coalesce {

class MeetingPlace {
  public:
    /// $XDG_RUNTIME_DIR/coalesce, else (or where that is another's) /tmp/coalesce-UID; made if missing. Refused,
    /// naming the culprit, unless it is a directory of this user with mode 0700.
    static Result<MeetingPlace> open(const std::vector<std::string>& env);

    struct Joined {
        Descriptor connection;
    };
    struct Leading {
        Descriptor listener;
    };
    /// A connection to the live flight named `key`, or the right to be it. Blocks for
    /// no longer than another requester needs to bind.
    Result<std::variant<Joined, Leading>> join_or_lead(const std::string& key);

    /// A connection to a live flight; an empty descriptor: there is none. Not to be
    /// able to tell is an error: taking a live flight for dead would end its run.
    Result<Descriptor> connect(const std::string& key) const;

    /// The flight named `key` is over: newcomers lead a new one. Only its supervisor
    /// may say so, while its listener is open.
    void leave(const std::string& key) noexcept;

    /// Removes what dead supervisors left, of any key; where there are many flights it
    /// looks at some, and others the next time. Does nothing while another process
    /// holds the lock.
    void sweep() noexcept;

    /// The server's name here, among the keys of wrappers' flights.
    static constexpr std::string_view server_name = "server";

    /// The keys that have a socket here, live or not; the server's name is no key.
    [[nodiscard]] std::vector<std::string> keys() const;

    /// For a child between fork and exec: writes down that it runs for the flight
    /// with this socket. Allocates nothing.
    void record_this_process(const char* socket_name) const noexcept;
    [[nodiscard]] static std::string socket_name(const std::string& key) { return key + ".sock"; }

    /// Ends what is left of the process group that a dead supervisor of `key` ran.
    void end_leftovers(const std::string& key) const noexcept;

    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    [[nodiscard]] int directory() const noexcept { return directory_.get(); }

  private:
    struct Record;
    MeetingPlace(std::string path, Descriptor directory) : path_(std::move(path)), directory_(std::move(directory)) {}
    Result<Descriptor> lock(bool wait) const;
    Result<Descriptor> bind(const std::string& key) const;
    std::optional<Record> record_of(const std::string& key) const noexcept;

    std::string path_;
    Descriptor directory_;
};

}  // namespace coalesce
