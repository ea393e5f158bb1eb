// SPDX-License-Identifier: MIT
// The world of the model test: real groups on a manual executor, and a driver
// that does random things to them, from outside and from inside every callback,
// start and destructor the groups reach. It writes down what it did and what
// happened; it has no opinion about what should have. A request is named by its
// number, a flight by the number of the request that led it.
#pragma once

#include "model_trace.h"

#include <coalesce/flight/group.h>
#include <coalesce/flight/manual_executor.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <exception>
#include <future>
#include <memory>
#include <random>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace coalesce::test::model {

inline constexpr std::size_t kGroups = 2;
inline constexpr int kKeys = 3;        // 0, 1, 2
inline constexpr int kNotItself = -1;  // a key that does not equal itself

struct Key {
    int number;
    friend bool operator==(const Key& a, const Key& b) { return a.number == b.number && a.number != kNotItself; }
};
struct KeyHash {  // two buckets' worth of hashes, so that chains form
    std::size_t operator()(const Key& key) const { return static_cast<std::size_t>(key.number & 1); }
};
struct Marked {
    long leader = 0;
};

using RealGroup = Group<Key, int, Marked, KeyHash>;
using RealTicket = Ticket<int, Marked>;
using RealCompleter = Completer<int, Marked>;

inline std::string outcome_of(const Landing<int>& landing) {
    if ((landing.value != nullptr) == (landing.error != nullptr)) return "both or neither";
    try {
        return "=" + std::to_string(*landing.get());
    } catch (const std::system_error& error) {
        return error.code() == std::errc::operation_canceled ? "cancelled" : "deadlock";
    } catch (const std::future_error&) {
        return "broken";
    } catch (const std::runtime_error& error) {
        return error.what();
    }
}

class World {
  public:
    /// `lies` lands another value than it writes down now and then: a reference
    /// that agrees with that world would agree with anything.
    explicit World(std::uint64_t seed, bool lies = false) : random_(seed), lies_(lies) {
        for (auto& group : groups_) group = std::make_unique<RealGroup>(executor_);
    }

    ~World() {
        quiet_ = true;
        // In any order; what is still posted goes with the executor, uncalled.
        if (chance(50)) held_.clear();
        if (chance(50)) running_.clear();
        if (chance(50)) groups_ = {};
        if (chance(50)) executor_.run_all();
    }

    World(const World&) = delete;
    World& operator=(const World&) = delete;

    /// One random operation from outside, and a look at everything.
    void step() {
        operate();
        look();
    }

    const Trace& trace() const { return trace_; }
    void forget_trace() { trace_.clear(); }
    std::uint64_t operations() const { return operations_; }

  private:
    struct Held {
        long request;
        RealTicket ticket;
        std::stop_source stop{std::nostopstate};
    };
    struct Running {
        long leader;
        RealCompleter completer;
    };

    // Tells when what a callback or a stored start captured is destroyed.
    class Captured {
      public:
        Captured(World& world, Kind kind, long request) : world_(&world), kind_(kind), request_(request) {}
        Captured(Captured&& other) noexcept
            : world_(std::exchange(other.world_, nullptr)), kind_(other.kind_), request_(other.request_) {}
        Captured& operator=(Captured&&) = delete;
        ~Captured() {
            if (world_) world_->event(kind_, {request_});
        }
        void disarm() { world_ = nullptr; }

      private:
        World* world_;
        Kind kind_;
        long request_;
    };

    long below(long bound) { return static_cast<long>(random_() % static_cast<std::uint64_t>(bound)); }
    bool chance(int percent) { return below(100) < percent; }

    void note(Kind kind, std::vector<long> numbers, std::string text = {}) {
        trace_.push_back({kind, std::move(numbers), std::move(text)});
    }

    // Something of ours was reached: do a few things inside it.
    void event(Kind kind, std::vector<long> numbers, std::string text = {}) {
        if (quiet_) return;
        note(kind, std::move(numbers), std::move(text));
        inside();
        note(Kind::kEnd, {});
    }

    void inside() {
        if (depth_ >= 4) return;
        ++depth_;
        while (chance(35)) operate();
        if (chance(10)) look();
        --depth_;
    }

    void operate() {
        ++operations_;
        const long choice = below(100);
        if (choice < 28) return join();
        if (choice < 34) return with_ticket(&World::then);
        if (choice < 40) return with_ticket(&World::leave);
        if (choice < 46) return with_ticket(&World::drop);
        if (choice < 53) return with_ticket(&World::detach);
        if (choice < 56) return with_ticket(&World::stop);
        if (choice < 62) return with_completer(&World::complete);
        if (choice < 66) return with_completer(&World::drop_completer);
        if (choice < 72) return with_completer(&World::tell_completer);
        if (choice < 74) return cancel();
        if (choice < 76) return cancel_id();
        if (choice < 79) return forget();
        if (choice < 80 && below(4) == 0) return destroy_group();
        note(Kind::kStep, {});
        note(Kind::kReturned, {executor_.run_one()});
    }

    std::size_t any_group() { return static_cast<std::size_t>(below(kGroups)); }
    int any_key() { return chance(3) ? kNotItself : static_cast<int>(below(kKeys)); }

    void join() {
        const std::size_t group = any_group();
        const int key = any_key();
        const long request = ++last_request_;
        JoinOptions options;
        options.fresh = chance(20);
        options.independent = chance(15);
        long behalf = 0;
        if (!running_.empty() && chance(35)) {
            const Running& asker = *running_[static_cast<std::size_t>(below(std::ssize(running_)))];
            behalf = asker.leader;
            options.on_behalf_of = asker.completer.flight();
        }
        const long stop = chance(15) ? 1 + below(2) : 0;  // 1: may be stopped, 2: is
        std::stop_source source{std::nostopstate};
        if (stop) {
            source = std::stop_source();
            if (stop == 2) source.request_stop();
            options.stop = source.get_token();
        }
        note(Kind::kJoin, {request, static_cast<long>(group), key, options.fresh, options.independent, behalf, stop});
        Start start{this, request, Captured(*this, Kind::kStartGone, request)};
        auto held =
            std::make_unique<Held>(Held{request, groups_[group]->join(Key{key}, std::move(start), options), source});
        start.captured.disarm();  // not stored: its end is the driver's own doing
        note(Kind::kJoined, {static_cast<long>(held->ticket.id()), held->ticket.leader(), held->ticket.landed()});
        held_.push_back(std::move(held));
        // Mostly a request is given its callback at once, as in life.
        if (chance(60)) give_callback(*held_.back());
        if (!chance(20)) return;
        const auto still =
            std::find_if(held_.begin(), held_.end(), [&](const auto& h) { return h->request == request; });
        if (still != held_.end()) detach(static_cast<std::size_t>(still - held_.begin()));
    }

    struct Start {
        World* world;
        long leader;
        Captured captured;
        void operator()(RealCompleter completer) { world->run(leader, std::move(completer)); }
    };

    void run(long leader, RealCompleter completer) {
        if (quiet_) return;
        completer.state().leader = leader;
        const bool kept = chance(85);
        note(Kind::kStart, {leader, kept});
        if (kept) running_.push_back(std::make_unique<Running>(Running{leader, std::move(completer)}));
        inside();
        const bool throws = chance(8);
        note(Kind::kEnd, {throws});
        if (throws) throw std::runtime_error("thrown");
    }

    template <class Operation>
    void with_ticket(Operation operation) {
        if (!held_.empty()) (this->*operation)(static_cast<std::size_t>(below(std::ssize(held_))));
    }
    template <class Operation>
    void with_completer(Operation operation) {
        if (!running_.empty()) (this->*operation)(static_cast<std::size_t>(below(std::ssize(running_))));
    }

    void then(std::size_t index) { give_callback(*held_[index]); }

    void give_callback(Held& held) {
        const long request = held.request;
        note(Kind::kThen, {request});
        bool threw = false;
        try {
            held.ticket.then(
                [this, request, captured = Captured(*this, Kind::kCallbackGone, request)](const Landing<int>& landing) {
                    event(Kind::kCall, {request, static_cast<long>(landing.requesters)}, outcome_of(landing));
                });
        } catch (const std::future_error&) {
            threw = true;
        }
        note(Kind::kThrew, {threw});
    }

    // A ticket may be destroyed by what its own leaving causes, so nothing of it is touched afterwards.
    void leave(std::size_t index) {
        note(Kind::kLeave, {held_[index]->request});
        held_[index]->ticket.leave();
        note(Kind::kReturned, {});
    }
    void drop(std::size_t index) {
        std::unique_ptr<Held> dropped = take(held_, index);
        note(Kind::kDrop, {dropped->request});
        dropped->ticket = {};
        note(Kind::kReturned, {});
    }
    void detach(std::size_t index) {
        std::unique_ptr<Held> detached = take(held_, index);
        note(Kind::kDetach, {detached->request});
        std::move(detached->ticket).detach();
        note(Kind::kReturned, {});
        if (detached->stop.stop_possible()) stoppable_.push_back({detached->request, detached->stop});
    }
    void stop(std::size_t index) {
        std::pair<long, std::stop_source> chosen{held_[index]->request, held_[index]->stop};
        if (!stoppable_.empty() && chance(50))
            chosen = stoppable_[static_cast<std::size_t>(below(std::ssize(stoppable_)))];
        if (!chosen.second.stop_possible()) return;
        note(Kind::kStop, {chosen.first});
        chosen.second.request_stop();
        note(Kind::kReturned, {});
    }

    void complete(std::size_t index) {
        Running& running = *running_[index];
        const int value = chance(70) ? static_cast<int>(below(1000)) : -1;
        note(value < 0 ? Kind::kError : Kind::kValue, {running.leader, value});
        bool threw = false;
        try {
            if (value < 0)
                running.completer.error(std::make_exception_ptr(std::runtime_error("failed")));
            else
                running.completer.value(lies_ && below(50) == 0 ? value + 1 : value);
        } catch (const std::future_error&) {
            threw = true;
        }
        note(Kind::kThrew, {threw});
    }
    void drop_completer(std::size_t index) {
        std::unique_ptr<Running> dropped = take(running_, index);
        note(Kind::kDropCompleter, {dropped->leader});
        dropped.reset();
        note(Kind::kReturned, {});
    }
    void tell_completer(std::size_t index) {
        Running& running = *running_[index];
        const long leader = running.leader;
        switch (below(10)) {
            case 0:
                note(Kind::kClose, {leader});
                return running.completer.close_to_joiners();
            case 4:
                note(Kind::kOpen, {leader});
                return running.completer.open_to_joiners();
            case 5:
            case 6:
                note(Kind::kKeep, {leader});
                return running.completer.keep([this, leader] { event(Kind::kAlone, {leader}); });
            case 7:
                note(Kind::kLetGo, {leader});
                running.completer.let_go();
                return note(Kind::kReturned, {});
            case 1:
                note(Kind::kQueue, {leader});
                return running.completer.queue();
            case 2:
                note(Kind::kBegin, {leader});
                return running.completer.begin();
            case 3:
                note(Kind::kStopToken, {leader, running.completer.stop_token().stop_requested()});
                return;
            default:
                note(Kind::kOnCancel, {leader});
                return running.completer.on_cancel([this, leader] { event(Kind::kCancelled, {leader}); });
        }
    }

    void cancel() {
        const std::size_t group = any_group();
        const int key = any_key();
        note(Kind::kCancel, {static_cast<long>(group), key});
        note(Kind::kReturned, {static_cast<long>(groups_[group]->cancel(Key{key}))});
    }
    void cancel_id() {
        if (held_.empty()) return;
        const std::size_t group = any_group();
        const long id = static_cast<long>(held_[static_cast<std::size_t>(below(std::ssize(held_)))]->ticket.id());
        note(Kind::kCancelId, {static_cast<long>(group), id});
        const std::size_t told = groups_[group]->cancel(static_cast<FlightId>(id));
        note(Kind::kReturned, {static_cast<long>(told)});
    }
    void forget() {
        const std::size_t group = any_group();
        const int key = any_key();
        note(Kind::kForget, {static_cast<long>(group), key});
        note(Kind::kReturned, {groups_[group]->forget(Key{key})});
    }
    void destroy_group() {
        const std::size_t group = any_group();
        if (closing_[group]) return;
        note(Kind::kDestroyGroup, {static_cast<long>(group)});
        closing_[group] = true;
        delete groups_[group].get();  // what it reaches may still ask it for something
        (void)groups_[group].release();
        groups_[group] = std::make_unique<RealGroup>(executor_);
        closing_[group] = false;
        note(Kind::kReturned, {});
    }

    // Everything that can be seen.
    void look() {
        std::vector<long> seen;
        seen.reserve(160);
        const auto add = [&](auto... numbers) { (seen.push_back(static_cast<long>(numbers)), ...); };
        for (const auto& group : groups_) {
            add(group->size());
            group->for_each([&](const Key& key, const FlightView<Marked>& view) {
                add(key.number, view.id, view.waiters, view.requesters, view.joinable, view.pending, view.started,
                    view.cancelled, view.state.leader);
            });
            for (int key = 0; key < kKeys; ++key) {
                const Marked* state = group->find_state(Key{key});
                add(state ? state->leader : -1);
            }
            const GroupStats& stats = group->stats();
            add(stats.flights, stats.joins, stats.refusals, stats.runs, stats.leaves, stats.cancels, stats.landings);
        }
        add(kNextPart);
        for (const auto& held : held_)
            add(held->request, held->ticket.id(), held->ticket.leader(), held->ticket.landed(),
                held->ticket.state().leader);
        add(kNextPart);
        for (const auto& running : running_)
            add(running->leader, running->completer.joinable(), running->completer.cancelled(),
                running->completer.waiters());
        add(kNextPart);
        add(executor_.queued());
        note(Kind::kLook, std::move(seen));
    }

    template <class T>
    static std::unique_ptr<T> take(std::vector<std::unique_ptr<T>>& from, std::size_t index) {
        std::unique_ptr<T> taken = std::move(from[index]);
        from.erase(from.begin() + static_cast<std::ptrdiff_t>(index));
        return taken;
    }

    std::mt19937_64 random_;
    bool lies_;
    Trace trace_;
    bool quiet_ = false;
    int depth_ = 0;
    long last_request_ = 0;
    std::uint64_t operations_ = 0;
    ManualExecutor executor_;
    std::array<std::unique_ptr<RealGroup>, kGroups> groups_;
    std::array<bool, kGroups> closing_{};
    std::vector<std::unique_ptr<Held>> held_;
    std::vector<std::unique_ptr<Running>> running_;
    std::vector<std::pair<long, std::stop_source>> stoppable_;
};

}  // namespace coalesce::test::model
