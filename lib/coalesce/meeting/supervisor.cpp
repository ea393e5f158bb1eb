// SPDX-License-Identifier: MIT
#include <coalesce/meeting/supervisor.h>

#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include <coalesce/command/ancestry.h>
#include <coalesce/engine/command_executor.h>
#include <coalesce/io/loop.h>
#include <coalesce/kept/remembered_times.h>
#include <coalesce/kept/savings.h>
#include <coalesce/meeting/class_turns.h>
#include <coalesce/meeting/flights_above.h>
#include <coalesce/protocol/answer.h>
#include <coalesce/protocol/base64.h>
#include <coalesce/protocol/message.h>
#include <coalesce/reception/entrance.h>
#include <coalesce/reception/expectations.h>
#include <coalesce/reception/operations.h>

namespace coalesce {
namespace {

using namespace std::chrono;

// After a supervisor's death its requesters come one by one. The run waits until
// none has come for so long, so that all of them share it (SPEC R6).
constexpr milliseconds heirs_idle{40};
constexpr milliseconds heirs_latest{1000};

// Cleaners of /tmp count in days.
constexpr hours touched_each{12};

constexpr milliseconds store_looked_at_each{200};

// A chain of runs may have no end, and each that is kept has its file open.
constexpr std::size_t keepings_max = 16;

// A wrapper that is connected, or somebody who only looks.
struct Wrapper final : Client {
    using Client::Client;
    bool asked = false;                       // to join
    RunLimits limits;                         // of the next run, if it leads that
    std::optional<std::string> on_behalf_of;  // none: it did not say, and nobody has looked
    std::optional<KeptOrders> kept;           // its wish
};

Wrapper& wrapper_of(Client& client) { return static_cast<Wrapper&>(client); }

// Of who asks for the next run: they belong to that flight, from before it has its turn.
struct NextWishes {
    std::vector<std::optional<KeptOrders>> all;
    bool heard = false;  // it has begun
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
    Supervisor(FlightOrders orders, MeetingPlaces places, Descriptor listener, std::unique_ptr<Guard> guard);
    void run(Descriptor leader, pid_t leader_pid);

  private:
    std::optional<Child::Launched> launch();
    Wrapper& receive(Descriptor connection, uid_t uid, pid_t pid);
    void on_line(Wrapper& wrapper, std::string_view line, bool too_long);
    void ask(Wrapper& wrapper, const Fields& request);
    void admit(Wrapper& wrapper, RequestTerms terms, bool fresh);
    RunTicket submit(const Wrapper& wrapper, bool fresh);
    [[nodiscard]] bool too_old(const KeptOrders& kept) const;
    std::shared_ptr<Keeping> new_keeping(const std::vector<std::optional<KeptOrders>>& wishes, bool looked);
    void keep_for_the_store(Wrapper& wrapper);
    void look_at_store();
    void count_savings(const RunResult& result);
    void tell_key(Wrapper& wrapper);
    void tell_waiters(Wrapper& wrapper);
    void leave_if_over();
    void leave_meeting_place();

    FlightOrders orders_;
    MeetingPlaces places_;
    Descriptor listener_;
    const RecordOfChild record_;
    std::optional<Child::Launched> launched_;  // before the loop: the command starts while that is made
    const std::unique_ptr<Guard> guard_;       // only where the run is shared with other machines
    Loop loop_;
    std::optional<Guard::Watched> guarded_;
    std::unique_ptr<Cluster> cluster_;
    std::shared_ptr<const CanonicalSurroundings> surroundings_;
    RememberedTimes times_{loop_};
    ClassTurns turns_{[this] { return places_.for_classes(); }};
    CommandExecutor executor_;
    Reception reception_;
    Entrance entrance_;
    Timer stays_young_{loop_};          // to those who remove old files
    std::optional<Timer> store_watch_;  // while a run goes on for the store
    std::optional<Timer> heirs_;
    steady_clock::time_point begun_ = steady_clock::now();
    // Whoever leads has done so then, where other machines are asked.
    milliseconds asked_ = orders_.asked;
    bool looked_ = true;  // whoever leads has looked at the store, and at the program
    struct {
        FlightId flight{};
        std::shared_ptr<NextWishes> wishes;
    } next_;
    std::vector<std::shared_ptr<Keeping>> keepings_;  // of all flights: what is left to do for them comes last
    bool left_ = false;                               // the meeting place: who comes now is told to try again
};

Supervisor::Supervisor(FlightOrders orders, MeetingPlaces places, Descriptor listener, std::unique_ptr<Guard> guard)
    : orders_(std::move(orders)),
      places_(std::move(places)),
      listener_(std::move(listener)),
      record_{.recorder =
                  places_.own().recorder(orders_.key, orders_.numbering ? orders_.numbering : Numbering::own())},
      launched_(launch()),
      guard_(std::move(guard)),
      cluster_(guard_ ? std::make_unique<Cluster>(loop_, *orders_.circle, *guard_, milliseconds(0)) : nullptr),
      surroundings_(std::make_shared<const CanonicalSurroundings>(orders_.canonical_surroundings)),
      executor_(loop_, {.jobs = 0,
                        // In a file from the first byte: requesters read it themselves.
                        .spool = {.store = {.heap_bytes = 0, .directory = orders_.spool_directory},
                                  .replay_bytes = orders_.replay_bytes},
                        .shell = orders_.line ? orders_.command.argv.front() : ExecutorOptions().shell,
                        .in_child = record_.hook(),
                        .guard = guard_.get(),
                        .sharing = cluster_.get(),
                        .turnstile = &turns_,
                        .class_jobs = orders_.class_jobs}),
      reception_(loop_, executor_, {.stall = orders_.stall},
                 {.on_line = [this](Client& client, std::string_view line,
                                    bool too_long) { on_line(wrapper_of(client), line, too_long); },
                  .on_served = [](Client& client) { client.session->finish(); },
                  .on_over = [this](FlightId) { leave_if_over(); }}),
      entrance_(
          loop_,
          {.has_room =
               [this] { return reception_.clients().size() + supervisors_descriptors <= record_.descriptors.rlim_max; },
           .on_arrival =
               [this](Descriptor connection, const ucred& peer) {
                   if (peer.uid == ::geteuid() || peer.uid == 0) receive(std::move(connection), peer.uid, peer.pid);
               }}) {
    if (orders_.remembers) executor_.remember_in(times_);
    executor_.on_over([this](FlightId, const std::shared_ptr<const RunResult>& result) { count_savings(*result); });
    (void)entrance_.open(listener_.get());
    if (guard_) guarded_.emplace(loop_, *guard_);
    if (cluster_)
        cluster_->on_notice([this](FlightId id, const std::string& sentence) { reception_.notice(id, sentence); });
}

// Nothing where the start needs more than a program: a queue, a turn, an input, a line that
// may go without the shell, another directory. What the program is has to be known from before it begins:
// who joins may wish that its result be kept (SPEC T11).
std::optional<Child::Launched> Supervisor::launch() {
    const Surroundings& surroundings = *orders_.command.surroundings;
    if (orders_.circle || orders_.heir || orders_.line || orders_.command.stdin_bytes || orders_.limits.run_class ||
        !surroundings.cwd.empty()) {
        if (!orders_.program) orders_.program = program_of(orders_.command, orders_.directory);
        return std::nullopt;
    }
    auto launched = Child::launch({.argv = orders_.command.argv,
                                   .env = surroundings.env,
                                   .looks = !orders_.program,
                                   .umask = surroundings.umask,
                                   .terminal = surroundings.terminal,
                                   .hook = record_.hook()},
                                  Descriptor());
    if (!orders_.program) {
        const auto& file = launched.started.file;
        orders_.program = file ? identity_of(*file) : ProgramIdentity{};
    }
    return launched;
}

void Supervisor::run(Descriptor leader, pid_t leader_pid) {
    if (orders_.heir) {  // held until the others are here
        executor_.hold(true);
        heirs_.emplace(loop_);
        heirs_->start(heirs_idle, [this] { executor_.hold(false); });
    }
    Wrapper& first = receive(std::move(leader), ::geteuid(), leader_pid);
    first.asked = true;
    if (!orders_.ancestry.empty()) first.on_behalf_of = nearest_flight(orders_.ancestry);
    first.kept = orders_.kept;
    first.limits = orders_.limits;
    admit(first, {.keep_running = orders_.keep_running, .quiet = !orders_.verbose}, orders_.circle && orders_.fresh);
    stays_young_.in_background();
    stays_young_.start(touched_each, touched_each, [this] { places_.own().touch(orders_.key); });
    loop_.run();
    for (const auto& keeping : keepings_) keeping->after_delivery();
    places_.sweep();  // when nobody waits for it, but perhaps who led
    // Left to a first process that reaps nothing, either's would be zombies (SPEC F13).
    if (cluster_) cluster_->disconnect();
    guarded_.reset();
    if (guard_) guard_->dismiss();
}

Wrapper& Supervisor::receive(Descriptor connection, uid_t uid, pid_t pid) {
    auto owned = std::make_unique<Wrapper>(uid, pid);
    Wrapper& wrapper = *owned;
    reception_.receive(std::move(owned), std::move(connection));
    return wrapper;
}

void Supervisor::on_line(Wrapper& wrapper, std::string_view line, bool too_long) {
    if (too_long) return refuse_too_long(reception_, wrapper);
    if (line.empty()) return wrapper.pace.acknowledge();
    const auto request = Fields::parse(line);
    const std::string op = request ? request->text("op") : "";
    if (op == "join") return ask(wrapper, *request);
    if (op == "signal") return signal_request(reception_, wrapper, {}, static_cast<int>(request->number("signal")));
    if (op == "status") return tell_status(reception_, wrapper, {});
    if (op == "key") return tell_key(wrapper);
    if (op == "waiters") return tell_waiters(wrapper);
    if (op == "keep") return keep_for_the_store(wrapper);
    if (op == "cancel") return (void)cancel_flight(reception_, wrapper, {}, request->text("flight"));
    reception_.refuse(wrapper, {}, request ? "unknown_op" : "bad_json",
                      "a wrapper's flight takes join, signal, keep, status, key, waiters and cancel");
}

void Supervisor::ask(Wrapper& wrapper, const Fields& request) {
    if (std::exchange(wrapper.asked, true)) return;
    if (left_) {
        wrapper.session->send(Message().text("event", "again").line());
        return wrapper.session->finish();
    }
    if (request.has("on_behalf_of")) wrapper.on_behalf_of = request.text("on_behalf_of");
    wrapper.kept = kept_orders_in(request);
    wrapper.limits = run_limits_in(request);
    if (heirs_ && request.flag("heir") && steady_clock::now() - begun_ < heirs_latest)
        heirs_->start(heirs_idle, [this] { executor_.hold(false); });
    admit(wrapper, {.keep_running = request.flag("keep_running"), .quiet = request.flag("quiet")},
          request.flag("fresh"));
}

// All requests here are for one command: who was led to this socket has its key. What they wish of the
// store belongs to the flight.
RunTicket Supervisor::submit(const Wrapper& wrapper, bool fresh) {
    const std::optional<KeptOrders>& kept = wrapper.kept;
    const bool looked = std::exchange(looked_, false);
    const auto asked = std::exchange(asked_, milliseconds(0));
    const auto wishes = std::make_shared<NextWishes>();
    RunTicket ticket =
        executor_.submit(RequestKey{surroundings_, orders_.canonical_words},
                         [this, kept, looked, asked, asker = wrapper.pid, limits = wrapper.limits, wishes] {
                             wishes->heard = true;
                             if (wishes->all.empty()) wishes->all.push_back(kept);
                             if (!looked) orders_.program = program_of(orders_.command, orders_.directory);
                             Job job{.command = orders_.command,
                                     .line = orders_.line,
                                     .title = orders_.title,
                                     .timeout = limits.timeout,
                                     .grace = limits.grace,
                                     .run_class = limits.run_class,
                                     .asker = asker,
                                     .launched = std::exchange(launched_, std::nullopt),
                                     .retention = new_keeping(wishes->all, looked),
                                     .asked = asked,
                                     .refresh = kept && kept->refresh};
                             if (cluster_) cluster_->share(job, {surroundings_, orders_.canonical_words});
                             return job;
                         },
                         {.fresh = fresh});
    if (ticket.leader() && !wishes->heard) next_ = {ticket.id(), wishes};
    std::shared_ptr<Retention>& retention = ticket.state().retention;
    if (next_.wishes && !next_.wishes->heard && next_.flight == ticket.id())
        next_.wishes->all.push_back(kept);
    else if (retention && !ticket.leader())
        static_cast<Keeping&>(*retention).add(kept);
    else if (!retention)
        retention = new_keeping({kept}, looked);
    if (!ticket.leader()) executor_.joined_by(ticket, wrapper.pid);
    return ticket;
}

// None where nobody wishes anything.
std::shared_ptr<Keeping> Supervisor::new_keeping(const std::vector<std::optional<KeptOrders>>& wishes, bool looked) {
    if (std::none_of(wishes.begin(), wishes.end(), [](const auto& wish) { return wish.has_value(); })) return nullptr;
    auto keeping = std::make_shared<Keeping>(KeptSubject{.surroundings = surroundings_,
                                                         .words = orders_.canonical_words,
                                                         .program = *orders_.program,
                                                         .title = orders_.title,
                                                         .directory = orders_.directory,
                                                         .dependencies = orders_.dependencies,
                                                         .state = orders_.state},
                                             executor_.spool_limits(), looked);
    for (const auto& wish : wishes) keeping->add(wish);
    if (keepings_.size() >= keepings_max)
        std::erase_if(keepings_, [](const auto& one) {
            if (one.use_count() == 1) one->leave();
            return one.use_count() == 1;
        });
    keepings_.push_back(keeping);
    return keeping;
}

// A run that started earlier than a request would have it is not joined (SPEC T3).
bool Supervisor::too_old(const KeptOrders& kept) const {
    if (!kept.wish.max_age) return false;  // a fresh one says so itself
    return !may_join(kept.wish, executor_.flights().find_state(KeyView(surroundings_, orders_.canonical_words)), now());
}

// Its reader is gone, and the run is to go on for as long as what it has written can be kept (SPEC T8).
void Supervisor::keep_for_the_store(Wrapper& wrapper) {
    reception_.keep_for_the_store(wrapper);
    if (!store_watch_) store_watch_.emplace(loop_);
    store_watch_->in_background();
    store_watch_->start(store_looked_at_each, store_looked_at_each, [this] { look_at_store(); });
}

void Supervisor::look_at_store() {
    std::vector<FlightId> in_vain;
    executor_.flights().for_each([&](const Key&, const auto& view) {
        const Run& run = view.state;
        auto* const keeping = static_cast<Keeping*>(run.retention.get());
        if (run.spool && (keeping == nullptr || !keeping->could_keep(run.spool->size()))) in_vain.push_back(view.id);
    });
    for (const FlightId id : in_vain) reception_.keep_no_more_for_the_store(id);
}

void Supervisor::admit(Wrapper& wrapper, RequestTerms terms, bool fresh) {
    RunTicket ticket = submit(wrapper, fresh || (wrapper.kept && too_old(*wrapper.kept)));
    terms.title = orders_.title;
    terms.hash = orders_.key;
    terms.output = Request::Output::fd;
    Requester& requester = reception_.enter(wrapper, std::move(terms), std::move(ticket));
    if (requester.following() || requester.ticket.landed()) return;
    if (requester.ticket.state().phase == Run::Phase::asking) return;  // other machines; it is behind no run here
    requester.quiet = false;                                           // it will want to know when the wait is over
    std::optional<milliseconds> turn;
    for (const Expected& expected : expectations(reception_))
        if (expected.flight == requester.flight) turn = expected.turn;
    wrapper.session->send(waiting_line({}, requester.ticket.state(), turn));
}

// Before anybody is told: who asks for the sum on completion finds this run in it.
void Supervisor::count_savings(const RunResult& result) {
    if (result.outcome.kind == Outcome::Kind::cancelled) return;  // spared nobody a run
    const std::size_t joins = reception_.joiners_of(result.run);
    if (joins == 0) return;
    add_savings(places_.own().directory(),
                {.runs = 1, .joins = joins, .time = result.duration * static_cast<std::int64_t>(joins)});
}

// With what the flight is called that a plain request would join, or else the one before it.
void Supervisor::tell_key(Wrapper& wrapper) {
    LiveFlight* shown = nullptr;
    executor_.flights().for_each([&](const Key&, const auto& view) {
        if (shown == nullptr || view.joinable) shown = reception_.find(view.id);
    });
    std::string surroundings;
    std::string words;
    append_base64(surroundings, orders_.canonical_surroundings);
    append_base64(words, orders_.canonical_words);
    Message answer;
    if (shown != nullptr) answer.text("flight", reception_.name_of(*shown));
    wrapper.session->send(answer.text("surroundings", surroundings).text("words", words).line());
}

// Asked by who may be about to close a ring; so only then it is looked for what wrappers
// did not say themselves.
void Supervisor::tell_waiters(Wrapper& wrapper) {
    std::string list;
    std::map<pid_t, std::string> by_session;
    for (const auto& client : reception_.clients()) {
        Wrapper& other = wrapper_of(*client);
        if (other.requesters.empty() || !other.requesters.front().waiting) continue;
        if (!other.on_behalf_of) {
            const auto [known, added] = by_session.try_emplace(::getsid(other.pid));
            if (added) known->second = nearest_flight(ancestry_of_process(places_, other.pid));
            other.on_behalf_of = known->second;
        }
        if (other.on_behalf_of->empty()) continue;
        if (!list.empty()) list += ',';
        list += '"' + *other.on_behalf_of + '"';
    }
    wrapper.session->send(Message().raw("waiters", "[" + list + "]").line());
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
    entrance_.close();
    listener_.reset();
    // Whoever is connected without having asked to join would keep us here.
    for (const auto& client : reception_.clients())
        if (!wrapper_of(*client).asked) client->session->finish();
}

}  // namespace

// Not on the stack, which the user may have made small: it holds the loop's read buffer.
std::shared_ptr<void> supervise(FlightOrders orders, MeetingPlaces places, Descriptor listener, Descriptor leader,
                                pid_t leader_pid, std::unique_ptr<Guard> guard) {
    auto supervisor =
        std::make_shared<Supervisor>(std::move(orders), std::move(places), std::move(listener), std::move(guard));
    supervisor->run(std::move(leader), leader_pid);
    return supervisor;
}

}  // namespace coalesce
