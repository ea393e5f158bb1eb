// SPDX-License-Identifier: MIT
#include <coalesce/meeting/refresh_orders.h>

#include <utility>

#include <coalesce/command/ancestry.h>
#include <coalesce/engine/key_hash.h>
#include <coalesce/meeting/members.h>
#include <coalesce/protocol/message.h>

namespace coalesce {
namespace {

// Our own environment is the program's, and what only keys are made of has gone into the key. What is wished of which
// store goes as "kept".
template <class Members, class Orders, class Inherited, class Bytes, class Setting>
void name_members(Members&& members, Orders& orders, Inherited& inherited, Bytes& canonical, Setting& setting) {
    auto& [command, line, title, surroundings, words, timeout, grace, run_class, store, wish] = orders;
    auto& [argv, command_surroundings, stdin_bytes] = command;
    auto& [cwd, env, umask, directory, identity, terminal] = inherited;
    auto& [own_env, place, engine, class_jobs, replay_bytes, spool_directory, remembers] = setting;
    members("argv", argv);
    members("stdin", stdin_bytes);
    members("env", env);
    members("cwd", cwd);
    members("umask", umask);
    members("terminal", terminal);
    members("line", line);
    members("title", title);
    members("surroundings", canonical);
    members("words", words);
    members("timeout", timeout);
    members("grace", grace);
    members("class", run_class);
    members("place", place);
    members("engine", engine);
    members("class_jobs", class_jobs);
    members("replay_limit", replay_bytes);
    members("spool_dir", spool_directory);
    members("remembers", remembers);
}

}  // namespace

RefreshProgram refresh_program(const RefreshOrders& orders, const RefreshSetting& setting) {
    Message message;
    name_members(MemberWriter(message), orders, *orders.command.surroundings, orders.surroundings->bytes, setting);
    add_kept_orders(message, {.place = orders.place, .wish = orders.wish});
    return {.argv = {"coalesce", refresh_subcommand},
            .env = setting.env,
            .path = "/proc/self/exe",
            .orders = message.line()};
}

Result<RefreshTask> refresh_task(std::string_view text) {
    const auto fields = Fields::parse(text);
    const auto kept = fields ? kept_orders_in(*fields) : std::nullopt;
    if (!kept) return Error{{}, "read what is to be refreshed"};
    RefreshOrders told;
    RefreshSetting setting;
    auto surroundings = std::make_shared<Surroundings>();
    std::string canonical;
    name_members(MemberReader(*fields), told, *surroundings, canonical, setting);
    RefreshTask task{.orders = {},
                     .place = std::move(setting.place),
                     .engine = has_cluster_scope(canonical) ? std::move(setting.engine) : std::string()};
    FlightOrders& orders = task.orders;
    orders.command = std::move(told.command);
    orders.line = std::move(told.line);
    orders.title = std::move(told.title);
    orders.directory = surroundings->cwd;
    const CanonicalSurroundings key_surroundings(canonical);
    orders.key = key_hash({&key_surroundings, told.words});
    orders.canonical_surroundings = std::move(canonical);
    orders.canonical_words = std::move(told.words);
    orders.limits = {.timeout = told.timeout, .grace = told.grace, .run_class = std::move(told.run_class)};
    orders.class_jobs = std::move(setting.class_jobs);
    orders.replay_bytes = setting.replay_bytes;
    orders.spool_directory = std::move(setting.spool_directory);
    orders.remembers = setting.remembers;
    orders.ancestry = ancestry_in(surroundings->env);
    enter_flight(surroundings->env, orders.key);
    orders.command.surroundings = std::move(surroundings);
    orders.program = program_of(orders.command, orders.directory);
    orders.kept = kept;
    orders.kept->refresh = true;
    return task;
}

}  // namespace coalesce
