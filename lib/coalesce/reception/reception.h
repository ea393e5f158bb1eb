// SPDX-License-Identifier: MIT
// Reception: everyone who waits on flights over connections, at whichever door.
//
// A requester is entered with the ticket of its flight; from there on this is what it goes
// through: told of the start, given the output as it comes, dropped if it reads nothing
// while others wait (SPEC F9), told the end; it may give up, leave, or go and be kept (F5).
// Server and supervisor have it from here, and so the same rules. It promises each
// requester exactly one final message, whatever clients do and when, and that nothing is
// left in its books when all have gone.
//
// What lines mean, who may ask for what and how much, and when a connection ends are
// the door's. Nothing here calls back from inside enter().
#pragma once

#include <coalesce/flight/unique_function.h>

#include <chrono>
#include <cstddef>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <coalesce/engine/command_executor.h>
#include <coalesce/reception/final_message.h>
#include <coalesce/reception/requester.h>
#include <coalesce/reception/run_names.h>
#include <coalesce/reception/slow_readers.h>

namespace coalesce {

class Loop;

/// What a request asks for beside its command.
struct RequestTerms {
    std::string id;     ///< as JSON text; empty: none
    std::string title;  ///< the command as it wrote it
    std::string hash;   ///< of the key, from the one who leads
    Request::Output output = Request::Output::whole;
    bool keep_running = false;
    bool worth_keeping = false;  ///< when its connection goes, the run goes on for what is kept of it (T8)
    bool quiet = false;
    std::optional<std::chrono::milliseconds> wait = {};
    CommandExecutor::Loan loan = {};  ///< of the command that asks: its place, as long as this waits
};

class Reception {
  public:
    struct Options {
        std::chrono::milliseconds stall{60'000};  ///< for one who reads nothing while others wait
    };
    struct Events {
        /// A line without its newline. One that was too long comes cut, once.
        UniqueFunction<void(Client& client, std::string_view line, bool too_long)> on_line;
        /// None of its requests is unanswered: at the last one's end, and at that of its input.
        UniqueFunction<void(Client& client)> on_served;
        /// The connection is gone. Its requesters have left, and are no more.
        UniqueFunction<void(Client& client)> on_gone = {};
        /// A flight has got a process; also that of another attempt.
        UniqueFunction<void(LiveFlight& flight)> on_started = {};
        /// A flight is over, and its requesters have yet to be told; find() finds it, if there were any. Also of one
        /// that has never started.
        UniqueFunction<void(FlightId id)> on_over = {};
        /// A requester of this flight is dropped, since it reads nothing and others wait.
        UniqueFunction<void(LiveFlight& flight)> on_dropped = {};
    };

    /// Takes the executor's started, stalled and landed events; on_over stays the door's.
    Reception(Loop& loop, CommandExecutor& executor, Options options, Events events);
    ~Reception();
    Reception(const Reception&) = delete;
    Reception& operator=(const Reception&) = delete;

    // --- connections

    /// Listens to one more client, which it owns until that is gone.
    void receive(std::unique_ptr<Client> client, Descriptor connection);
    /// In the order of their coming.
    [[nodiscard]] const std::list<std::unique_ptr<Client>>& clients() const noexcept { return clients_; }
    /// Tells on_served once more of all clients that have nothing unanswered.
    void look_for_served();
    /// Takes in what all of them have said by now.
    void hear_all();
    /// Closes all connections, whatever is left to send.
    void drop_clients();

    // --- requesters

    /// One more requester, which waits on `ticket`.
    Requester& enter(Client& client, RequestTerms terms, RunTicket ticket);
    /// The same in two steps, where it is yet to be seen what it waits on. It can leave meanwhile, and then what is
    /// returned points to null, but for one that wants the run to go on: that has no client any more, and is to be
    /// admitted all the same. Its patience begins with the second step.
    using Expected = std::shared_ptr<Requester*>;
    [[nodiscard]] Expected expect(Client& client, const RequestTerms& terms);
    void admit(Requester& requester, RequestTerms terms, RunTicket ticket);
    /// It leaves, before its flight has landed, and is told nothing more. May be asked for twice: who gave up waiting
    /// may turn out to have gone as it is told so.
    void part(Requester& requester);
    /// The same, and this line is the last it is told.
    void dismiss(Requester& requester, const std::string& last_line);
    /// How many wait.
    [[nodiscard]] std::size_t waiting() const noexcept { return waiting_; }
    /// The request gets no result; that this is its last message is the caller's to know.
    void refuse(Client& client, std::string_view id, std::string_view code, const std::string& why);

    /// The client's request goes on without it when it goes, but only for what may be kept of it.
    void keep_for_the_store(Client& client);
    /// Nothing of that flight can be kept any more: whoever is gone and waited for that has left.
    void keep_no_more_for_the_store(FlightId id);

    // --- flights

    [[nodiscard]] CommandExecutor& executor() noexcept { return executor_; }
    [[nodiscard]] std::unordered_map<FlightId, LiveFlight>& flights() noexcept { return flights_; }
    /// Null once all who waited have been told.
    [[nodiscard]] LiveFlight* find(FlightId id);
    /// What people know the flight by.
    [[nodiscard]] const std::string& name_of(LiveFlight& flight) const;
    /// All of them by their names, in order. Looked up, since a client may ask for ten thousand of them one by one.
    [[nodiscard]] const std::map<std::string_view, LiveFlight*>& flights_by_name();
    /// How long earlier runs of its command took, where somebody remembers.
    [[nodiscard]] const std::optional<Usually>& usually(LiveFlight& flight) const;
    /// Says a sentence about its run to those who are told of that as it goes.
    void notice(FlightId id, const std::string& sentence);
    /// Ends it for everyone, also one that has yet to begin.
    void cancel(LiveFlight& flight);
    /// How many have joined that flight and still wait: so many runs it spares.
    [[nodiscard]] std::size_t joiners_of(FlightId id);

  private:
    void on_gone(Client& client);
    void attach(Requester& requester, RequestTerms& terms);
    Requester& add(Client& client, const RequestTerms& terms);
    void detach(Requester& requester);
    void started(FlightId id);
    void follow(Requester& requester);
    void follow_kept(Requester& requester, const Landing<RunResult>& landing);
    void begin_output(Requester& requester, const std::shared_ptr<Spool>& spool);
    void forget(FlightId id);
    void forget_unstarted(FlightId id);
    void erase(LiveFlight& flight);
    void landed(Requester& requester, const Landing<RunResult>& landing);
    /// Why its result cannot wait to be read; no code: it can.
    struct Lack {
        std::string_view code;
        std::string why;
    };
    [[nodiscard]] Lack lack_for(const Requester& requester, const RunResult& result) const;
    void refuse_late(Requester& requester, const Lack& lack);
    void end(Requester& requester, const Landing<RunResult>& landing);
    void give_up(Requester& requester);
    void stop_waiting(Requester& requester);
    [[nodiscard]] bool keep(Requester& requester);
    [[nodiscard]] static bool becomes_keeper(Requester& requester);
    void let_go(Requester& kept);
    void bury(Requester& requester);
    void served(Client& client);

    Loop& loop_;
    CommandExecutor& executor_;
    const Options options_;
    Events events_;
    const RunNames names_;
    FinalMessages final_messages_;
    SlowReaders slow_readers_;
    std::unordered_map<FlightId, LiveFlight> flights_;
    std::optional<std::map<std::string_view, LiveFlight*>> by_name_;  // once somebody has asked
    std::list<std::unique_ptr<Client>> clients_;
    std::list<Requester> kept_;  // whoever asked is gone, and wanted the run to go on
    std::size_t waiting_ = 0;
};

}  // namespace coalesce
