// SPDX-License-Identifier: MIT
#include "wrapped_command.h"

#include <coalesce/command/ancestry.h>
#include <coalesce/command/title.h>
#include <coalesce/engine/key_hash.h>

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "complain.h"

namespace coalesce {
namespace {

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

}  // namespace

std::variant<RunOptions, int> wrapped_command(std::string_view subcommand, TypedCommand typed) {
    if (typed.line && !typed.words.empty())
        return misuse(subcommand, "-c LINE takes no command besides; there is '" + typed.words.front() + "'");
    if (!typed.line && typed.words.empty()) return misuse(subcommand, "no command given");

    RunOptions run = std::move(typed.run);
    FlightOrders& orders = run.orders;
    auto own = own_surroundings();
    if (!own) return fail("cannot " + own.error().message());
    auto surroundings = std::make_shared<Surroundings>(std::move(*own));
    orders.command.argv = typed.line ? std::vector<std::string>{"/bin/sh", "-c", *typed.line} : std::move(typed.words);
    orders.line = typed.line;
    orders.title = typed.line ? title(*typed.line) : title(orders.command.argv);
    if (typed.standard_input) {
        auto bytes = read_to_end(STDIN_FILENO);
        if (!bytes) return fail("cannot " + bytes.error().message());
        if (!bytes->empty())  // else it gets /dev/null, which has as many bytes
            orders.command.stdin_bytes = std::move(*bytes);
    }
    if (!run.socket.empty()) {  // the server decides what is the same
        orders.command.surroundings = std::move(surroundings);
        return run;
    }
    surroundings->identity = own_identity();  // the supervisor will be our child
    orders.canonical_surroundings = canonical_surroundings(*surroundings, run.rules);
    orders.canonical_words = canonical_words(orders.command.argv, orders.command.stdin_bytes, run.rules);
    if (run.rules.no_share) append_unshared(orders.canonical_words);
    const CanonicalSurroundings canonical(orders.canonical_surroundings);
    orders.key = key_hash({&canonical, orders.canonical_words});
    orders.ancestry = ancestry_in(surroundings->env);
    enter_flight(surroundings->env, orders.key);
    surroundings->cwd.clear();  // it is where we are: nothing to enter
    orders.command.surroundings = std::move(surroundings);
    return run;
}

}  // namespace coalesce
