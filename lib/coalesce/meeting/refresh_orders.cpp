// SPDX-License-Identifier: MIT
#include <coalesce/meeting/refresh_orders.h>

#include <utility>

#include <coalesce/command/ancestry.h>
#include <coalesce/engine/key_hash.h>
#include <coalesce/protocol/base64.h>
#include <coalesce/protocol/message.h>

namespace coalesce {
namespace {

using std::chrono::milliseconds;

std::vector<std::string> words_of(const Fields& fields, std::string_view name) {
    std::vector<std::string> words;
    const std::string encoded = std::string(name) + std::string(base64_ending);
    for (const std::string_view element : json_elements(fields.raw(name))) words.push_back(json_string_value(element));
    for (const std::string_view element : json_elements(fields.raw(encoded)))
        words.push_back(from_base64(json_string_value(element)).value_or(""));
    return words;
}

}  // namespace

RefreshProgram refresh_program(const RefreshOrders& orders, const RefreshSetting& setting) {
    const Command& command = orders.command;
    Message message;
    message.bytes("argv", command.argv)
        .bytes("env", command.surroundings->env)
        .bytes("cwd", command.surroundings->cwd)
        .number("umask", command.surroundings->umask)
        .bytes("title", orders.title)
        .bytes("surroundings", orders.surroundings->bytes)
        .bytes("words", orders.words)
        .bytes("place", setting.place)
        .number("grace", orders.grace.count());
    if (command.stdin_bytes) message.bytes("stdin", *command.stdin_bytes);
    if (orders.line) message.bytes("line", *orders.line);
    if (orders.timeout) message.number("timeout", orders.timeout->count());
    if (has_cluster_scope(orders.surroundings->bytes)) message.bytes("engine", setting.engine);
    add_kept_orders(message, {.place = orders.place, .wish = orders.wish, .refresh = true});
    return {.argv = {"coalesce", refresh_subcommand},
            .env = setting.env,
            .path = "/proc/self/exe",
            .orders = message.line()};
}

Result<RefreshTask> refresh_task(std::string_view text) {
    const auto fields = Fields::parse(text);
    const auto kept = fields ? kept_orders_in(*fields) : std::nullopt;
    if (!kept) return Error{{}, "read what is to be refreshed"};
    RefreshTask task{
        .orders = {}, .place = fields->bytes("place").value_or(""), .engine = fields->bytes("engine").value_or("")};
    FlightOrders& orders = task.orders;
    auto surroundings = std::make_shared<Surroundings>();
    surroundings->env = words_of(*fields, "env");
    surroundings->cwd = fields->bytes("cwd").value_or("");
    surroundings->umask = static_cast<mode_t>(fields->number("umask"));
    orders.command.argv = words_of(*fields, "argv");
    orders.command.stdin_bytes = fields->bytes("stdin");
    orders.line = fields->bytes("line");
    orders.title = fields->bytes("title").value_or("");
    orders.directory = surroundings->cwd;
    orders.canonical_surroundings = fields->bytes("surroundings").value_or("");
    orders.canonical_words = fields->bytes("words").value_or("");
    orders.grace = milliseconds(fields->number("grace"));
    if (fields->has("timeout")) orders.timeout = milliseconds(fields->number("timeout"));
    const CanonicalSurroundings canonical(orders.canonical_surroundings);
    orders.key = key_hash({&canonical, orders.canonical_words});
    orders.ancestry = ancestry_in(surroundings->env);
    enter_flight(surroundings->env, orders.key);
    orders.command.surroundings = std::move(surroundings);
    orders.program = program_of(orders.command, orders.directory);
    orders.kept = kept;
    return task;
}

}  // namespace coalesce
