// SPDX-License-Identifier: MIT
// RequestDesk: from a request for a command to a requester that waits.
//
// It puts the request into its surroundings and under its key, asks the store where that is wished,
// sees whether there is room for one more that has to run, and submits it: from there on it is the
// reception's. What one user asks for is never another's (SPEC K3), and what asks on behalf of a
// run that is under way here is known by that (F11, F12). Only what our own user asks for under a
// cluster scope is shared with other machines (M11, M36).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include <coalesce/cluster/cluster.h>
#include <coalesce/command/command.h>
#include <coalesce/command/key.h>
#include <coalesce/engine/command_executor.h>
#include <coalesce/io/watch.h>
#include <coalesce/kept/kept_desk.h>
#include <coalesce/protocol/request.h>
#include <coalesce/protocol/resolved_request.h>
#include <coalesce/reception/reception.h>
#include <coalesce/serve/flight_index.h>
#include <coalesce/serve/flight_watchers.h>
#include <coalesce/serve/log.h>
#include <coalesce/serve/peer.h>
#include <coalesce/serve/server.h>

namespace coalesce {

class Loop;

class RequestDesk {
  public:
    /// What it works with; all outlive it.
    struct Rooms {
        Loop& loop;
        CommandExecutor& executor;
        Reception& reception;
        FlightWatchers& watchers;
        Log& log;
        Cluster* cluster;  ///< null: nothing is shared with other machines
    };
    /// `own` is what a request has that says nothing else.
    RequestDesk(const ServerOptions& options, const Rooms& rooms, Surroundings own, StorePlace store);

    /// A request for a command: sooner or later one final message comes of it.
    void take(Peer& peer, Request& request);
    /// A request that what is kept of a command be forgotten.
    void forget(Peer& peer, Request request);
    /// Whoever asks from now on is refused.
    void close() {
        closed_ = true;
        desk_.refresh_no_more();
    }

    /// A flight has got a process, from which requests may come.
    void began(const LiveFlight& flight) { running_.add(flight); }
    /// Its command is over.
    void over(const LiveFlight& flight) { running_.remove(flight); }
    /// Somebody who may have wished that something be kept has gone: its run goes on for as long as that can be
    /// (SPEC T8).
    void go_on_for_the_store();

    /// How many requests for commands there have been.
    [[nodiscard]] std::uint64_t requests() const noexcept { return requests_; }
    /// How many of them joined a flight.
    [[nodiscard]] std::uint64_t joins() const noexcept { return joins_; }
    [[nodiscard]] const KeptDesk& kept() const noexcept { return desk_; }

  private:
    // A request for a command, while it is seen what it comes to.
    struct Asked;
    struct MakeJob;

    [[nodiscard]] ResolvedRequest resolve(Request& request, uid_t uid, Job defaults) const;
    [[nodiscard]] KeyRules rules_for(uid_t uid) const;
    [[nodiscard]] bool turned_away(Peer& peer, const Request& request) const;
    [[nodiscard]] bool meant_for_no_circle(const Peer& peer, const Request& request) const;
    [[nodiscard]] std::shared_ptr<const CanonicalSurroundings> canonical_of(ResolvedRequest& resolved, uid_t uid);
    [[nodiscard]] bool finds_the_queue_full(const Asked& asked) const;
    [[nodiscard]] std::string queue_full_words() const;
    void admit(Peer& peer, Request& request, Asked& asked);
    void looked(const Reception::Expected& expected, Asked& asked, std::shared_ptr<const RunResult> result);
    RunTicket submit(Asked& asked);
    // What the run of a request that leads is told beside.
    [[nodiscard]] Job leading(Job job, const RequestKey& key, bool crosses_machines);
    void started_for(Peer& peer, const Requester& requester);
    void keep_no_longer_than(std::uint64_t bytes);

    const ServerOptions& options_;
    const Rooms rooms_;
    const uid_t own_uid_;
    const std::shared_ptr<const Surroundings> surroundings_;
    const std::string own_ancestry_;             // theirs, for the many requests that leave them as they are
    std::optional<ClusterRules> cluster_rules_;  // of our own user's requests, but for their scope
    SurroundingsTable interned_;
    std::unordered_map<uid_t, std::shared_ptr<const CanonicalSurroundings>> own_canonical_;
    FlightIndex running_;
    KeptDesk desk_;
    std::optional<Timer> store_watch_;  // while runs go on for the store
    std::uint64_t requests_ = 0;
    std::uint64_t joins_ = 0;
    bool closed_ = false;
};

}  // namespace coalesce
