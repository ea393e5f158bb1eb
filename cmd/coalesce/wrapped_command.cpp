// SPDX-License-Identifier: MIT
#include "wrapped_command.h"

#include <coalesce/command/duration.h>
#include <coalesce/command/size.h>
#include <coalesce/command/title.h>
#include <coalesce/engine/key_hash.h>

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <vector>

#include "parse.h"

namespace coalesce {
namespace {

struct Typed {
    std::optional<std::string> line;
    bool standard_input = false;
};

Result<std::chrono::milliseconds> duration_of(std::string_view name, const char* value) {
    auto parsed = parse_duration(value);
    if (!parsed) return Error{{}, std::string(name) + ": " + parsed.error().message()};
    return *parsed;
}

Result<> take(std::string_view name, const char* value, WrappedCommand& command, Typed& typed) {
    RunOptions& run = command.run;
    if (name == "--command") {
        typed.line = value;
    } else if (name == "--stdin") {
        typed.standard_input = true;
    } else if (name == "--scope") {
        command.run.rules.scope = value;
    } else if (name == "--key") {
        if (*value == '\0') return empty_key();
        command.run.rules.key = value;
    } else if (name == "--ignore-env") {
        command.run.rules.ignore_env.emplace_back(value);
    } else if (name == "--only-env") {
        command.run.rules.only_env = split_list(value);
    } else if (name == "--ignore-cwd") {
        command.run.rules.ignore_cwd = true;
    } else if (name == "--fresh") {
        run.fresh = true;
    } else if (name == "--keep-running") {
        run.orders.keep_running = true;
    } else if (name == "--verbose") {
        run.verbose = run.orders.verbose = true;
    } else if (name == "--socket") {
        run.socket = value;
    } else if (name == "--spool-dir") {
        run.orders.spool_directory = value;
    } else if (name == "--replay-limit") {
        auto size = parse_size(value);
        if (!size) return Error{{}, "--replay-limit: " + size.error().message()};
        run.orders.replay_bytes = *size;
    } else {
        auto duration = duration_of(name, value);
        if (!duration) return duration.error();
        if (name == "--timeout" && duration->count() > 0)
            run.orders.timeout = *duration;  // 0: none, as with timeout(1)
        if (name == "--wait") run.wait = *duration;
        if (name == "--grace") {
            run.orders.grace = *duration;
            run.own_grace = true;
        }
    }
    return {};
}

Result<std::string> read_to_end(int fd) {
    std::string bytes;
    char block[65536];
    while (true) {
        const ssize_t got = ::read(fd, block, sizeof block);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return system_error_now("read standard input");
        if (got == 0) return bytes;
        bytes.append(block, static_cast<std::size_t>(got));
    }
}

// The flights this process runs under, the nearest last: "KEY:KEY".
std::string ancestry_of(const std::vector<std::string>& env) {
    return std::string(env_value(env, kAncestryVariable).value_or(""));
}

}  // namespace

std::variant<WrappedCommand, int> read_wrapped_command(const CommandText& text, int argc, char** argv) {
    WrappedCommand wrapped;
    Typed typed;
    int first = 0;
    const auto take_option = [&](std::string_view name, const char* value) {
        return take(name, value, wrapped, typed);
    };
    if (const auto status = parse(text, argc, argv, take_option, first)) return *status;
    FlightOrders& orders = wrapped.run.orders;
    const std::vector<std::string> words(argv + first, argv + argc);
    if (typed.line && !words.empty())
        return misuse(text, "-c LINE takes no command besides; there is '" + words.front() + "'");
    if (!typed.line && words.empty()) return misuse(text, "no command given");

    auto own = own_surroundings();
    if (!own) return fail("cannot " + own.error().message());
    auto surroundings = std::make_shared<Surroundings>(std::move(*own));
    orders.command.argv = typed.line ? std::vector<std::string>{"/bin/sh", "-c", *typed.line} : words;
    orders.line = typed.line;
    orders.title = typed.line ? title(*typed.line) : title(words);
    if (typed.standard_input) {
        auto bytes = read_to_end(STDIN_FILENO);
        if (!bytes) return fail("cannot " + bytes.error().message());
        orders.command.stdin_bytes = std::move(*bytes);
    }
    if (wrapped.run.socket.empty())
        wrapped.run.socket = std::string(env_value(surroundings->env, "COALESCE_SOCKET").value_or(""));
    if (&text == &run_text && !wrapped.run.socket.empty()) {  // the server decides what is the same
        orders.command.surroundings = std::move(surroundings);
        return wrapped;
    }
    orders.canonical_surroundings = canonical_surroundings(*surroundings, wrapped.run.rules);
    orders.canonical_words = canonical_words(orders.command.argv, orders.command.stdin_bytes, wrapped.run.rules);
    const CanonicalSurroundings canonical(orders.canonical_surroundings);
    orders.key = key_hash({&canonical, orders.canonical_words});
    const std::string ancestry = ancestry_of(surroundings->env);
    orders.on_behalf_of = ancestry.substr(ancestry.rfind(':') + 1);
    set_env(surroundings->env, kAncestryVariable, ancestry.empty() ? orders.key : ancestry + ":" + orders.key);
    surroundings->cwd.clear();  // it is where we are: nothing to enter
    orders.command.surroundings = std::move(surroundings);
    return wrapped;
}

}  // namespace coalesce
