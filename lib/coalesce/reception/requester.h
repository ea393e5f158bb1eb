// SPDX-License-Identifier: MIT
// Requester, Client and LiveFlight: who waits, on which connection, for which flight.
//
// A client is a connection. Each of its requests for a command is a requester, from the
// request to its final message; all who wait for one flight are found at that flight, so
// that what happens to it walks over them and nobody else. Whoever is gone and wanted the
// run to go on stays a requester without a client. These are the reception's books: it
// alone writes into them, the doors read.
#pragma once

#include <coalesce/flight/linked_list.h>

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <coalesce/engine/command_executor.h>
#include <coalesce/io/watch.h>
#include <coalesce/protocol/request.h>
#include <coalesce/reception/descriptor_relay.h>
#include <coalesce/reception/session.h>

namespace coalesce {

struct Client;
struct LiveFlight;
struct Requester;

/// Those of a client that have not ended, by their id and whether they wait no more: of several with the same id
/// those that wait come first.
using RequestersById = std::multimap<std::pair<std::string_view, bool>, Requester*>;

/// What only some requesters have.
struct RequesterExtras {
    std::string title;  ///< as it wrote the command, where its flight has another
    CommandExecutor::Loan loan;
    std::optional<Timer> patience;
    std::unique_ptr<DescriptorRelay> relay;  ///< fd
    Landing<RunResult> landing;              ///< fd: until the relay has finished
    StreamRendering* stream = nullptr;       ///< stream: owned by the session
    std::uint64_t read_before = 0;           ///< stream, fd: when its run was last seen stalled
    std::unique_ptr<SpoolReader> sink;       ///< none: output past the replay limit that nobody reads
    std::optional<RequestersById::iterator> place_by_id;
    std::shared_ptr<Requester*> expected;  ///< null: it has been admitted; who is to admit it looks here
    uid_t uid = 0;                         ///< of who has gone before it was admitted, and wants the run
};

/// One request that waits on a flight. Small, since the fresh memory that it takes is
/// most of what a join costs.
struct Requester : detail::Links {  // in its flight's list
    Client* client = nullptr;       ///< none: it has left, and keeps the run going
    LiveFlight* flight = nullptr;   ///< as long as it is among those whom the flight's end is told
    std::string id;                 ///< as JSON text; empty: none
    RunTicket ticket;
    std::list<Requester>::iterator place;
    std::unique_ptr<RequesterExtras> extras;
    Request::Output output = Request::Output::whole;
    bool joined = false;
    bool waiting = false;
    bool keep_running = false;
    bool worth_keeping = false;  ///< will keep it for the store when its connection goes
    bool for_the_store = false;  ///< keeps it for that alone
    bool quiet = false;          ///< no word of the start
    bool over = false;           ///< it has been told its end, and is to be buried

    /// The command as it wrote it, while it has a ticket.
    [[nodiscard]] const std::string& title() const noexcept {
        return extras && !extras->title.empty() ? extras->title : ticket.state().title;
    }
    [[nodiscard]] bool wants_output_as_it_comes() const noexcept { return Request::as_it_comes(output); }
    /// Output goes to it as it comes, from the start of its run.
    [[nodiscard]] bool following() const noexcept { return extras && (extras->stream != nullptr || extras->relay); }
    /// How much of the output it has read, while following.
    [[nodiscard]] std::uint64_t read_so_far() const {
        return extras->stream != nullptr ? extras->stream->position() : extras->relay->position();
    }
    RequesterExtras& need_extras() {
        if (!extras) extras = std::make_unique<RequesterExtras>();
        return *extras;
    }
};

/// One connection, and those who wait on it. A door derives its own.
struct Client {
    Client(uid_t user, pid_t process) : uid(user), pid(process) {}
    virtual ~Client() = default;
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    const uid_t uid;
    const pid_t pid;
    std::unique_ptr<Session> session;
    RelayPace pace;  ///< fd
    std::list<Requester> requesters;
    std::size_t unanswered = 0;           ///< of the requesters: those that are not over
    std::optional<RequestersById> by_id;  ///< once somebody has asked for one of them
    std::list<std::unique_ptr<Client>>::iterator place;

    /// The requester of that id, one that waits before one that does not; null: none that has not ended. Looked up,
    /// since a client may leave all of its hundred thousand requests one by one.
    [[nodiscard]] Requester* request_of(std::string_view id);
    void know(Requester& requester);
    void forget(Requester& requester);
};

/// Commands of other users are nobody's business, but for our own user and root.
[[nodiscard]] bool may_see(const Client& client, uid_t owner) noexcept;

/// What people know a flight by and who waits for it, from its first request until it
/// has landed and all have been told.
struct LiveFlight {
    FlightId id = 0;
    std::string hash;  ///< its key's
    std::string name;  ///< which no other run has; empty until somebody asks
    uid_t uid = 0;     ///< who asked first
    FlightRef ref;
    const Run* run = nullptr;                       ///< valid as long as ref
    detail::LinkedList<Requester> requesters;       ///< in the order of joining
    std::size_t waiting = 0;                        ///< of them: those who have not gone
    Requester* keeper = nullptr;                    ///< has gone, and wanted it to go on
    std::optional<std::optional<Usually>> usually;  ///< how long earlier runs took, once that was looked up
    bool stalled = false;           ///< its output went past the replay limit: those who want the whole have been told
    bool over = false;              ///< it has landed
    std::optional<Timer> progress;  ///< once it was stalled: until it is looked who has read nothing

    /// Whoever walks over many and sends to one may find others gone, so all are looked up before.
    template <class Wanted>
    [[nodiscard]] std::vector<Requester*> those_who(Wanted wanted) const {
        std::vector<Requester*> found;
        for (Requester* one = requesters.front(); one != nullptr; one = requesters.after(*one))
            if (wanted(*one)) found.push_back(one);
        return found;
    }
};

}  // namespace coalesce
