// SPDX-License-Identifier: MIT
// coalesce key, status, cancel and stats: looking at flights, ending and counting them.

#include <coalesce/cluster/live_runs.h>
#include <coalesce/cluster/part_digests.h>
#include <coalesce/command/duration.h>
#include <coalesce/command/key.h>
#include <coalesce/command/size.h>
#include <coalesce/command/text.h>
#include <coalesce/protocol/answer.h>
#include <coalesce/protocol/base64.h>
#include <coalesce/protocol/message.h>
#include <coalesce/command/identity.h>
#include <coalesce/io/loop.h>
#include <coalesce/meeting/ask.h>
#include <coalesce/meeting/kept_answer.h>
#include <coalesce/meeting/meeting_places.h>
#include <coalesce/kept/savings.h>

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <set>
#include <utility>

#include "cluster_terms.h"
#include "commands.h"
#include "complain.h"
#include "openmetrics.h"
#include "options.h"
#include "table.h"
#include "wrapped_command.h"

namespace coalesce {
namespace {

std::string value_of(const std::vector<KeyPart>& parts, std::string_view name) {
    for (const KeyPart& part : parts)
        if (part.name == name) return part.value;
    return {};
}

struct NearMisses {
    std::string lines;
    std::set<std::string> names;  // of all that differs
};

// Adds live flights of the same words: the one that this command would join, and those that it
// would not, and why.
void add_near_misses(NearMisses& found, const MeetingPlace& place, const std::string& own_key,
                     const std::vector<KeyPart>& own) {
    for (const std::string& key : place.keys()) {
        const auto answer = ask_flight(place.connect(key), Message().text("op", "key").line());
        const auto fields = answer ? Fields::parse(*answer) : std::nullopt;
        if (!fields || !fields->has("flight")) continue;  // a leftover, or over meanwhile
        const std::string id = fields->text("flight").substr(0, id_columns);
        if (key == own_key) {
            found.lines += "in flight: would join " + id + "\n";
            continue;
        }
        const auto surroundings = from_base64(fields->text("surroundings"));
        const auto words = from_base64(fields->text("words"));
        if (!surroundings || !words) continue;
        const auto other = explain(*surroundings, *words);
        if (value_of(other, "argv") != value_of(own, "argv")) continue;
        std::string names;
        for (const std::string& name : differences(own, other)) {
            names.append(names.empty() ? "" : "; ").append(name);
            found.names.insert(name);
        }
        found.lines.append("not joined: ").append(id).append(" differs in ").append(names).append("\n");
    }
}

// The same of runs that other machines could share. Without an engine that answers the rest is told all the same.
void add_runs_elsewhere(NearMisses& found, const FlightOrders& orders) {
    const Circle& circle = *orders.circle;
    const std::string common = cluster_surroundings(orders.canonical_surroundings);
    const std::string own = name_at_engine(circle, common, orders.canonical_words);
    std::printf("at the engine\t%s\n", own.c_str());
    const auto loop = std::make_unique<Loop>();
    const auto runs = live_runs(*loop, circle);
    if (!runs) return (void)fail("cannot " + runs.error().message());
    for (const LiveRun& run : runs.value()) {
        const std::string which = run.name.substr(0, id_columns) + " on " + visible(run.info.host);
        if (run.key == own && !run.ending) found.lines += "in flight: would join " + which + "\n";
        if (run.key == own) continue;
        const auto differing = parts_that_differ(circle.secret, common, orders.canonical_words, run.info.parts);
        if (!differing) continue;
        std::string names;
        for (const std::string& name : differing->names) {
            names.append(names.empty() ? "" : "; ").append(name);
            found.names.insert(name);
        }
        if (differing->only_theirs > 0)
            names += (names.empty() ? "" : "; ") + std::to_string(differing->only_theirs) + " that only it has";
        found.lines += "not joined: " + which + " differs in " + (names.empty() ? "the namespace" : names) + "\n";
    }
}

constexpr std::chrono::hours ever{24 * 36'500};

// What is kept of the command, and of the youngest result of the same words under another key, what
// keeps it from being served (SPEC T25).
std::string kept_lines(const FlightOrders& orders) {
    const Moment moment = now();
    if (const auto kept = find_kept(orders, {.ttl = ever, .keep_failures = ever})) {
        const auto left = kept->hit.left;
        return "kept: " + format_duration(kept->hit.verdict.age) + " old, exit " +
               std::to_string(kept->hit.entry.facts().exit_status) + ", " +
               format_size(kept->hit.entry.output_bytes()) +
               (left.count() > 0 ? ", " + format_duration(left) + " left\n" : ", past its time\n");
    }
    const auto store = KeptStore::open(orders.kept->place, false);
    if (!store || !store.value()) return "not kept\n";
    const std::string own = store_key_of(orders).name;
    const auto whole = std::make_shared<const CanonicalSurroundings>(orders.canonical_surroundings);
    const auto parts = explain(surroundings_in(orders.kept->place, whole)->bytes, orders.canonical_words);
    const auto listing = store.value()->list(moment);
    if (!listing.complete) fail("cannot " + listing.complete.error().message());
    for (const KeptStore::Listed& other : listing.results) {
        if (other.facts.title != orders.title) continue;
        const auto entry = store.value()->look(other.name, Entry::Check::all_but_output);
        if (!entry || !entry.value()) continue;  // gone meanwhile
        std::string names;
        for (const std::string& name : differences(entry.value()->facts(), parts))
            names.append(names.empty() ? "" : "; ").append(name);
        if (other.name == own) names = "the program, which is another than the one that made it";
        return "not kept\nnot served: " + other.name.substr(0, id_columns) + " differs in " + names + "\n";
    }
    return "not kept\n";
}

// A part a line; what a process is takes one line together, but for what keeps it from joining.
void print_parts(const std::vector<KeyPart>& parts, const std::set<std::string>& differing) {
    std::string identity;
    for (const KeyPart& part : parts)
        if (part.of_identity && !differing.contains(part.name))
            identity += (identity.empty() ? "" : ", ") + part.name + " " + part.value;
    for (const KeyPart& part : parts) {
        if (!part.of_identity || differing.contains(part.name))
            std::printf("%s\t%s\n", part.name.c_str(), part.value.c_str());
        else if (!identity.empty())
            std::printf("identity\t%s\n", std::exchange(identity, {}).c_str());
    }
}

std::vector<std::string_view> flights_of(const std::optional<Fields>& status) {
    return status ? json_elements(status->raw("flights")) : std::vector<std::string_view>();
}

std::vector<std::string> ids_beginning_with(const std::string& id, const std::string& status) {
    std::vector<std::string> ids;
    for (const std::string_view flight : flights_of(Fields::parse(status)))
        if (const auto fields = Fields::parse(flight); fields && fields->text("id").starts_with(id))
            ids.push_back(fields->text("id"));
    return ids;
}

std::string as_duration(double seconds) {
    return format_duration(std::chrono::milliseconds(static_cast<std::int64_t>(seconds * 1000)));
}

// What is left of a run: of one that waits, until it begins (SPEC H3).
std::string left_of(const Fields& flight, std::chrono::nanoseconds age, const std::optional<Usually>& usually) {
    if (flight.text("state") == "queued")
        return flight.has("turn_in") ? as_duration(flight.seconds("turn_in")) : std::string("-");
    if (!usually) return "-";
    return usually->exceeded_by(age) ? "late" : format_duration(usually->left(age));
}

void add_flight(Table& table, const Fields& flight) {
    using namespace std::chrono;
    const double started = flight.seconds("started");
    const double now = duration<double>(system_clock::now().time_since_epoch()).count();
    const auto age = milliseconds(static_cast<std::int64_t>(started > 0 ? (now - started) * 1000 : 0));
    const auto usually = usually_in(flight);
    table.add({flight.text("id").substr(0, id_columns), flight.text("state"), format_duration(age),
               usually ? format_duration(usually->time) : "-", left_of(flight, age, usually),
               std::to_string(flight.number("requesters")),
               format_size(static_cast<std::uint64_t>(flight.number("output"))),
               flight.number("pid") > 0 ? std::to_string(flight.number("pid")) : flight.text("host"),
               flight.text("command")});
}

std::string variable(const char* name) {
    const char* const value = std::getenv(name);
    return value == nullptr ? "" : value;
}

// A server's answer: the one told of, or in the variable, or in a meeting place.
Result<std::string> ask_some_server(const TypedQuestion& orders, const std::string& line) {
    if (!orders.socket.empty()) return ask_server(orders.socket, line);
    if (const std::string named = variable("COALESCE_SOCKET"); !named.empty()) return ask_server(named, line);
    const auto places = own_meeting_places(orders.place);
    if (!places) return places.error();
    std::optional<Result<std::string>> answer;
    for (const MeetingPlace* place : places.value().all())
        if (!answer || !*answer) answer = ask_server(place->server_socket(), line);
    return std::move(*answer);
}

// What a server says instead of an answer.
struct Refusal {
    std::string code;
    std::string message;
};

std::optional<Refusal> refusal_in(const std::string& answer) {
    const auto fields = Fields::parse(answer);
    if (fields && !fields->has("error")) return std::nullopt;
    const auto error = fields ? Fields::parse(fields->raw("error")) : std::nullopt;
    if (!error) return Refusal{{}, "the server's answer is not understood"};
    return Refusal{error->text("code"), error->text("message")};
}

// An error where the server was named. One that is only looked for keeps nobody from what the wrappers tell.
int tell(const Refusal& refusal, const TypedQuestion& orders) {
    const int status = fail(refusal.message);
    return orders.socket.empty() && variable("COALESCE_SOCKET").empty() ? 0 : status;
}

// What machines share now.
int print_runs_at_engine(const TypedQuestion& orders) {
    const auto circle = circle_at(orders.engine);
    if (!circle) return fail(circle.error().message());
    const auto loop = std::make_unique<Loop>();
    const auto runs = live_runs(*loop, *circle.value());
    if (!runs) return fail("cannot " + runs.error().message());
    using enum Table::Side;
    Table table{{"ID", left}, {"STATE", left}, {"AGE"}, {"MACHINES"}, {"HOST", left}, {"COMMAND"}};
    std::string lines;
    for (const LiveRun& run : runs.value()) {
        const char* const state = run.ending ? "ending" : "running";
        if (orders.json)
            lines += Message()
                         .text("id", run.name)
                         .text("key", run.key)
                         .text("state", state)
                         .seconds("age", run.age)
                         .number("machines", static_cast<std::int64_t>(run.machines))
                         .text("host", run.info.host)
                         .text("command", run.info.title)
                         .line();
        else
            table.add({run.name.substr(0, id_columns), state, format_duration(run.age), std::to_string(run.machines),
                       visible(run.info.host), visible(run.info.title)});
    }
    std::fputs(orders.json ? lines.c_str() : table.text().c_str(), stdout);
    return flush_output();
}

int print_status(const TypedQuestion& orders) {
    if (!orders.engine.empty()) return print_runs_at_engine(orders);
    const std::string question = Message().text("op", "status").line();
    using enum Table::Side;
    Table table{{"ID", left},   {"STATE", left}, {"AGE"}, {"USUALLY"}, {"LEFT"},
                {"REQUESTERS"}, {"OUTPUT"},      {"PID"}, {"COMMAND"}};
    std::string lines;
    const auto add_flights = [&](const std::string& answer) {
        const auto status = Fields::parse(answer);
        for (const std::string_view flight : flights_of(status)) {
            if (orders.json)
                lines.append(flight).append("\n");
            else if (const auto fields = Fields::parse(flight))
                add_flight(table, *fields);
        }
    };
    if (orders.socket.empty()) {
        const auto places = own_meeting_places(orders.place);
        if (!places) return fail("cannot " + places.error().message());
        for (const MeetingPlace* place : places.value().all())
            for (const std::string& key : place->keys())
                if (const auto answer = ask_flight(place->connect(key), question)) add_flights(*answer);
    }
    const auto answer = ask_some_server(orders, question);
    if (!answer && !orders.socket.empty()) return fail("cannot " + answer.error().message());
    if (const auto refusal = answer ? refusal_in(answer.value()) : std::nullopt) {
        if (const int status = tell(*refusal, orders); status != 0) return status;
    } else if (answer) {
        add_flights(answer.value());
    }
    std::fputs(orders.json ? lines.c_str() : table.text().c_str(), stdout);
    return flush_output();
}

// Returns why not; nothing when it is done. Wrappers' flights first, then the server's.
std::string cancel_flight(const TypedQuestion& orders, const std::string& id) {
    struct Found {
        const MeetingPlace* place;
        std::string key;  // whose supervisor is to be told
        std::string id;
    };
    const std::string question = Message().text("op", "status").line();
    const auto cancelling = [](const std::string& whole) {
        return Message().text("op", "cancel").text("flight", whole).line();
    };
    if (orders.socket.empty()) {
        const auto places = own_meeting_places(orders.place);
        if (!places) return "cannot " + places.error().message();
        std::vector<Found> found;
        for (const MeetingPlace* place : places.value().all())
            for (const std::string& key : id.empty() ? std::vector<std::string>() : place->keys()) {
                const auto answer = ask_flight(place->connect(key), question);
                if (!answer) continue;
                for (std::string& whole : ids_beginning_with(id, *answer))
                    found.push_back({place, key, std::move(whole)});
            }
        const auto of_server = found.size() == 1 ? ask_some_server(orders, question) : Result<std::string>("");
        if (found.size() > 1 || (of_server && !ids_beginning_with(id, of_server.value()).empty()))
            return "more than one flight's id begins with '" + id + "'";
        if (found.size() == 1) {
            const Found& flight = found.front();
            const auto answer = ask_flight(flight.place->connect(flight.key), cancelling(flight.id));
            if (const auto fields = answer ? Fields::parse(*answer) : std::nullopt; fields && !fields->has("error"))
                return {};
        }
    }
    auto answer = ask_some_server(orders, cancelling(id));
    if (!answer)
        return orders.socket.empty() ? "there is no flight '" + id + "'" : "cannot " + answer.error().message();
    const auto refusal = refusal_in(*answer);
    if (!refusal) return {};
    return refusal->code == "no_such_flight" ? "there is no flight '" + id + "'" : refusal->message;
}

double seconds_of(const std::optional<Savings>& wrappers) {
    return wrappers ? std::chrono::duration<double>(wrappers->time).count() : 0;
}

// " in 3d 4h": since the first was counted.
std::string time_counted(const Savings& savings) {
    if (savings.since == 0) return "";
    return " in " + as_duration(std::max(0.0, std::difftime(std::time(nullptr), savings.since)));
}

// Nothing where there is no store.
std::optional<Savings> savings_of_store(const TypedQuestion& orders) {
    auto place = own_store_place(orders.cache_directory, orders.ruled.rules);
    if (!place) return std::nullopt;
    const auto store = KeptStore::open(std::move(*place), false);
    if (!store || !store.value()) return std::nullopt;
    return read_savings(store.value()->directory());
}

// What both have first; then each by itself. `server` is empty where there is none.
void print_stats(const std::optional<Savings>& wrappers, const std::optional<Savings>& kept,
                 const std::optional<Fields>& server) {
    const auto of_server = [&](const char* name) { return server ? static_cast<long long>(server->number(name)) : 0; };
    const long long joins_of_wrappers = wrappers ? static_cast<long long>(wrappers->joins) : 0;
    const double saved_by_server = server ? server->seconds("saved") : 0;
    std::printf("%-9s %lld\n", "joins", joins_of_wrappers + of_server("joins"));
    std::printf("%-9s %s\n", "saved", as_duration(seconds_of(wrappers) + saved_by_server).c_str());
    if (wrappers)
        std::printf("%-9s %lld joins of %lld shared runs, %s saved%s\n", "wrappers", joins_of_wrappers,
                    static_cast<long long>(wrappers->runs), as_duration(seconds_of(wrappers)).c_str(),
                    time_counted(*wrappers).c_str());
    if (kept)
        std::printf("%-9s %lld hits, %lld refreshes, %s saved%s\n", "kept", static_cast<long long>(kept->joins),
                    static_cast<long long>(kept->runs), as_duration(seconds_of(kept)).c_str(),
                    time_counted(*kept).c_str());
    if (server)
        std::printf(
            "%-9s %lld joins, %lld requests, %lld runs (%lld failed, %lld timed out), %s saved; now %lld running, %lld "
            "queued, %lld waiting, %lld clients\n",
            "server", of_server("joins"), of_server("requests"), of_server("runs"), of_server("failures"),
            of_server("timeouts"), as_duration(saved_by_server).c_str(), of_server("running"), of_server("queued"),
            of_server("waiting"), of_server("clients"));
}

void print_stats_as_json(const std::optional<Savings>& wrappers, const std::optional<Savings>& kept,
                         const std::string& answer, const std::optional<Fields>& server) {
    Message message;
    message
        .number("joins",
                static_cast<std::int64_t>(wrappers ? wrappers->joins : 0) + (server ? server->number("joins") : 0))
        .seconds("saved", seconds_of(wrappers) + (server ? server->seconds("saved") : 0));
    if (wrappers)
        message.raw("wrappers", Message()
                                    .number("runs", static_cast<std::int64_t>(wrappers->runs))
                                    .number("joins", static_cast<std::int64_t>(wrappers->joins))
                                    .seconds("saved", seconds_of(wrappers))
                                    .number("since", wrappers->since)
                                    .object());
    if (kept)
        message.raw("kept", Message()
                                .number("hits", static_cast<std::int64_t>(kept->joins))
                                .number("refreshes", static_cast<std::int64_t>(kept->runs))
                                .seconds("saved", seconds_of(kept))
                                .number("since", kept->since)
                                .object());
    if (server) message.raw("server", answer);
    std::fputs(message.line().c_str(), stdout);
}

}  // namespace

int key_command(int argc, char** argv) {
    TypedCommand typed;
    if (const auto status = read_key(argc, argv, typed)) return *status;
    const std::vector<Setting> by_rules = typed.ruled.applying;
    const auto wrapped = wrapped_command("key", std::move(typed));
    if (const int* status = std::get_if<int>(&wrapped)) return *status;
    const auto& orders = std::get<RunOptions>(wrapped).orders;
    const auto parts = explain(orders.canonical_surroundings, orders.canonical_words);
    std::printf("%s\n", orders.key.c_str());
    NearMisses found;
    if (orders.circle) add_runs_elsewhere(found, orders);
    if (const auto places = own_meeting_places(std::get<RunOptions>(wrapped).place))
        for (const MeetingPlace* place : places.value().all()) add_near_misses(found, *place, orders.key, parts);
    print_parts(parts, found.names);
    for (const Setting& setting : by_rules)
        std::printf("rule\t%s\t%s\n", visible(text_of(setting)).c_str(), setting.origin.text().c_str());
    std::fputs((kept_lines(orders) + found.lines).c_str(), stdout);
    return flush_output();
}

int status_command(int argc, char** argv) {
    TypedQuestion orders;
    if (const auto status = read_status(argc, argv, orders)) return *status;
    while (true) {
        if (orders.watch && ::isatty(STDOUT_FILENO) != 0) std::fputs("\033[H\033[J", stdout);
        if (const int status = print_status(orders); status != 0 || !orders.watch) return status;
        ::poll(nullptr, 0, 1000);
        if (::isatty(STDOUT_FILENO) == 0 && !orders.json) std::fputc('\n', stdout);
    }
}

int cancel_command(int argc, char** argv) {
    TypedQuestion orders;
    if (const auto status = read_cancel(argc, argv, orders)) return *status;
    if (orders.ids.empty()) return fail("which flight? coalesce status lists them");
    int worst = 0;
    if (!orders.engine.empty()) {
        const auto circle = circle_at(orders.engine);
        if (!circle) return fail(circle.error().message());
        const auto loop = std::make_unique<Loop>();
        for (const std::string& id : orders.ids)
            if (const auto cancelled = cancel_run(*loop, *circle.value(), id); !cancelled)
                worst = fail(cancelled.error().message());
        return worst;
    }
    for (const std::string& id : orders.ids)
        if (const auto refused = cancel_flight(orders, id); !refused.empty()) worst = fail(refused);
    return worst;
}

int stats_command(int argc, char** argv) {
    TypedQuestion orders;
    if (const auto status = read_stats(argc, argv, orders)) return *status;
    if (orders.json && orders.openmetrics) return misuse("stats", "--openmetrics: not with --json");
    std::optional<Savings> wrappers;
    if (orders.socket.empty()) {
        const auto places = own_meeting_places(orders.place);
        if (!places) return fail("cannot " + places.error().message());
        wrappers.emplace();
        for (const MeetingPlace* place : places.value().all()) *wrappers += read_savings(place->directory());
    }
    const std::optional<Savings> kept = orders.socket.empty() ? savings_of_store(orders) : std::nullopt;
    auto answer = ask_some_server(orders, Message().text("op", "stats").line());
    if (!answer && !wrappers) return fail("cannot " + answer.error().message());
    std::optional<Fields> server;
    if (const auto refusal = answer ? refusal_in(*answer) : std::nullopt) {
        if (const int status = tell(*refusal, orders); status != 0) return status;
    } else if (answer) {
        server = Fields::parse(*answer);
    }
    if (orders.openmetrics)
        std::fputs(openmetrics(wrappers, kept, server).c_str(), stdout);
    else if (orders.json)
        print_stats_as_json(wrappers, kept, server ? *answer : std::string(), server);
    else
        print_stats(wrappers, kept, server);
    return flush_output();
}

}  // namespace coalesce
