// SPDX-License-Identifier: MIT
#include "wrapped_command.h"

#include <coalesce/command/shell_line.h>
#include <coalesce/command/title.h>
#include <coalesce/io/boot_time.h>
#include <coalesce/kept/kept_flight.h>
#include <coalesce/kept/store_place.h>
#include <coalesce/meeting/identify.h>
#include <coalesce/meeting/refresh_orders.h>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cluster_terms.h"
#include "complain.h"

namespace coalesce {
namespace {

// What the command depends on, as it is now, and as a part of the key; the list is read once.
Result<TreeState> state_of(TypedCommand& typed, KeyRules& rules) {
    if (!typed.depends_from.empty()) {
        const Descriptor list(typed.depends_from == "-" ? ::dup(STDIN_FILENO)
                                                        : ::open(typed.depends_from.c_str(), O_RDONLY | O_CLOEXEC));
        if (!list) return system_error_now("open " + typed.depends_from);
        auto text = read_to_end(list.get());
        if (!text) return text.error();
        const std::vector<Dependency> listed = listed_dependencies(*text);
        if (listed.empty()) rules.states.emplace_back("depends-from", "nothing");
        typed.dependencies.insert(typed.dependencies.end(), listed.begin(), listed.end());
    }
    auto state = TreeState::take(typed.dependencies);
    if (state)
        for (const TreeState::Part& part : state->parts())
            rules.states.emplace_back(part.name, hexadecimal(part.digest));
    return state;
}

// A server cannot look at the files; their states are part of its key all the same (SPEC T9).
void add_states_to_scope(KeyRules& rules) {
    for (const auto& [what, digest] : rules.states) rules.scope.append("\n").append(what).append(" ").append(digest);
}

// The server decides what is the same, and keeps, but could not look at states again (SPEC T10). Returned: the status
// of a misuse.
std::optional<int> leave_to_server(std::string_view subcommand, RunOptions& run, const Wish& wish) {
    run.wish = wish;
    if (!run.rules.states.empty() && wish.keeps()) {
        if (wish.warm) return misuse(subcommand, "--warm: a server keeps nothing that depends on files");
        if (run.verbose) fail("not kept: a server keeps nothing that depends on files");
        run.wish = {.max_age = wish.max_age, .fresh = wish.fresh};
    }
    add_states_to_scope(run.rules);
    return std::nullopt;
}

}  // namespace

Result<std::string> read_to_end(int fd) {
    std::string bytes;
    char block[16384];  // on the stack, which may be small
    while (true) {
        const ssize_t got = ::read(fd, block, sizeof block);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0 && errno == EAGAIN) {  // somebody made it non-blocking, and the writer is late
            pollfd ready{.fd = fd, .events = POLLIN, .revents = 0};
            ::poll(&ready, 1, -1);
            continue;
        }
        if (got < 0) return system_error_now("read standard input");
        if (got == 0) return bytes;
        bytes.append(block, static_cast<std::size_t>(got));
    }
}

MakeRefreshProgram own_refresh_program(std::string place, std::string engine, const ExecutorOptions& options,
                                       bool remembers) {
    auto own = own_surroundings();
    if (!own) return {};
    RefreshSetting setting{.env = std::move(own->env),
                           .place = std::move(place),
                           .engine = std::move(engine),
                           .class_jobs = options.class_jobs,
                           .replay_bytes = options.spool.replay_bytes,
                           .spool_directory = options.spool.store.directory,
                           .remembers = remembers};
    return [setting = std::move(setting)](const RefreshOrders& orders) { return refresh_program(orders, setting); };
}

Result<MeetingPlaces> own_meeting_places(const std::string& named) {
    auto own = own_surroundings();
    if (!own) return own.error();
    return MeetingPlaces::open(own->env, named);
}

Result<MeetingPlace> own_place_of_classes(const std::string& named) {
    auto places = own_meeting_places(named);
    return places ? places->for_classes() : places.error();
}

Result<StorePlace> own_store_place(const std::string& named, const Rules& rules) {
    auto own = own_surroundings();
    if (!own) return own.error();
    StorePlace place = store_place(named, own->env, namespaces_in(own_identity()));
    place.bounds = store_bounds(rules);
    return place;
}

std::variant<RunOptions, int> wrapped_command(std::string_view subcommand, TypedCommand typed) {
    if (typed.line && !typed.words.empty())
        return misuse(subcommand, "-c LINE takes no command besides; there is '" + typed.words.front() + "'");
    if (!typed.line && typed.words.empty()) return misuse(subcommand, "no command given");

    RunOptions run = std::move(typed.run);
    FlightOrders& orders = run.orders;
    auto own = own_surroundings();
    if (!own) return fail("cannot " + own.error().message());
    auto surroundings = std::make_shared<Surroundings>(std::move(*own));
    if (const auto terminal = terminal_of(typed.terminal)) give_terminal(*surroundings, *terminal);
    orders.command.argv = typed.line ? argv_of_line("/bin/sh", *typed.line) : std::move(typed.words);
    orders.line = typed.line;
    orders.title = typed.line ? title(*typed.line) : title(orders.command.argv);
    if (typed.standard_input) {
        if (typed.depends_from == "-")
            return misuse(subcommand, "--stdin and --depends-from - would both read standard input");
        auto bytes = read_to_end(STDIN_FILENO);
        if (!bytes) return fail("cannot " + bytes.error().message());
        if (!bytes->empty())  // else it gets /dev/null, which has as many bytes
            orders.command.stdin_bytes = std::move(*bytes);
    }
    typed.wish.fresh = run.fresh;
    if (auto checked = check(typed.wish); !checked) return misuse(subcommand, checked.error().message());
    if (run.rules.no_share) typed.wish = {};  // nor with who comes later
    auto state = state_of(typed, run.rules);
    if (!state) return fail("cannot " + state.error().message());
    if (wants_to_share(typed.sharing)) {
        auto terms = run.socket.empty() ? cluster_terms(typed.sharing, run.rules.no_share)
                                        : terms_for_server(typed.sharing, run.rules.no_share);
        if (!terms) return misuse(subcommand, terms.error().message());
        if (run.verbose && !terms->stays_here.empty()) fail(terms->stays_here);
        orders.circle = std::move(terms->circle);
        if (orders.circle) orders.asked = since_boot();
        run.rules.cluster = std::move(terms->rules);
    }
    if (!run.socket.empty()) {
        if (const auto status = leave_to_server(subcommand, run, typed.wish)) return *status;
        orders.command.surroundings = std::move(surroundings);
        return run;
    }
    identify(orders, std::move(surroundings), run.rules);
    if (typed.wish.anything() || subcommand != "run") {
        const Surroundings& own_now = *orders.command.surroundings;
        orders.program = program_of(orders.command, orders.directory);
        orders.kept =
            KeptOrders{.place = store_place(typed.cache_directory, own_now.env, namespaces_in(own_now.identity)),
                       .wish = typed.wish};
        orders.kept->place.bounds = store_bounds(typed.ruled.rules);
    }
    orders.class_jobs = class_jobs_of(typed.ruled.rules);
    orders.remembers = remembers(typed.ruled.rules);
    orders.dependencies = std::move(typed.dependencies);
    orders.state = std::move(*state);
    return run;
}

}  // namespace coalesce
