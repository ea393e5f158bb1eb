// SPDX-License-Identifier: MIT
#include <coalesce/meeting/refresh.h>

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>
#include <variant>

#include <coalesce/command/ancestry.h>
#include <coalesce/io/unix_socket.h>
#include <coalesce/meeting/ask.h>
#include <coalesce/meeting/kept_answer.h>
#include <coalesce/meeting/meeting_places.h>
#include <coalesce/meeting/supervisor_process.h>
#include <coalesce/protocol/message.h>

namespace coalesce {
namespace {

using namespace std::chrono;

constexpr seconds patience{10};

// The run that is under way is to be kept, for as long as this request would keep it.
bool have_it_kept(Descriptor connection, const KeptOrders& kept) {
    Message join;
    join.text("op", "join").flag("fresh", kept.wish.fresh).flag("keep_running", true).text("on_behalf_of", "");
    KeptOrders keeping = kept;
    keeping.wish.max_age.reset();  // or it would have a run of its own behind this one
    add_kept_orders(join, keeping);
    const auto answer = ask_flight(std::move(connection), join.line());
    const auto told = answer ? Fields::parse(*answer) : std::nullopt;
    return told && told->text("event") != "again";
}

// Somebody may have made it anew since it was looked at.
bool is_young(const FlightOrders& orders) {
    Wish wish = orders.kept->wish;
    if (wish.stale) wish.ttl = wish.stale;
    return find_kept(orders, wish).has_value();
}

[[noreturn]] void refresh(FlightOrders orders, const std::vector<std::string>& env, const std::string& place) {
    if (!leave_forker({})) ::_exit(125);
    auto places = MeetingPlaces::open(env, place);
    if (!places) ::_exit(125);
    const auto until = steady_clock::now() + patience;
    for (milliseconds pause(1); steady_clock::now() < until; pause = std::min(pause * 2, milliseconds(16))) {
        auto way = places.value().join_or_lead(orders.key, false);
        if (!way) ::_exit(125);
        if (auto* const joined = std::get_if<MeetingPlaces::Joined>(&*way)) {
            if (have_it_kept(std::move(joined->connection), *orders.kept)) ::_exit(0);
        } else if (auto* const leading = std::get_if<MeetingPlaces::Leading>(&*way)) {
            if (is_young(orders)) {
                places.value().own().leave(orders.key);
                ::_exit(0);
            }
            orders.kept->refresh = true;
            orders.keep_running = true;
            orders.fresh = orders.kept->wish.fresh;
            auto ends = connected_pair();
            if (!ends) {
                places.value().own().leave(orders.key);
                ::_exit(125);
            }
            ends->one.reset();  // its leader is gone before it begins, and wants the run to finish
            become_supervisor(std::move(orders), std::move(*places), std::move(leading->listener),
                              std::move(ends->other), ::getpid());
        }
        const timespec rest{.tv_sec = 0, .tv_nsec = pause.count() * 1'000'000};
        ::nanosleep(&rest, nullptr);
    }
    ::_exit(75);
}

}  // namespace

void start_refresh(const FlightOrders& orders, const std::vector<std::string>& env, const std::string& place) {
    if (::fork() == 0) refresh(orders, env, place);
}

}  // namespace coalesce
