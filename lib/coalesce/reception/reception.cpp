// SPDX-License-Identifier: MIT
#include <coalesce/reception/reception.h>

#include <sys/resource.h>

#include <algorithm>
#include <cassert>
#include <exception>
#include <iterator>
#include <system_error>
#include <utility>

#include <coalesce/command/duration.h>
#include <coalesce/io/loop.h>
#include <coalesce/protocol/answer.h>

namespace coalesce {
namespace {

using namespace std::chrono;

constexpr std::uint64_t short_bytes = 64 * 1024;

// Runs and connections need the others.
std::size_t most_files() {
    rlimit limit{};
    return ::getrlimit(RLIMIT_NOFILE, &limit) == 0 ? static_cast<std::size_t>(limit.rlim_cur / 4) : 0;
}

// The final message is the last.
void stop_output(Requester& requester) {
    if (!requester.extras) return;
    if (requester.extras->relay) requester.extras->relay->stop();
    if (StreamRendering* const stream = std::exchange(requester.extras->stream, nullptr)) {
        stream->stop();
        requester.client->session->wake(*stream);
    }
}

}  // namespace

Reception::Reception(Loop& loop, CommandExecutor& executor, Options options, Events events)
    : loop_(loop),
      executor_(executor),
      options_(options),
      events_(std::move(events)),
      slow_readers_(loop, *this, options.stall, [this](LiveFlight& flight) {
          if (events_.on_dropped) events_.on_dropped(flight);
      }) {
    executor_.on_started([this](FlightId id) { started(id); });
    executor_.on_stalled([this](FlightId id) { slow_readers_.stalled(id); });
    executor_.on_landed([this](FlightId id) { forget(id); });
}

// Whatever clients did, no table has grown by it.
Reception::~Reception() { assert(clients_.empty() && flights_.empty() && kept_.empty() && waiting_ == 0); }

// --- connections

void Reception::receive(std::unique_ptr<Client> owned, Descriptor connection) {
    Client& client = *owned;
    client.place = clients_.insert(clients_.end(), std::move(owned));
    client.session = std::make_unique<Session>(
        loop_, std::move(connection),
        Session::Events{
            [this, &client](std::string_view line, bool too_long) { events_.on_line(client, line, too_long); },
            [this, &client] {
                client.pace.input_ended();
                served(client);
            },
            [this, &client] { on_gone(client); }, [&client] { client.pace.room(); },
            [&client] { return client.unanswered; }});
}

void Reception::on_gone(Client& client) {
    for (auto next = client.requesters.begin(); next != client.requesters.end();) {
        Requester& requester = *next++;
        if (requester.worth_keeping && !requester.keep_running) requester.keep_running = requester.for_the_store = true;
        part(requester);
    }
    loop_.post([this, &client] {  // after those that were buried
        if (events_.on_gone) events_.on_gone(client);
        clients_.erase(client.place);
    });
}

void Reception::look_for_served() {
    for (const auto& client : clients_) served(*client);
}

void Reception::hear_all() {
    for (const auto& client : clients_) client->session->hear();  // they go on a later turn
}

void Reception::drop_clients() {
    for (const auto& client : clients_) client->session->drop();  // they go on a later turn
}

void Reception::served(Client& client) {
    if (!client.session->gone() && client.unanswered == 0) events_.on_served(client);
}

// --- requesters

Requester& Reception::enter(Client& client, RequestTerms terms, RunTicket ticket) {
    Requester& requester = add(client, terms);
    admit(requester, std::move(terms), std::move(ticket));
    return requester;
}

Reception::Expected Reception::expect(Client& client, const RequestTerms& terms) {
    Requester& requester = add(client, terms);
    requester.need_extras().title = terms.title;
    client.know(requester);
    return requester.extras->expected = std::make_shared<Requester*>(&requester);
}

Requester& Reception::add(Client& client, const RequestTerms& terms) {
    Requester& requester = client.requesters.emplace_back();
    requester.client = &client;
    requester.place = std::prev(client.requesters.end());
    requester.id = terms.id;
    requester.output = terms.output;
    requester.keep_running = terms.keep_running;
    requester.worth_keeping = terms.worth_keeping;
    requester.quiet = terms.quiet;
    requester.waiting = true;
    ++client.unanswered;
    ++waiting_;
    return requester;
}

void Reception::admit(Requester& requester, RequestTerms terms, RunTicket ticket) {
    requester.ticket = std::move(ticket);
    requester.joined = requester.ticket.id() != 0 && !requester.ticket.leader();
    attach(requester, terms);
    if (requester.extras) requester.extras->expected.reset();
    if (requester.client == nullptr) {
        if (requester.flight != nullptr && !becomes_keeper(requester)) return let_go(requester);
    } else {
        requester.client->forget(requester);
        requester.client->know(requester);
        if (terms.loan) requester.need_extras().loan = std::move(terms.loan);
        if (terms.wait && !requester.ticket.landed()) {  // else its result is on the way
            auto& patience = requester.need_extras().patience.emplace(loop_);
            patience.start(*terms.wait, [this, &requester] { give_up(requester); });
        }
    }
    requester.ticket.then([this, &requester](const Landing<RunResult>& landing) { landed(requester, landing); });
    if (requester.wants_output_as_it_comes() && !requester.ticket.landed() && requester.ticket.state().spool)
        follow(requester);
}

// Among those who wait for its flight. One that could not be started has landed already.
void Reception::attach(Requester& requester, RequestTerms& terms) {
    Run& run = requester.ticket.state();
    if (run.title.empty()) run.title = terms.title;  // it waits behind another
    if (run.title != terms.title) requester.need_extras().title = std::move(terms.title);
    const FlightId id = requester.ticket.id();
    if (id == 0 || requester.ticket.landed()) return;
    const auto [found, first] = flights_.try_emplace(id);
    LiveFlight& flight = found->second;
    requester.flight = &flight;
    flight.requesters.push_back(requester);
    if (requester.waiting) ++flight.waiting;
    if (!first) return;
    flight.id = id;
    flight.hash = std::move(terms.hash);
    flight.uid = requester.client != nullptr ? requester.client->uid : requester.extras->uid;
    flight.ref = requester.ticket.ref();
    flight.run = &run;
    if (by_name_) by_name_->emplace(name_of(flight), &flight);
    if (run.phase == Run::Phase::running && events_.on_started) events_.on_started(flight);
}

void Reception::detach(Requester& requester) {
    LiveFlight* const flight = std::exchange(requester.flight, nullptr);
    if (flight == nullptr) return;
    requester.unlink();
    if (flight->over && flight->requesters.empty()) erase(*flight);
}

void Reception::refuse(Client& client, std::string_view id, std::string_view code, const std::string& why) {
    client.session->send(error_line(id, code, why));
}

void Reception::follow(Requester& requester) {
    const Run& run = requester.ticket.state();
    Session& session = *requester.client->session;
    if (session.gone()) return;  // and it will part as soon as that is told
    if (!requester.quiet) {
        session.send(started_line(
            requester.id, run,
            {.joined = requester.joined, .waiting = requester.flight->waiting, .usually = usually(*requester.flight)}));
        if (session.gone()) return;
    }
    requester.ticket.state().read_live = true;
    begin_output(requester, run.spool);
}

// It was kept, and nothing runs: all of it is there.
void Reception::follow_kept(Requester& requester, const Landing<RunResult>& landing) {
    Session& session = *requester.client->session;
    if (session.gone()) return;  // and it will part as soon as that is told
    if (!requester.quiet) session.send(kept_line(requester.id, *landing.value));
    if (!session.gone()) begin_output(requester, landing.value->spool);
}

void Reception::begin_output(Requester& requester, const std::shared_ptr<Spool>& spool) {
    Session& session = *requester.client->session;
    RequesterExtras& extras = requester.need_extras();
    if (requester.output == Request::Output::stream) {
        auto rendering = std::make_unique<StreamRendering>(
            spool, requester.id, [&session](const StreamRendering& one) { session.wake(one); });
        extras.stream = rendering.get();
        return session.send(std::move(rendering));
    }
    const auto all_is_sent = [this, &requester] {
        if (requester.client == nullptr) return;
        if (requester.extras->relay->failed())
            part(requester);  // it has been told why
        else if (requester.extras->landing.value)
            end(requester, requester.extras->landing);  // else the landing is on its way
    };
    extras.relay =
        std::make_unique<DescriptorRelay>(loop_, session, requester.client->pace, spool, requester.id, all_is_sent);
    extras.relay->pump();
}

void Reception::landed(Requester& requester, const Landing<RunResult>& landing) {
    stop_waiting(requester);
    detach(requester);
    if (requester.client == nullptr)
        loop_.post([this, &requester] { kept_.erase(requester.place); });
    else if (!landing.value)
        end(requester, landing);
    else if (const auto lack = lack_for(requester, *landing.value); !lack.code.empty())
        refuse_late(requester, lack);
    else {
        if (landing.value->kept && requester.wants_output_as_it_comes() && !requester.following())
            follow_kept(requester, landing);
        if (requester.over) return;
        if (requester.extras && requester.extras->relay && !requester.extras->relay->finished())
            requester.extras->landing = landing;
        else
            end(requester, landing);
    }
}

// A result waits in memory, or behind a descriptor, until its client reads it. One of a client's may, however little is
// left, and what is short; others only while there is enough for those who read (SPEC F9, F14). Where the memory is
// exhausted, longer output than is always kept was not recorded.
Reception::Lack Reception::lack_for(const Requester& requester, const RunResult& result) const {
    const Client& client = *requester.client;
    if (requester.output == Request::Output::none || !result.spool || result.spool->size() <= short_bytes) return {};
    const std::size_t unread = client.session->unread() + client.pace.blocked();
    if (unread <= (requester.following() ? 1u : 0u) || !client.session->full()) return {};
    const SpoolLimits& limits = executor_.spool_limits();
    const MemoryBudget& budget = *limits.store.budget;
    if (budget.exhausted() && !result.kept && result.spool->size() <= limits.always_kept_bytes)
        return {"output_too_long", "the results that wait to be read take all the memory there is for them"};
    if (result.spool->file() >= 0 && budget.files() > most_files())
        return {"too_many_files", "the results that wait to be read take most of the descriptors there are"};
    return {};
}

void Reception::refuse_late(Requester& requester, const Lack& lack) {
    if (requester.extras && requester.extras->relay) requester.extras->relay->leave_to_requester();
    stop_output(requester);
    refuse(*requester.client, requester.id, lack.code, lack.why);
    bury(requester);
}

void Reception::end(Requester& requester, const Landing<RunResult>& landing) {
    if (!landing.value) stop_output(requester);
    final_messages_.send(requester, landing);
    bury(requester);
}

void Reception::give_up(Requester& requester) {
    dismiss(requester, error_line(requester.id, "gave_up", "gave up waiting for " + requester.title()));
}

// Whatever comes of it, the request waits no more.
void Reception::stop_waiting(Requester& requester) {
    if (!std::exchange(requester.waiting, false)) return;
    --waiting_;
    if (requester.flight != nullptr) --requester.flight->waiting;
    if (!requester.extras) return;
    requester.extras->patience.reset();
    requester.extras->loan = {};
    requester.client->forget(requester);
    requester.client->know(requester);
}

void Reception::part(Requester& requester) {
    if (requester.over || requester.client == nullptr) return;
    const bool expected = !requester.ticket;
    // For the store alone nothing is begun.
    const bool keeps_it =
        requester.keep_running && requester.waiting &&
        (expected ? !requester.for_the_store
                  : !requester.ticket.landed() && (!requester.for_the_store || requester.ticket.state().spool));
    stop_waiting(requester);
    if (keeps_it && keep(requester)) return;
    const FlightId id = expected ? FlightId() : requester.ticket.id();
    detach(requester);
    requester.ticket = {};
    forget_unstarted(id);
    bury(requester);
}

// Output first: whatever is sent brings along what waits for the connection.
void Reception::dismiss(Requester& requester, const std::string& last_line) {
    if (requester.over || requester.client == nullptr) return;
    stop_output(requester);
    requester.client->session->send(last_line);
    part(requester);
}

// False: somebody keeps it already, and one is enough.
bool Reception::becomes_keeper(Requester& requester) {
    LiveFlight* const flight = requester.flight;
    if (flight == nullptr) return false;
    if (flight->keeper == nullptr) {
        flight->keeper = &requester;
        return true;
    }
    flight->keeper->for_the_store = flight->keeper->for_the_store && requester.for_the_store;
    return false;
}

// Leaves without leaving: nobody is told how the run ends, which goes on for it, or begins. False:
// it does so for somebody else.
bool Reception::keep(Requester& requester) {
    const bool expected = !requester.ticket;
    if (!expected && !becomes_keeper(requester)) return false;
    stop_output(requester);
    Client& client = *std::exchange(requester.client, nullptr);
    client.forget(requester);
    kept_.splice(kept_.end(), client.requesters, requester.place);
    requester.output = Request::Output::none;
    if (expected)
        requester.extras->uid = client.uid;
    else if (requester.flight->stalled)
        slow_readers_.drain_or_refuse(requester);  // while its own reader is still there
    if (requester.extras) loop_.post([relay = std::move(requester.extras->relay)] {});  // it may be on the stack
    --client.unanswered;
    served(client);
    return true;
}

void Reception::keep_for_the_store(Client& client) {
    for (Requester& requester : client.requesters)
        if (requester.waiting && !requester.keep_running) requester.keep_running = requester.for_the_store = true;
}

void Reception::keep_no_more_for_the_store(FlightId id) {
    LiveFlight* const flight = find(id);
    if (flight == nullptr || flight->over || flight->keeper == nullptr || !flight->keeper->for_the_store) return;
    let_go(*std::exchange(flight->keeper, nullptr));
}

void Reception::let_go(Requester& kept) {
    const FlightId id = kept.ticket.id();
    detach(kept);
    kept.ticket = {};
    forget_unstarted(id);
    loop_.post([this, &kept] { kept_.erase(kept.place); });
}

// Whoever is over may still be on the stack.
void Reception::bury(Requester& requester) {
    if (std::exchange(requester.over, true)) return;
    stop_output(requester);
    if (requester.extras && requester.extras->expected) *requester.extras->expected = nullptr;
    Client& client = *requester.client;
    client.forget(requester);
    --client.unanswered;
    loop_.post([this, &client, place = requester.place] {
        client.requesters.erase(place);
        served(client);  // not before: all are told before the first one's connection is closed
    });
}

// --- flights

LiveFlight* Reception::find(FlightId id) {
    const auto found = flights_.find(id);
    return found == flights_.end() ? nullptr : &found->second;
}

const std::string& Reception::name_of(LiveFlight& flight) const {
    if (flight.name.empty()) flight.name = names_.name_of(flight.hash, flight.id);
    return flight.name;
}

const std::map<std::string_view, LiveFlight*>& Reception::flights_by_name() {
    if (!by_name_) {
        by_name_.emplace();
        for (auto& [id, flight] : flights_) by_name_->emplace(name_of(flight), &flight);
    }
    return *by_name_;
}

const std::optional<Usually>& Reception::usually(LiveFlight& flight) const {
    if (!flight.usually) flight.usually = executor_.usually(flight.ref);
    return *flight.usually;
}

void Reception::cancel(LiveFlight& flight) {
    const FlightId id = flight.id;
    executor_.cancel(id);
    forget_unstarted(id);
}

void Reception::notice(FlightId id, const std::string& sentence) {
    const LiveFlight* const flight = find(id);
    if (flight == nullptr) return;
    for (const Requester* const requester :
         flight->those_who([](const Requester& one) { return one.waiting && one.wants_output_as_it_comes(); }))
        requester->client->session->send(
            message_to(requester->id).text("event", "notice").text("message", sentence).line());
}

std::size_t Reception::joiners_of(FlightId id) {
    const LiveFlight* const flight = find(id);
    if (flight == nullptr || flight->waiting == 0) return 0;
    return flight->those_who([](const Requester& one) { return one.waiting && one.joined; }).size();
}

void Reception::started(FlightId id) {
    LiveFlight* const flight = find(id);
    if (flight == nullptr) return;  // its leader is being entered
    if (events_.on_started) events_.on_started(*flight);
    for (Requester* const requester : flight->those_who(
             [](const Requester& one) { return one.waiting && one.wants_output_as_it_comes() && !one.following(); }))
        follow(*requester);
}

// Called before the requesters are told, and also when there are none.
void Reception::forget(FlightId id) {
    LiveFlight* const flight = find(id);
    if (flight != nullptr) {
        if (std::exchange(flight->over, true)) return;
        flight->progress.reset();
    }
    if (events_.on_over) events_.on_over(id);
    if (flight != nullptr && flight->requesters.empty()) erase(*flight);
}

void Reception::erase(LiveFlight& flight) {
    if (by_name_) by_name_->erase(flight.name);
    flights_.erase(FlightId(flight.id));
}

// One that waited behind another run, and that nobody is left to start it for, lands
// without a word.
void Reception::forget_unstarted(FlightId id) {
    if (const LiveFlight* const flight = find(id); flight != nullptr && flight->ref.landed()) forget(id);
}

}  // namespace coalesce
