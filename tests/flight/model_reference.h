// SPDX-License-Identifier: MIT
// The reference of the model test: what a group should do, written as plainly
// as possible. Vectors of numbers searched from end to end, a recursive search
// for rings, no counts that could be derived, nothing shared with the code under
// test. It is driven by the trace: it does each operation, and when it thinks
// that a callback is due, the next entry must be exactly that callback.
#pragma once

#include "model_trace.h"

#include <algorithm>
#include <deque>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

namespace coalesce::test::model {

class Reference {
  public:
    Reference() {
        for (int slot = 0; slot < 2; ++slot) slots_.push_back(new_group());
    }

    /// Replays `trace`; throws std::logic_error at the first difference.
    void replay(const Trace& trace) {
        trace_ = &trace;
        at_ = 0;
        while (at_ < trace.size()) operate();
    }

    std::size_t position() const { return at_; }

  private:
    struct Group {
        bool closed = false;
        std::vector<int> flights;  // in order of first request, refused ones included
        long last_id = 0;
        long led = 0, joins = 0, refusals = 0, runs = 0, leaves = 0, cancels = 0, landings = 0;
    };
    struct Flight {
        int group;
        int key;
        long id;
        long leader;
        bool listed = false, stored_start = false, started = false, starting = false, begun = false, landed = false,
             settled = false, cancelled = false, closed = false, completed = false, dropped = false, on_cancel = false,
             kept = false, delivery_posted = false, cancelled_delivery_posted = false;
        int predecessor = -1, successor = -1;
        long joined = 0;
        std::string outcome = {};
        long requesters = 0;
        std::vector<long> waiting = {}, sent_away = {};  // requests
    };
    struct Request {
        int flight = -1;
        bool leader = false, held = true, callback = false, over = false, sent_away = false, stop_fired = false;
        bool may_stop = false;
        int asker = -1;
    };
    enum class Task { kStart, kDeliver, kDeliverCancelled, kLateCancel };

    // --- the trace

    const Entry& peek() const {
        static const Entry kNothing{Kind::kEnd, {-1}, "end of trace"};
        return at_ < trace_->size() ? (*trace_)[at_] : kNothing;
    }
    const Entry& next() {
        const Entry& entry = peek();
        ++at_;
        return entry;
    }
    void expect(Kind kind, std::vector<long> numbers, std::string text = {}) {
        const Entry expected{kind, std::move(numbers), std::move(text)};
        if (!(peek() == expected)) {
            std::string what = std::string("expected ") + name(kind);
            for (const long number : expected.numbers) what += ' ' + std::to_string(number);
            throw std::logic_error(what + ' ' + expected.text);
        }
        ++at_;
    }
    Entry inside() {
        while (peek().kind != Kind::kEnd) operate();
        return next();
    }
    void event(Kind kind, std::vector<long> numbers, std::string text = {}) {
        expect(kind, std::move(numbers), std::move(text));
        inside();
    }

    // --- operations

    void operate() {
        const Entry entry = next();
        const auto number = [&](std::size_t i) { return entry.numbers.at(i); };
        switch (entry.kind) {
            case Kind::kJoin:
                return join(entry);
            case Kind::kThen:
                return then(number(0));
            case Kind::kLeave:
                leave(number(0));
                return expect(Kind::kReturned, {});
            case Kind::kDrop:
                held_.erase(std::find(held_.begin(), held_.end(), number(0)));
                leave(number(0));
                return expect(Kind::kReturned, {});
            case Kind::kDetach:
                return detach(number(0));
            case Kind::kStop:
                stop(number(0));
                return expect(Kind::kReturned, {});
            case Kind::kValue:
                return complete(number(0), '=' + std::to_string(number(1)));
            case Kind::kError:
                return complete(number(0), "failed");
            case Kind::kDropCompleter:
                running_.erase(std::find(running_.begin(), running_.end(), number(0)));
                completer_gone(flight_led_by(number(0)));
                return expect(Kind::kReturned, {});
            case Kind::kClose:
                flights_[at(flight_led_by(number(0)))].closed = true;
                return;
            case Kind::kOpen:
                flights_[at(flight_led_by(number(0)))].closed = false;
                return;
            case Kind::kKeep:
                return keep(flight_led_by(number(0)));
            case Kind::kLetGo:
                let_go(flight_led_by(number(0)));
                return expect(Kind::kReturned, {});
            case Kind::kQueue:
                flights_[at(flight_led_by(number(0)))].begun = false;
                return;
            case Kind::kBegin:
                flights_[at(flight_led_by(number(0)))].begun = true;
                return;
            case Kind::kOnCancel:
                return on_cancel(flight_led_by(number(0)));
            case Kind::kStopToken:
                if (number(1) != flights_[at(flight_led_by(number(0)))].cancelled)
                    throw std::logic_error("stop token differs");
                return;
            case Kind::kCancel:
                return cancel(slots_[at(number(0))], static_cast<int>(number(1)));
            case Kind::kCancelId:
                return cancel_id(slots_[at(number(0))], number(1));
            case Kind::kForget:
                return forget(slots_[at(number(0))], static_cast<int>(number(1)));
            case Kind::kStep:
                return step();
            case Kind::kDestroyGroup:
                return destroy(at(number(0)));
            case Kind::kLook:
                return look(entry.numbers);
            default:
                throw std::logic_error("not expected here");
        }
    }

    void join(const Entry& entry) {
        const auto& n = entry.numbers;
        const long request = n.at(0);
        const int group = slots_[at(n.at(1))];
        const int key = static_cast<int>(n.at(2));
        const bool fresh = n.at(3), independent = n.at(4);
        const long behalf = n.at(5), stop = n.at(6);
        requests_.resize(at(request) + 1);
        requests_[at(request)].may_stop = stop == 1;
        const int asker = independent ? -1 : behalf ? flight_led_by(behalf) : current_;
        const int live = key == -1 ? -1 : listed(group, key);
        int target = live;
        if (live >= 0) {
            const Flight& flight = flights_[at(live)];
            if (!joinable(flight) || (fresh && flight.begun)) target = flight.successor;
        }
        if (stop == 2) {
            refuse(request, group, "cancelled");
        } else if (asker >= 0 && live >= 0 && waits(target >= 0 ? target : live, asker)) {
            refuse(request, group, "deadlock");
        } else if (target >= 0) {
            admit(request, target, asker);
            ++groups_[at(group)].joins;
        } else if (groups_[at(group)].closed) {
            refuse(request, group, "cancelled");
        } else {
            lead(request, group, key, live, asker);
        }
        const Request& made = requests_[at(request)];
        const Flight& flight = flights_[at(made.flight)];
        expect(Kind::kJoined, {flight.id, made.leader, flight.settled || made.sent_away});
        held_.push_back(request);
    }

    void lead(long request, int group, int key, int live, int asker) {
        ++groups_[at(group)].led;
        const int flight = new_flight(group, key, ++groups_[at(group)].last_id, request);
        admit(request, flight, asker);
        requests_[at(request)].leader = true;
        if (live >= 0) {
            flights_[at(live)].successor = flight;
            flights_[at(flight)].predecessor = live;
            flights_[at(flight)].stored_start = true;
            return;
        }
        flights_[at(flight)].listed = key != -1;
        run(flight);
    }

    void refuse(long request, int group, std::string outcome) {
        ++groups_[at(group)].refusals;
        const int flight = new_flight(group, -1, 0, 0);
        admit(request, flight, -1);
        flights_[at(flight)].landed = true;
        settle(flight, std::move(outcome), 0);
    }

    void admit(long request, int flight, int asker) {
        requests_[at(request)].flight = flight;
        requests_[at(request)].asker = asker;
        flights_[at(flight)].waiting.push_back(request);
        ++flights_[at(flight)].joined;
    }

    void then(long request) {
        Request& made = requests_[at(request)];
        if (made.over) {
            event(Kind::kCallbackGone, {request});
            return expect(Kind::kThrew, {0});
        }
        if (made.callback) {
            event(Kind::kCallbackGone, {request});
            return expect(Kind::kThrew, {1});
        }
        made.callback = true;
        const int flight = made.flight;
        if (!waits_in_a_list(request)) {
            if (made.sent_away) {
                flights_[at(flight)].sent_away.push_back(request);
                post_cancelled_delivery(flight);
            } else {
                flights_[at(flight)].waiting.push_back(request);
                post_delivery(flight);
            }
        }
        expect(Kind::kThrew, {0});
    }

    void leave(long request) {
        if (requests_[at(request)].over) return;
        const int flight = requests_[at(request)].flight;
        const bool member = is_member(request);
        take_out(request);
        requests_[at(request)].over = true;
        const bool callback = requests_[at(request)].callback;
        if (member) member_gone(flight);
        if (callback) event(Kind::kCallbackGone, {request});
    }

    void detach(long request) {
        held_.erase(std::find(held_.begin(), held_.end(), request));
        if (waits_in_a_list(request))
            requests_[at(request)].held = false;
        else
            leave(request);
        expect(Kind::kReturned, {});
    }

    void stop(long request) {
        if (requests_[at(request)].stop_fired || !requests_[at(request)].may_stop) return;
        requests_[at(request)].stop_fired = true;
        if (!is_member(request)) return;
        const int flight = requests_[at(request)].flight;
        take_out(request);
        requests_[at(request)].sent_away = true;
        flights_[at(flight)].sent_away.push_back(request);
        post_cancelled_delivery(flight);
        member_gone(flight);
    }

    void complete(long leader, std::string outcome) {
        const int flight = flight_led_by(leader);
        if (flights_[at(flight)].completed) return expect(Kind::kThrew, {1});
        if (!flights_[at(flight)].landed) {
            flights_[at(flight)].completed = true;
            land(flight, std::move(outcome));
        }
        expect(Kind::kThrew, {0});
    }

    void on_cancel(int flight) {
        if (flights_[at(flight)].landed) return;
        flights_[at(flight)].on_cancel = true;
        if (flights_[at(flight)].cancelled) tasks_.push_back({Task::kLateCancel, flight});
    }

    void keep(int flight) {
        if (!flights_[at(flight)].landed) flights_[at(flight)].kept = true;
    }

    void let_go(int number) {
        Flight& flight = flights_[at(number)];
        if (!flight.kept) return;
        flight.kept = false;
        const bool alone = flight.settled || flight.waiting.empty();
        if (alone && !flight.landed) request_cancel(number);
    }

    void cancel(int group, int key) {
        const int live = listed(group, key);
        long told = 0;
        if (live >= 0) {
            const int pending = flights_[at(live)].successor;
            if (pending >= 0) told += cancel_for_all(pending);
            told += cancel_for_all(live);
        }
        expect(Kind::kReturned, {told});
    }

    void cancel_id(int group, long id) {
        long told = 0;
        for (const int flight : std::vector<int>(groups_[at(group)].flights))
            if (id != 0 && flights_[at(flight)].id == id) told = cancel_for_all(flight);
        expect(Kind::kReturned, {told});
    }

    void forget(int group, int key) {
        const int live = listed(group, key);
        if (live >= 0) start_later(depart(live));
        expect(Kind::kReturned, {live >= 0});
    }

    void step() {
        const bool any = !tasks_.empty();
        if (any) {
            const auto [task, flight] = tasks_.front();
            tasks_.pop_front();
            switch (task) {
                case Task::kStart:
                    if (flights_[at(flight)].landed || flights_[at(flight)].started) break;
                    flights_[at(flight)].stored_start = false;
                    run(flight);
                    event(Kind::kStartGone, {flights_[at(flight)].leader});
                    break;
                case Task::kDeliver:
                    deliver(flight);
                    break;
                case Task::kDeliverCancelled:
                    deliver_cancelled(flight);
                    break;
                case Task::kLateCancel:
                    if (!flights_[at(flight)].landed) call_on_cancel(flight);
            }
        }
        expect(Kind::kReturned, {any});
    }

    void destroy(std::size_t slot) {
        const int group = slots_[slot];
        groups_[at(group)].closed = true;
        std::vector<int> to_tell, unstarted;
        for (const int number : groups_[at(group)].flights) {
            Flight& flight = flights_[at(number)];
            send_away(number);
            if (flight.started && !flight.landed) to_tell.push_back(number);
            if (flight.stored_start) unstarted.push_back(number);
            flight.landed = flight.settled = true;
            flight.listed = flight.stored_start = false;
            flight.predecessor = flight.successor = -1;
        }
        for (const int flight : to_tell) request_cancel(flight);
        for (const int flight : unstarted) event(Kind::kStartGone, {flights_[at(flight)].leader});
        slots_[slot] = new_group();
        expect(Kind::kReturned, {});
    }

    // --- what follows

    void run(int flight) {
        ++groups_[at(flights_[at(flight)].group)].runs;
        flights_[at(flight)].started = flights_[at(flight)].starting = flights_[at(flight)].begun = true;
        const int outer = current_;
        current_ = flight;
        const Entry& start = peek();
        const bool kept = start.numbers.size() == 2 && start.numbers[1];
        const long leader = flights_[at(flight)].leader;
        expect(Kind::kStart, {leader, kept});
        if (kept) running_.push_back(leader);
        const bool throws = inside().numbers.at(0);
        current_ = outer;
        flights_[at(flight)].starting = false;
        if (!kept) flights_[at(flight)].dropped = true;
        if (flights_[at(flight)].landed) return;
        if (throws)
            land(flight, "thrown");
        else if (flights_[at(flight)].dropped)
            land(flight, "broken");
    }

    void completer_gone(int number) {
        Flight& flight = flights_[at(number)];
        if (flight.completed) return;
        if (flight.starting)
            flight.dropped = true;
        else if (!flight.landed)
            land(number, "broken");
    }

    void land(int number, std::string outcome) {
        ++groups_[at(flights_[at(number)].group)].landings;
        flights_[at(number)].landed = true;
        flights_[at(number)].on_cancel = false;
        const int following = flights_[at(number)].listed ? depart(number) : -1;
        settle(number, std::move(outcome), flights_[at(number)].joined);
        start_later(following);
    }

    void settle(int number, std::string outcome, long requesters) {
        Flight& flight = flights_[at(number)];
        if (flight.settled) return;
        flight.settled = true;
        flight.outcome = std::move(outcome);
        flight.requesters = requesters;
        if (!flight.waiting.empty()) post_delivery(number);
    }

    int depart(int number) {
        Flight& flight = flights_[at(number)];
        const int following = flight.successor;
        flight.listed = false;
        flight.successor = -1;
        if (following >= 0) {
            flights_[at(following)].listed = true;
            flights_[at(following)].predecessor = -1;
        }
        return following;
    }

    void start_later(int flight) {
        if (flight >= 0) tasks_.push_back({Task::kStart, flight});
    }

    void member_gone(int flight) {
        ++groups_[at(flights_[at(flight)].group)].leaves;
        if (!flights_[at(flight)].waiting.empty()) return;
        if (!flights_[at(flight)].started)
            never_start(flight);
        else if (flights_[at(flight)].kept)
            tell_run(Kind::kAlone, flight);
        else
            request_cancel(flight);
    }

    void never_start(int number) {
        Flight& flight = flights_[at(number)];
        flight.landed = flight.settled = true;
        if (flight.predecessor >= 0) flights_[at(flight.predecessor)].successor = -1;
        flight.predecessor = -1;
        flight.listed = false;
        const bool stored = flight.stored_start;
        flight.stored_start = false;
        const long leader = flight.leader;
        if (stored) event(Kind::kStartGone, {leader});
    }

    long cancel_for_all(int number) {
        Flight& flight = flights_[at(number)];
        if (flight.settled) return 0;
        const long told = std::ssize(flight.waiting);
        flight.settled = true;
        send_away(number);
        if (flight.started)
            request_cancel(number);
        else
            never_start(number);
        return told;
    }

    void send_away(int number) {
        Flight& flight = flights_[at(number)];
        if (flight.waiting.empty()) return;
        flight.sent_away.insert(flight.sent_away.end(), flight.waiting.begin(), flight.waiting.end());
        flight.waiting.clear();
        post_cancelled_delivery(number);
    }

    void request_cancel(int flight) {
        if (flights_[at(flight)].cancelled) return;
        flights_[at(flight)].cancelled = true;
        ++groups_[at(flights_[at(flight)].group)].cancels;
        call_on_cancel(flight);
    }

    void call_on_cancel(int flight) {
        if (!flights_[at(flight)].on_cancel) return;
        flights_[at(flight)].on_cancel = false;
        tell_run(Kind::kCancelled, flight);
    }

    void tell_run(Kind what, int flight) {
        const int outer = current_;
        current_ = -1;
        event(what, {flights_[at(flight)].leader});
        current_ = outer;
    }

    void post_delivery(int flight) {
        if (flights_[at(flight)].delivery_posted) return;
        flights_[at(flight)].delivery_posted = true;
        tasks_.push_back({Task::kDeliver, flight});
    }
    void post_cancelled_delivery(int flight) {
        if (flights_[at(flight)].cancelled_delivery_posted) return;
        flights_[at(flight)].cancelled_delivery_posted = true;
        tasks_.push_back({Task::kDeliverCancelled, flight});
    }

    void deliver(int flight) {
        const int outer = current_;
        current_ = -1;
        while (!flights_[at(flight)].waiting.empty()) {
            const long request = flights_[at(flight)].waiting.front();
            const std::string outcome = flights_[at(flight)].outcome;
            take_turn(request, outcome, flights_[at(flight)].requesters);
        }
        flights_[at(flight)].delivery_posted = false;
        current_ = outer;
    }

    void deliver_cancelled(int flight) {
        const int outer = current_;
        current_ = -1;
        const long requesters = flights_[at(flight)].joined;
        while (!flights_[at(flight)].sent_away.empty()) {
            const long request = flights_[at(flight)].sent_away.front();
            requests_[at(request)].sent_away = true;
            take_turn(request, "cancelled", requesters);
        }
        flights_[at(flight)].cancelled_delivery_posted = false;
        current_ = outer;
    }

    void take_turn(long request, const std::string& outcome, long requesters) {
        take_out(request);
        if (!requests_[at(request)].callback && requests_[at(request)].held) return;
        requests_[at(request)].over = true;
        if (!requests_[at(request)].callback) return;
        event(Kind::kCall, {request, requesters}, outcome);
        event(Kind::kCallbackGone, {request});
    }

    // --- questions

    static std::size_t at(long number) { return static_cast<std::size_t>(number); }

    static bool joinable(const Flight& flight) {
        return flight.listed && !flight.cancelled && !flight.closed && !flight.settled;
    }
    int listed(int group, int key) const {
        for (const int flight : groups_[at(group)].flights)
            if (flights_[at(flight)].listed && flights_[at(flight)].key == key) return flight;
        return -1;
    }
    int flight_led_by(long request) const { return requests_[at(request)].flight; }

    bool waits_in_a_list(long request) const {
        const Flight& flight = flights_[at(requests_[at(request)].flight)];
        return std::count(flight.waiting.begin(), flight.waiting.end(), request) +
                   std::count(flight.sent_away.begin(), flight.sent_away.end(), request) >
               0;
    }
    bool is_member(long request) const {
        const Flight& flight = flights_[at(requests_[at(request)].flight)];
        return !flight.settled && std::count(flight.waiting.begin(), flight.waiting.end(), request) > 0;
    }
    void take_out(long request) {
        Flight& flight = flights_[at(requests_[at(request)].flight)];
        std::erase(flight.waiting, request);
        std::erase(flight.sent_away, request);
    }

    bool waits(int flight, int other) const {
        std::set<int> seen;
        return waits(flight, other, seen);
    }
    bool waits(int flight, int other, std::set<int>& seen) const {
        if (flights_[at(flight)].landed || flights_[at(other)].landed) return false;
        if (flight == other) return true;
        if (!seen.insert(flight).second) return false;
        if (flights_[at(flight)].predecessor >= 0 && waits(flights_[at(flight)].predecessor, other, seen)) return true;
        for (long request = 0; request < std::ssize(requests_); ++request)
            if (requests_[at(request)].asker == flight && requests_[at(request)].flight >= 0 && is_member(request) &&
                waits(requests_[at(request)].flight, other, seen))
                return true;
        return false;
    }

    void look(const std::vector<long>& shown) const {
        std::vector<long> seen;
        seen.reserve(160);
        const auto add = [&](auto... numbers) { (seen.push_back(static_cast<long>(numbers)), ...); };
        for (const int number : slots_) {
            const Group& group = groups_[at(number)];
            long size = 0;
            for (const int flight : group.flights) size += flights_[at(flight)].listed;
            add(size);
            for (const int which : group.flights) {
                const Flight& flight = flights_[at(which)];
                if (!flight.listed && flight.predecessor < 0) continue;
                add(flight.key, flight.id, flight.settled ? 0 : std::ssize(flight.waiting), flight.joined,
                    joinable(flight), flight.predecessor >= 0, flight.started, flight.cancelled,
                    flight.started ? flight.leader : 0);
            }
            for (int key = 0; key < 3; ++key) {
                const int live = listed(number, key);
                add(live >= 0 && joinable(flights_[at(live)])
                        ? (flights_[at(live)].started ? flights_[at(live)].leader : 0)
                        : -1L);
            }
            add(group.led, group.joins, group.refusals, group.runs, group.leaves, group.cancels, group.landings);
        }
        add(kNextPart);
        for (const long request : held_) {
            const Request& made = requests_[at(request)];
            const Flight& flight = flights_[at(made.flight)];
            add(request, flight.id, made.leader, flight.settled || made.sent_away, flight.started ? flight.leader : 0);
        }
        add(kNextPart);
        for (const long leader : running_) {
            const Flight& flight = flights_[at(flight_led_by(leader))];
            add(leader, joinable(flight), flight.cancelled, flight.settled ? 0 : std::ssize(flight.waiting));
        }
        add(kNextPart);
        add(tasks_.size());
        if (seen == shown) return;
        std::string what = "expected to see";
        for (const long number : seen) what += ' ' + std::to_string(number);
        throw std::logic_error(what);
    }

    int new_group() {
        groups_.emplace_back();
        return static_cast<int>(groups_.size()) - 1;
    }
    int new_flight(int group, int key, long id, long leader) {
        flights_.push_back({.group = group, .key = key, .id = id, .leader = leader});
        const int flight = static_cast<int>(flights_.size()) - 1;
        groups_[at(group)].flights.push_back(flight);
        return flight;
    }

    const Trace* trace_ = nullptr;
    std::size_t at_ = 0;
    std::vector<Group> groups_;
    std::vector<int> slots_;  // the group that stands at each place now
    std::deque<Flight> flights_;
    std::deque<Request> requests_;
    std::deque<std::pair<Task, int>> tasks_;
    std::vector<long> held_, running_;
    int current_ = -1;
};

}  // namespace coalesce::test::model
