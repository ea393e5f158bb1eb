// SPDX-License-Identifier: MIT
#include <coalesce/meeting/request_lines.h>

#include <coalesce/command/ancestry.h>
#include <coalesce/meeting/kept_answer.h>
#include <coalesce/protocol/message.h>
#include <coalesce/protocol/request_line.h>

namespace coalesce {

std::string joining_line(const RunOptions& options, const JoinTerms& terms) {
    const FlightOrders& orders = options.orders;
    Message message;
    message.text("op", "join")
        .flag("fresh", options.fresh)
        .flag("keep_running", orders.keep_running)
        .flag("quiet", terms.quiet)
        .flag("heir", orders.heir);
    add_run_limits(message, orders.limits);
    if (orders.kept) add_kept_orders(message, *orders.kept);
    if (terms.knows_ancestry) message.text("on_behalf_of", std::string(nearest_flight(orders.ancestry)));
    return message.line();
}

std::string server_request(const RunOptions& options, bool quiet) {
    const FlightOrders& orders = options.orders;
    Request request;
    request.line = orders.line;
    if (!orders.line) request.argv = orders.command.argv;
    request.cwd = orders.command.surroundings->cwd;
    request.env = orders.command.surroundings->env;
    request.umask = orders.command.surroundings->umask;
    request.terminal = orders.command.surroundings->terminal;
    request.run_class = orders.limits.run_class;
    request.stdin_bytes = orders.command.stdin_bytes;
    request.key = options.rules.key;
    request.scope = options.rules.scope;
    if (options.rules.cluster) {
        request.cluster_scope = options.rules.cluster->scope;
        request.ignore_platform = options.rules.cluster->platform.empty();
    }
    request.ignore_env = options.rules.ignore_env;
    request.only_env = options.rules.only_env;
    request.ignore_cwd = options.rules.ignore_cwd;
    request.ignore_namespaces = options.rules.ignore_namespaces;
    request.no_share = options.rules.no_share;
    request.fresh = options.fresh;
    request.wish = options.wish;
    request.timeout = orders.limits.timeout;
    if (options.own_grace) request.grace = orders.limits.grace;
    request.keep_running = orders.keep_running;
    request.output = Request::Output::fd;
    request.quiet = quiet;
    return request_line(request);
}

}  // namespace coalesce
