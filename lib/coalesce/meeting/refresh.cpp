// SPDX-License-Identifier: MIT
#include <coalesce/meeting/refresh.h>

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>
#include <variant>

#include <coalesce/command/ancestry.h>
#include <coalesce/command/outcome.h>
#include <coalesce/command/want.h>
#include <coalesce/io/unix_socket.h>
#include <coalesce/meeting/ask.h>
#include <coalesce/meeting/kept_answer.h>
#include <coalesce/meeting/meeting_places.h>
#include <coalesce/meeting/supervisor_process.h>
#include <coalesce/protocol/message.h>

namespace coalesce {
namespace {

using namespace std::chrono;

// Nobody waits for it, and a machine under load, or short of something, is given time.
constexpr minutes patience{1};
constexpr milliseconds longest_pause{64};
// For who starts it somebody may well be waiting.
constexpr milliseconds patience_of_forker{200};

void rest(milliseconds pause) {
    const timespec time{.tv_sec = 0, .tv_nsec = pause.count() * 1'000'000};
    ::nanosleep(&time, nullptr);
}

// The run that is under way is to be kept, for as long as this request would keep it.
bool have_it_kept(Descriptor connection, const FlightOrders& orders) {
    const KeptOrders& kept = *orders.kept;
    Message join;
    join.text("op", "join").flag("fresh", kept.wish.fresh).flag("keep_running", true).text("on_behalf_of", "");
    KeptOrders keeping = kept;
    keeping.wish.max_age.reset();  // or it would have a run of its own behind this one
    add_run_limits(join, orders.limits);
    add_kept_orders(join, keeping);
    const auto answer = ask_flight(std::move(connection), join.line());
    const auto told = answer ? Fields::parse(*answer) : std::nullopt;
    return told && told->text("event") != "again";
}

// Somebody may have made it anew since it was looked at, or tried in vain (T5).
bool is_not_due(const FlightOrders& orders) {
    const auto found = find_kept(orders);
    return found && !found->hit.verdict.refresh;
}

// How it ends that it was refused; nothing: it is worth another attempt.
std::optional<int> end_of(const Error& refused) {
    return is_want(refused.code.value()) ? std::nullopt : std::optional<int>(125);
}

// How this process ends, unless it becomes the supervisor; nothing: not now.
std::optional<int> join_or_supervise(FlightOrders& orders, const std::vector<std::string>& env,
                                     const std::string& place, LeftoversPatience& leftovers) {
    auto places = MeetingPlaces::open(env, place);
    if (!places) return end_of(places.error());
    auto way = places->join_or_lead(orders.key, leftovers.over());
    if (!way) return end_of(way.error());
    if (const auto* const busy = std::get_if<MeetingPlaces::Busy>(&*way)) {
        if (*busy == MeetingPlaces::Busy::leftovers) leftovers.ends_now();
        return std::nullopt;
    }
    if (auto* const joined = std::get_if<MeetingPlaces::Joined>(&*way))
        return have_it_kept(std::move(joined->connection), orders) ? std::optional<int>(0) : std::nullopt;
    auto& leading = std::get<MeetingPlaces::Leading>(*way);
    if (is_not_due(orders)) {
        places->own().leave(orders.key);
        return 0;
    }
    auto ends = connected_pair();
    if (!ends) {
        places->own().leave(orders.key);
        return end_of(ends.error());
    }
    orders.kept->refresh = true;
    orders.keep_running = true;
    orders.fresh = orders.kept->wish.fresh;
    ends->one.reset();  // its leader is gone before it begins, and wants the run to finish
    become_supervisor(std::move(orders), std::move(*places), std::move(leading.listener), std::move(ends->other),
                      ::getpid());
}

[[noreturn]] void refresh(FlightOrders orders, const std::vector<std::string>& env, const std::string& place) {
    if (!leave_forker({})) ::_exit(125);
    const auto until = steady_clock::now() + patience;
    LeftoversPatience leftovers;
    for (milliseconds pause(1);; pause = std::min(pause * 2, longest_pause)) {
        if (const auto status = join_or_supervise(orders, env, place, leftovers)) ::_exit(*status);
        if (steady_clock::now() >= until) ::_exit(gave_up_status);
        rest(pause);
    }
}

}  // namespace

Result<> start_refresh(const FlightOrders& orders, const std::vector<std::string>& env, const std::string& place) {
    const auto until = steady_clock::now() + patience_of_forker;
    for (milliseconds pause(1);; pause = std::min(pause * 2, longest_pause)) {
        const pid_t pid = ::fork();
        if (pid == 0) refresh(orders, env, place);
        if (pid > 0) return {};
        const Error refused = system_error_now("start a refresh");
        if (steady_clock::now() >= until) return refused;
        rest(pause);
    }
}

}  // namespace coalesce
