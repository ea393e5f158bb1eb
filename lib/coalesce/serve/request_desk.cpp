// SPDX-License-Identifier: MIT
#include <coalesce/serve/request_desk.h>

#include <unistd.h>

#include <chrono>
#include <utility>
#include <vector>

#include <coalesce/cluster/platform.h>
#include <coalesce/command/ancestry.h>
#include <coalesce/engine/key_hash.h>
#include <coalesce/io/loop.h>
#include <coalesce/protocol/answer.h>

namespace coalesce {
namespace {

using namespace std::chrono;

// What a flight lands with that was not run.
class Found final : public Retention {
  public:
    explicit Found(std::shared_ptr<const RunResult> result) : result_(std::move(result)) {}
    std::shared_ptr<const RunResult> find() override { return result_; }
    void keep(const std::shared_ptr<const RunResult>& /*result*/, UniqueFunction<void()> done) override { done(); }

  private:
    std::shared_ptr<const RunResult> result_;
};

}  // namespace

struct RequestDesk::Asked {
    ResolvedRequest resolved;
    std::shared_ptr<const CanonicalSurroundings> canonical;
    RequestTerms terms;
    Wish wish;
    FlightRef asking;  // on whose behalf

    [[nodiscard]] RequestKey key() const { return {canonical, resolved.canonical_words}; }
    [[nodiscard]] KeptQuestion question() const {
        return {.job = resolved.job, .surroundings = canonical, .words = resolved.canonical_words, .wish = wish};
    }
};

// Not for those who join: any of it costs more than joining.
struct RequestDesk::MakeJob {
    RequestDesk& desk;
    Asked& asked;

    Job operator()() const {
        return desk.leading(std::move(asked.resolved.job), asked.key(), asked.resolved.crosses_machines);
    }
    auto own() && {
        return [&desk = desk, job = std::move(asked.resolved.job), canonical = asked.canonical,
                words = asked.resolved.canonical_words, crosses_machines = asked.resolved.crosses_machines]() mutable {
            return desk.leading(std::move(job), {canonical, words}, crosses_machines);
        };
    }
};

RequestDesk::RequestDesk(const ServerOptions& options, const Rooms& rooms, Surroundings own, StorePlace store)
    : options_(options),
      rooms_(rooms),
      own_uid_(::geteuid()),
      surroundings_(std::make_shared<const Surroundings>(std::move(own))),
      own_ancestry_(ancestry_in(surroundings_->env)),
      desk_(rooms.loop, rooms.executor.spool_limits(),
            {.place = std::move(store),
             .make_refresh_program = options.make_refresh_program,
             .in_child = options.executor.in_child},
            {.on_not_written = [this](const std::string& words) { rooms_.log.warn("{}", words); }}) {
    if (rooms_.cluster != nullptr)
        cluster_rules_ = ClusterRules{.engine = options_.circle->words(), .scope = {}, .platform = own_platform()};
}

void RequestDesk::take(Peer& peer, Request& request) {
    if (peer.session->gone() && !request.keep_running) return;  // nobody is to have it
    ++requests_;
    if (turned_away(peer, request)) return;
    Asked asked{.resolved = resolve(request, peer.uid, Job{.grace = options_.grace, .asker = peer.pid}),
                .canonical = {},
                .terms = {},
                .wish = request.wish,
                .asking = {}};
    admit(peer, request, asked);
}

// Whatever it asks for; it has been told why.
bool RequestDesk::turned_away(Peer& peer, const Request& request) const {
    const auto refuse = [&](std::string_view code, const std::string& why) {
        rooms_.reception.refuse(peer, request.id, code, why);
        return true;
    };
    if (closed_) return refuse("shutting_down", "the server is about to end");
    if (rooms_.reception.waiting() >= options_.requesters_max)
        return refuse("too_many_requesters", std::to_string(options_.requesters_max) + " requesters wait already");
    if (meant_for_no_circle(peer, request)) return refuse("engine_down", options_.circle_fault);
    return false;
}

// It names machines to share with, and there was to be an engine.
bool RequestDesk::meant_for_no_circle(const Peer& peer, const Request& request) const {
    return !options_.circle_fault.empty() && !request.cluster_scope.empty() && !request.no_share &&
           peer.uid == own_uid_;
}

ResolvedRequest RequestDesk::resolve(Request& request, uid_t uid, Job defaults) const {
    return coalesce::resolve(request, surroundings_, rules_for(uid), options_.executor.shell, std::move(defaults));
}

// Our own user's keys are those of its wrappers and batches, and mean the same kept results; others' name them.
KeyRules RequestDesk::rules_for(uid_t uid) const {
    KeyRules rules;
    if (uid != own_uid_)
        rules.user = uid;
    else
        rules.cluster = cluster_rules_;
    return rules;
}

// What decides about sharing in a request that says nothing of its surroundings is made once.
std::shared_ptr<const CanonicalSurroundings> RequestDesk::canonical_of(ResolvedRequest& resolved, uid_t uid) {
    if (resolved.canonical_surroundings) return interned_.intern(std::move(*resolved.canonical_surroundings));
    auto& canonical = own_canonical_[uid];
    if (!canonical) canonical = interned_.intern(canonical_surroundings(*surroundings_, rules_for(uid)));
    return canonical;
}

// It would have to wait with the others, and joins nobody.
bool RequestDesk::finds_the_queue_full(const Asked& asked) const {
    return rooms_.executor.counts().queued >= options_.queue_max &&
           rooms_.executor.flights().find_state(KeyView(asked.key())) == nullptr;
}

std::string RequestDesk::queue_full_words() const {
    return std::to_string(options_.queue_max) + " flights wait already";
}

void RequestDesk::admit(Peer& peer, Request& request, Asked& asked) {
    asked.canonical = canonical_of(asked.resolved, peer.uid);
    asked.wish.fresh = request.fresh;
    if (request.no_share) asked.wish = {.fresh = request.fresh};  // nor with who comes later
    const bool looks = asked.wish.reads() || asked.wish.warm;
    if (!looks && finds_the_queue_full(asked))
        return rooms_.reception.refuse(peer, request.id, "queue_full", queue_full_words());
    asked.terms = {.id = std::move(request.id),
                   .title = asked.resolved.job.title,
                   .output = request.output,
                   .keep_running = request.keep_running,
                   .worth_keeping = asked.wish.keeps(),
                   .quiet = request.quiet,
                   .wait = request.wait};
    const auto& surroundings = asked.resolved.job.command.surroundings;
    asked.asking = running_.above(peer, surroundings == surroundings_ ? own_ancestry_ : ancestry_in(surroundings->env),
                                  peer.sessions);
    if (looks) {
        auto expected = rooms_.reception.expect(peer, asked.terms);
        const auto owned = std::make_shared<Asked>(std::move(asked));
        return desk_.look(owned->question(),
                          [this, expected = std::move(expected), owned](std::shared_ptr<const RunResult> result) {
                              looked(expected, *owned, std::move(result));
                          });
    }
    RunTicket ticket = submit(asked);
    started_for(peer, rooms_.reception.enter(peer, std::move(asked.terms), std::move(ticket)));
}

// The store has been asked: what it has is for this request alone, so it lands a flight of its own.
void RequestDesk::looked(const Reception::Expected& expected, Asked& asked, std::shared_ptr<const RunResult> result) {
    Requester* const requester = *expected;
    if (requester == nullptr) return;
    if (result) {
        std::string words = asked.resolved.canonical_words;
        append_unshared(words);
        RunTicket ticket = rooms_.executor.submit(RequestKey{asked.canonical, words}, [&] {
            return Job{.title = asked.terms.title, .retention = std::make_shared<Found>(std::move(result))};
        });
        return rooms_.reception.admit(*requester, std::move(asked.terms), std::move(ticket));
    }
    const auto refuse = [&](std::string_view code, const std::string& why) {
        requester->keep_running = false;
        rooms_.reception.dismiss(*requester, error_line(requester->id, code, why));
    };
    // Else there is nobody to tell; of a closed one what is submitted lands at once.
    if (requester->client != nullptr) {
        if (closed_) return refuse("shutting_down", "the server is about to end");
        if (finds_the_queue_full(asked)) return refuse("queue_full", queue_full_words());
    }
    RunTicket ticket = submit(asked);
    rooms_.reception.admit(*requester, std::move(asked.terms), std::move(ticket));
    if (*expected != nullptr && requester->client != nullptr)
        started_for(static_cast<Peer&>(*requester->client), *requester);
}

Job RequestDesk::leading(Job job, const RequestKey& key, bool crosses_machines) {
    if (crosses_machines) rooms_.cluster->share(job, key);
    if (!job.retention)
        job.retention = desk_.keeper({.job = job, .surroundings = key.surroundings, .words = key.words, .wish = {}});
    auto own = std::make_shared<Surroundings>(*job.command.surroundings);
    enter_flight(own->env, key_hash(key));
    job.command.surroundings = std::move(own);
    return job;
}

RunTicket RequestDesk::submit(Asked& asked) {
    const auto keeper = asked.wish.keeps() ? desk_.keeper(asked.question()) : nullptr;
    asked.resolved.job.retention = keeper;
    const bool fresh =
        asked.wish.fresh || (asked.wish.max_age &&
                             !may_join(asked.wish, rooms_.executor.flights().find_state(KeyView(asked.key())), now()));
    RunTicket ticket = rooms_.executor.submit(asked.key(), MakeJob{.desk = *this, .asked = asked},
                                              {.fresh = fresh, .on_behalf_of = asked.asking});
    if (ticket.leader()) asked.terms.hash = key_hash(asked.key());
    if (ticket.landed()) return ticket;
    KeptDesk::share(ticket.state().retention, keeper);
    if (asked.asking) asked.terms.loan = rooms_.executor.lend_place_of(asked.asking.id());
    if (!ticket.leader()) rooms_.executor.joined_by(ticket, asked.resolved.job.asker);
    return ticket;
}

void RequestDesk::started_for(Peer& peer, const Requester& requester) {
    if (requester.joined) {
        ++joins_;
        if (requester.flight != nullptr) rooms_.watchers.joined(*requester.flight);
    }
    const Run* const run = requester.flight != nullptr ? requester.flight->run : nullptr;
    if (run != nullptr && requester.wants_output_as_it_comes() && !requester.quiet && !requester.following() &&
        !run->run_class.empty())
        peer.session->send(waiting_line(
            requester.id, *run, run->others > 0 ? rooms_.executor.turn_in_class(requester.flight->id) : Turns::Time()));
    if (!requester.joined && requester.flight != nullptr)
        rooms_.log.debug("flight {} of uid {} (pid {}): {}", short_name(rooms_.reception.name_of(*requester.flight)),
                         peer.uid, peer.pid, for_the_log(requester.title()));
}

void RequestDesk::forget(Peer& peer, Request request) {
    if (turned_away(peer, request)) return;
    const std::string id = request.id;
    ResolvedRequest resolved = resolve(request, peer.uid, Job{});
    const Key key{canonical_of(resolved, peer.uid), resolved.canonical_words};
    auto expected = rooms_.reception.expect(peer, {.id = id, .title = resolved.job.title});
    desk_.forget(key, [this, expected = std::move(expected)](const Result<>& forgotten) {
        Requester* const requester = *expected;
        if (requester == nullptr) return;
        rooms_.reception.dismiss(
            *requester, forgotten ? message_to(requester->id).text("event", "forgotten").line()
                                  : error_line(requester->id, "no_store", "cannot " + forgotten.error().message()));
    });
}

void RequestDesk::go_on_for_the_store() {
    if (store_watch_ || rooms_.executor.flights().empty()) return;
    constexpr milliseconds each{200};
    store_watch_.emplace(rooms_.loop);
    store_watch_->in_background();
    store_watch_->start(each, each, [this] {
        if (rooms_.executor.flights().empty()) return rooms_.loop.post([this] { store_watch_.reset(); });
        desk_.ask_entry_limit([this](std::uint64_t bytes) { keep_no_longer_than(bytes); });
    });
}

void RequestDesk::keep_no_longer_than(std::uint64_t bytes) {
    std::vector<FlightId> in_vain;
    for (const auto& [id, flight] : rooms_.reception.flights())
        if (flight.keeper != nullptr && flight.run->spool && flight.run->spool->size() > bytes) in_vain.push_back(id);
    for (const FlightId id : in_vain) rooms_.reception.keep_no_more_for_the_store(id);
}

}  // namespace coalesce
