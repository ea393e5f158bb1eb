// SPDX-License-Identifier: MIT
#include <coalesce/meeting/supervisor.h>

#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <list>
#include <map>
#include <memory>
#include <utility>

#include <coalesce/command/ancestry.h>
#include <coalesce/command/duration.h>
#include <coalesce/engine/command_executor.h>
#include <coalesce/io/loop.h>
#include <coalesce/reception/descriptor_relay.h>
#include <coalesce/protocol/json_text.h>
#include <coalesce/protocol/message.h>
#include <coalesce/protocol/rendering.h>
#include <coalesce/meeting/flights_above.h>
#include <coalesce/meeting/savings.h>
#include <coalesce/reception/run_names.h>
#include <coalesce/reception/session.h>

namespace coalesce {
namespace {

using namespace std::chrono;

// After a supervisor's death its requesters come one by one. The run waits until
// none has come for so long, so that all of them share it (SPEC R6).
constexpr milliseconds heirs_idle{40};
constexpr milliseconds heirs_latest{1000};

// Cleaners of /tmp count in days.
constexpr hours touched_each{12};

// A requester: its connection, its place in the flight, and what it has been given.
struct Member {
    std::unique_ptr<Session> session;
    RunTicket ticket;
    RelayPace pace;
    std::optional<DescriptorRelay> relay;     // from the start of its run
    std::shared_ptr<const RunResult> result;  // once landed
    std::size_t requesters = 0;
    pid_t pid = 0;
    std::optional<std::string> on_behalf_of;  // none: it did not say, and nobody has looked
    bool keep_running = false;
    bool asked = false;
    bool over = false;              // to be buried
    std::uint64_t read_before = 0;  // when the run was last seen stalled
    bool quiet = false;             // it could do nothing with word of the start, but be woken by it
};

// What a child does before it executes its command: it writes itself down, and
// takes back the leader's limit, which its supervisor has raised.
struct RecordOfChild {
    FlightRecorder recorder;
    rlimit descriptors = raise_descriptor_limit();  // a requester costs us one

    ChildHook hook() const {
        return {[](const void* record) noexcept {
                    const auto& self = *static_cast<const RecordOfChild*>(record);
                    self.recorder.record_this_process();
                    ::setrlimit(RLIMIT_NOFILE, &self.descriptors);
                },
                this};
    }
};

class Supervisor {
  public:
    Supervisor(FlightOrders orders, MeetingPlaces places, Descriptor listener);
    void run(Descriptor leader, pid_t leader_pid);

  private:
    std::optional<Child::Launched> launch() const;
    Member& receive(Descriptor connection);
    void accept_all();
    void accept_later();
    void on_line(Member& member, std::string_view line);
    void on_gone(Member& member);
    void ask(Member& member, const Fields& request);
    void admit(Member& member, bool fresh);
    void start_following(FlightId id);
    void follow(Member& member);
    [[nodiscard]] std::vector<Member*> followers(FlightId id);
    void look_for_progress(FlightId id);
    void drop_the_stalled(FlightId id);
    void landed(Member& member, const Landing<RunResult>& landing);
    void end_of(Member& member);
    void count_savings(const RunResult& result) const;
    void signal(Member& member, const Fields& request);
    void cancel(Member& member, const Fields& request);
    void tell_status(Member& member);
    void tell_key(Member& member);
    void tell_waiters(Member& member);
    void leave_if_over();
    void leave_meeting_place();
    void bury_later(Member& member);
    [[nodiscard]] std::size_t waiting_for(FlightId id) const;

    FlightOrders orders_;
    MeetingPlaces places_;
    Descriptor listener_;
    const RecordOfChild record_;
    std::optional<Child::Launched> launched_;  // before the loop: the command starts while that is made
    Loop loop_;
    Watch listener_watch_;
    std::shared_ptr<const CanonicalSurroundings> surroundings_;
    CommandExecutor executor_;
    std::list<Member> members_;
    Timer stays_young_{loop_};       // to those who remove old files
    std::optional<Timer> progress_;  // past the replay limit: until it is looked who has read nothing
    std::optional<Timer> heirs_;
    std::optional<Timer> short_of_descriptors_;
    steady_clock::time_point begun_ = steady_clock::now();
    const RunNames names_;
    bool left_ = false;  // the meeting place: who comes now is told to try again
};

Supervisor::Supervisor(FlightOrders orders, MeetingPlaces places, Descriptor listener)
    : orders_(std::move(orders)),
      places_(std::move(places)),
      listener_(std::move(listener)),
      record_{.recorder = places_.own().recorder(orders_.key)},
      launched_(launch()),
      surroundings_(std::make_shared<const CanonicalSurroundings>(orders_.canonical_surroundings)),
      executor_(loop_, {.jobs = 0,
                        // In a file from the first byte: requesters read it themselves.
                        .spool = {.store = {.heap_bytes = 0, .directory = orders_.spool_directory},
                                  .replay_bytes = orders_.replay_bytes},
                        .in_child = record_.hook()}) {
    executor_.on_started([this](FlightId id) { start_following(id); });
    executor_.on_stalled([this](FlightId id) {
        if (!progress_) look_for_progress(id);
    });
    executor_.on_over([this](const std::shared_ptr<const RunResult>& result) { count_savings(*result); });
    executor_.on_landed([this](FlightId) { leave_if_over(); });
    auto watch = Watch::start(loop_, listener_.get(), Readiness::readable, [this] { accept_all(); });
    if (watch) listener_watch_ = std::move(*watch);
}

// Nothing where the start needs more than a program: a queue, an input, a line that
// may go without the shell.
std::optional<Child::Launched> Supervisor::launch() const {
    if (orders_.heir || orders_.line || orders_.command.stdin_bytes) return std::nullopt;
    const Surroundings& surroundings = *orders_.command.surroundings;
    return Child::launch(
        {.argv = orders_.command.argv, .env = surroundings.env, .umask = surroundings.umask, .hook = record_.hook()},
        Descriptor());
}

void Supervisor::run(Descriptor leader, pid_t leader_pid) {
    if (orders_.heir) {  // held until the others are here
        executor_.hold(true);
        heirs_.emplace(loop_);
        heirs_->start(heirs_idle, [this] { executor_.hold(false); });
    }
    Member& first = receive(std::move(leader));
    first.asked = true;
    first.pid = leader_pid;
    first.keep_running = orders_.keep_running;
    first.quiet = !orders_.verbose;
    if (!orders_.ancestry.empty()) first.on_behalf_of = nearest_flight(orders_.ancestry);
    admit(first, false);
    stays_young_.in_background();
    stays_young_.start(touched_each, touched_each, [this] { places_.own().touch(orders_.key); });
    loop_.run();
    members_.clear();
    places_.sweep();  // when nobody waits for it
}

Member& Supervisor::receive(Descriptor connection) {
    Member& member = members_.emplace_back();
    member.session = std::make_unique<Session>(
        loop_, std::move(connection),
        Session::Events{[this, &member](std::string_view line, bool) { on_line(member, line); },
                        {},
                        [this, &member] { on_gone(member); },
                        [&member] { member.pace.room(); }});
    return member;
}

void Supervisor::accept_all() {
    while (true) {
        if (members_.size() + supervisors_descriptors > record_.descriptors.rlim_max)
            return left_ ? void() : accept_later();
        Descriptor connection(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (!connection) {
            if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED && !left_) accept_later();
            return;
        }
        ucred peer{};
        socklen_t length = sizeof peer;
        if (::getsockopt(connection.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0 ||
            (peer.uid != ::geteuid() && peer.uid != 0))
            continue;
        receive(std::move(connection)).pid = peer.pid;
    }
}

// No descriptor or memory for one more: it waits in the queue, without our being
// told so for ever.
void Supervisor::accept_later() {
    listener_watch_.stop();
    if (!short_of_descriptors_) short_of_descriptors_.emplace(loop_);
    short_of_descriptors_->in_background();
    short_of_descriptors_->start(milliseconds(50), [this] {
        if (left_) return;
        listener_watch_.resume(Readiness::readable);
        accept_all();
    });
}

void Supervisor::on_line(Member& member, std::string_view line) {
    if (line.empty()) return member.pace.acknowledge();
    const auto request = Fields::parse(line);
    const std::string op = request ? request->text("op") : "";
    if (op == "join") return ask(member, *request);
    if (op == "signal") return signal(member, *request);
    if (op == "status") return tell_status(member);
    if (op == "key") return tell_key(member);
    if (op == "waiters") return tell_waiters(member);
    if (op == "cancel") return cancel(member, *request);
    member.session->send(
        Message()
            .error("bad_request", "a wrapper's flight takes join, signal, status, key, waiters and cancel")
            .line());
}

void Supervisor::ask(Member& member, const Fields& request) {
    if (member.asked) return;
    member.asked = true;
    if (left_) {
        member.session->send(Message().text("event", "again").line());
        return member.session->finish();
    }
    member.keep_running = request.flag("keep_running");
    member.quiet = request.flag("quiet");
    if (request.has("on_behalf_of")) member.on_behalf_of = request.text("on_behalf_of");
    if (heirs_ && request.flag("heir") && steady_clock::now() - begun_ < heirs_latest)
        heirs_->start(heirs_idle, [this] { executor_.hold(false); });
    admit(member, request.flag("fresh"));
}

// All requests here are for one command: who was led to this socket has its key.
void Supervisor::admit(Member& member, bool fresh) {
    member.ticket = executor_.submit(RequestKey{surroundings_, orders_.canonical_words},
                                     [this] {
                                         return Job{.command = orders_.command,
                                                    .line = orders_.line,
                                                    .title = orders_.title,
                                                    .timeout = orders_.timeout,
                                                    .grace = orders_.grace,
                                                    .launched = std::exchange(launched_, std::nullopt)};
                                     },
                                     {.fresh = fresh});
    member.ticket.then([this, &member](const Landing<RunResult>& landing) { landed(member, landing); });
    if (member.relay) return;  // it led, and its run has started already
    if (member.ticket.state().spool) return follow(member);
    member.quiet = false;  // it will want to know when the wait is over
    member.session->send(Message().text("event", "waiting").line());
}

void Supervisor::start_following(FlightId id) {
    for (Member& member : members_)
        if (member.ticket && !member.result && member.ticket.id() == id && !member.relay) follow(member);
}

void Supervisor::follow(Member& member) {
    const Run& run = member.ticket.state();
    member.relay.emplace(loop_, *member.session, member.pace, run.spool, std::string(), [this, &member] {
        if (member.relay->failed())
            member.session->finish();  // it has been told why
        else if (member.result)
            end_of(member);  // else the landing is on its way
    });
    const bool joined = !member.ticket.leader();
    if (!member.quiet) {
        Message started;
        if (joined) started.text("command", orders_.title);  // with --key it asked for another, perhaps
        member.session->send(started.text("event", "started")
                                 .flag("joined", joined)
                                 .number("pid", run.pid)
                                 .seconds("started", run.started.time_since_epoch())
                                 .number("requesters", static_cast<std::int64_t>(waiting_for(member.ticket.id())))
                                 .line());
    }
    member.relay->pump();
}

std::vector<Member*> Supervisor::followers(FlightId id) {
    std::vector<Member*> all;
    for (Member& member : members_)
        if (member.relay && !member.relay->finished() && member.ticket && !member.result && !member.session->gone() &&
            member.ticket.id() == id)
            all.push_back(&member);
    return all;
}

// One who reads nothing paces the run, which nobody can join any more: others who ask for
// the same would wait for as long as it likes (SPEC F9).
void Supervisor::look_for_progress(FlightId id) {
    for (Member* const member : followers(id)) member->read_before = member->relay->position();
    if (!progress_) progress_.emplace(loop_);
    progress_->in_background();
    progress_->start(orders_.stall, [this, id] { loop_.post([this, id] { drop_the_stalled(id); }); });
}

void Supervisor::drop_the_stalled(FlightId id) {
    bool runs = false;
    bool another_waits = false;
    executor_.flights().for_each([&](const Key&, const auto& view) {
        runs = runs || view.id == id;
        another_waits = another_waits || (view.id != id && waiting_for(view.id) > 0);
    });
    if (!runs) return progress_.reset();
    std::vector<Member*> stalled = followers(id);
    std::erase_if(stalled, [](const Member* member) {
        return member->relay->position() != member->read_before ||
               member->read_before == member->ticket.state().spool->size();
    });
    if (another_waits || waiting_for(id) > stalled.size())
        for (Member* const member : stalled) {
            member->relay->leave_to_requester();
            member->session->send(Message()
                                      .error("stalled", "nothing was read for " + format_duration(orders_.stall) +
                                                            ", and others wait for " + orders_.title)
                                      .line());
            if (member->keep_running) {
                member->session->drop();  // the run goes on for it, and nobody is told how it ends
                continue;
            }
            member->relay.reset();
            member->ticket = {};
            member->session->finish();
        }
    look_for_progress(id);
}

std::size_t Supervisor::waiting_for(FlightId id) const {
    return static_cast<std::size_t>(std::count_if(members_.begin(), members_.end(), [id](const Member& member) {
        return member.ticket && !member.result && !member.session->gone() && member.ticket.id() == id;
    }));
}

// Before anybody is told: who asks for the sum on completion finds this run in it.
void Supervisor::count_savings(const RunResult& result) const {
    if (result.outcome.kind == Outcome::Kind::cancelled) return;  // spared nobody a run
    const auto joins = std::count_if(members_.begin(), members_.end(), [&](const Member& member) {
        return member.ticket && !member.result && !member.session->gone() && member.ticket.id() == result.run &&
               !member.ticket.leader();
    });
    if (joins == 0) return;
    add_savings(places_.own().directory(),
                {.runs = 1, .joins = static_cast<std::uint64_t>(joins), .time = result.duration * joins});
}

void Supervisor::landed(Member& member, const Landing<RunResult>& landing) {
    if (!landing.value) {  // it waited behind another run, and was ended by its name
        member.session->send(Message().error("cancelled", orders_.title + ": cancelled").line());
        return member.session->finish();
    }
    member.result = landing.value;
    member.requesters = landing.requesters;
    if (!member.relay || member.relay->finished()) end_of(member);
}

void Supervisor::end_of(Member& member) {
    if (member.session->gone()) return bury_later(member);
    const RunResult& result = *member.result;
    Message message;
    message.text("event", "exit");
    if (result.outcome.kind == Outcome::Kind::signalled)
        message.number("signal", result.outcome.code);
    else
        message.number("exit", result.outcome.status());
    const std::string words = last_words(result.outcome, orders_.title);
    if (!words.empty()) message.text("message", words);
    message.number("requesters", static_cast<std::int64_t>(member.requesters))
        .seconds("duration", duration<double>(result.duration).count());
    member.session->send(message.line());
    member.session->finish();
}

void Supervisor::on_gone(Member& member) {
    if (member.keep_running && member.ticket && !member.ticket.landed()) {  // stays, silent, until the landing
        return loop_.post([&member] {
            if (member.relay) member.relay->pump();
        });
    }
    member.ticket = {};
    bury_later(member);
}

// Whoever is gone may still be on the stack.
void Supervisor::bury_later(Member& member) {
    if (std::exchange(member.over, true)) return;  // once: by then another may lie where it lay
    loop_.post([this, &member] {
        const auto found =
            std::find_if(members_.begin(), members_.end(), [&](const Member& m) { return &m == &member; });
        if (found != members_.end()) members_.erase(found);
        leave_if_over();
    });
}

// With others waiting a signal means that this requester leaves; alone, it is for
// the command (SPEC R5).
void Supervisor::signal(Member& member, const Fields& request) {
    if (!member.ticket || member.result) return;
    const FlightId id = member.ticket.id();
    const int number = static_cast<int>(request.number("signal"));
    if ((number == SIGUSR1 || number == SIGUSR2) && waiting_for(id) > 1) return;  // ends nobody's wait
    if (waiting_for(id) > 1 || member.ticket.state().pid <= 0) {
        member.session->send(Message().text("event", "left").line());
        return;
    }
    executor_.signal(id, number);
}

// Of the run that goes and the one that waits behind it, the one that is meant.
void Supervisor::cancel(Member& member, const Fields& request) {
    const std::string flight = request.text("flight");
    std::vector<FlightId> found;
    executor_.flights().for_each([&](const Key&, const auto& view) {
        if (names_.name_of(orders_.key, view.id).starts_with(flight)) found.push_back(view.id);
    });
    if (flight.empty() || found.size() != 1)
        return member.session->send(Message()
                                        .error(found.size() > 1 ? "ambiguous" : "no_such_flight",
                                               found.size() > 1 ? "more than one flight's id begins with " + flight
                                                                : "there is no flight " + flight)
                                        .line());
    member.session->send(Message().text("event", "cancelled").line());
    executor_.cancel(found.front(), orders_.grace);
    leave_if_over();
}

void Supervisor::tell_status(Member& member) {
    std::string flights;
    executor_.flights().for_each([&](const Key&, const auto& view) {
        const Run& run = view.state;
        const char* const state = run.phase == Run::Phase::running  ? "running"
                                  : run.phase == Run::Phase::ending ? "ending"
                                                                    : "queued";
        std::string line = Message()
                               .text("id", names_.name_of(orders_.key, view.id))
                               .text("key", orders_.key)
                               .text("state", state)
                               .seconds("started", (run.spool ? run.started : run.requested).time_since_epoch())
                               .number("requesters", static_cast<std::int64_t>(waiting_for(view.id)))
                               .number("output", run.spool ? static_cast<std::int64_t>(run.spool->size()) : 0)
                               .number("pid", run.pid)
                               .number("supervisor", ::getpid())
                               .text("command", orders_.title)
                               .line();
        line.pop_back();
        if (!flights.empty()) flights += ',';
        flights += line;
    });
    member.session->send(Message().raw("flights", "[" + flights + "]").line());
}

void Supervisor::tell_key(Member& member) {
    std::string surroundings;
    std::string words;
    append_base64(surroundings, orders_.canonical_surroundings);
    append_base64(words, orders_.canonical_words);
    member.session->send(Message().text("surroundings", surroundings).text("words", words).line());
}

// Asked by who may be about to close a ring; so only then it is looked for what members
// did not say themselves.
void Supervisor::tell_waiters(Member& member) {
    std::string list;
    std::map<pid_t, std::string> by_session;
    for (Member& other : members_) {
        if (other.result || !other.ticket) continue;
        if (!other.on_behalf_of && !other.session->gone()) {
            const auto [known, added] = by_session.try_emplace(::getsid(other.pid));
            if (added) known->second = nearest_flight(ancestry_of_process(places_, other.pid));
            other.on_behalf_of = known->second;
        }
        if (!other.on_behalf_of || other.on_behalf_of->empty()) continue;
        if (!list.empty()) list += ',';
        list += '"' + *other.on_behalf_of + '"';
    }
    member.session->send(Message().raw("waiters", "[" + list + "]").line());
}

// A flight that never started, since all who waited for it behind another have left, lands
// without a word.
void Supervisor::leave_if_over() {
    if (!left_ && executor_.flights().empty()) leave_meeting_place();
}

// Called before anybody is told (F2): who asks on completion must find the place
// free. Those who have connected already are answered; those who come too late find
// the connection reset, which means the same.
void Supervisor::leave_meeting_place() {
    left_ = true;
    places_.own().leave(orders_.key);
    accept_all();
    listener_watch_.reset();
    listener_.reset();
    // Whoever is connected without having asked to join would keep us here.
    for (Member& member : members_)
        if (!member.asked) member.session->finish();
}

}  // namespace

// Not on the stack, which the user may have made small: it holds the loop's read buffer.
void supervise(FlightOrders orders, MeetingPlaces places, Descriptor listener, Descriptor leader, pid_t leader_pid) {
    std::make_unique<Supervisor>(std::move(orders), std::move(places), std::move(listener))
        ->run(std::move(leader), leader_pid);
}

}  // namespace coalesce
