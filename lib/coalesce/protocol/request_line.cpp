// SPDX-License-Identifier: MIT
#include <coalesce/protocol/request_line.h>

#include <chrono>
#include <string_view>

#include <coalesce/protocol/json_text.h>
#include <coalesce/protocol/message.h>

namespace coalesce {
namespace {

std::string_view name_of(Request::Output output) {
    switch (output) {
        case Request::Output::whole:
            return "whole";
        case Request::Output::stream:
            return "stream";
        case Request::Output::fd:
            return "fd";
        case Request::Output::none:
            break;
    }
    return "none";
}

// Names and values that are no text have no place in an object.
std::string changes_object(const Request& request) {
    Message changes;
    for (const auto& [name, value] : request.env_changes) {
        std::string quoted;
        append_json_string(quoted, name);
        const std::string_view inside = std::string_view(quoted).substr(1, quoted.size() - 2);
        if (value)
            changes.text(inside, *value);
        else
            changes.raw(inside, "null");
    }
    return changes.object();
}

}  // namespace

std::string request_line(const Request& request) {
    const auto seconds = [](std::chrono::milliseconds time) { return std::chrono::duration<double>(time).count(); };
    Message message;
    if (!request.id.empty()) message.raw("id", request.id);
    if (!request.op.empty()) message.text("op", request.op);
    if (!request.argv.empty()) message.bytes("argv", request.argv);
    if (request.line) message.bytes("line", *request.line);
    if (request.cwd) message.bytes("cwd", *request.cwd);
    if (!request.env_changes.empty()) message.raw("env", changes_object(request));
    if (request.env) message.bytes("env", *request.env);
    if (request.stdin_bytes) message.bytes("stdin", *request.stdin_bytes);
    if (request.key) message.bytes("key", *request.key);
    if (!request.scope.empty()) message.bytes("scope", request.scope);
    if (!request.cluster_scope.empty()) message.bytes("cluster_scope", request.cluster_scope);
    if (!request.ignore_env.empty()) message.bytes("ignore_env", request.ignore_env);
    if (request.only_env) message.bytes("only_env", *request.only_env);
    if (request.umask) message.number("umask", *request.umask);
    if (request.run_class) message.text("class", text_of(*request.run_class));
    if (request.terminal) message.flag("pty", true).text("pty_size", text_of(*request.terminal));
    for (const auto& [name, value] : {std::pair("ignore_cwd", request.ignore_cwd),
                                      {"ignore_namespaces", request.ignore_namespaces},
                                      {"ignore_platform", request.ignore_platform},
                                      {"no_share", request.no_share},
                                      {"fresh", request.fresh},
                                      {"keep_running", request.keep_running},
                                      {"warm", request.wish.warm},
                                      {"quiet", request.quiet}})
        if (value) message.flag(name, true);
    if (request.timeout) message.seconds("timeout", seconds(*request.timeout));
    if (request.wait) message.seconds("wait", seconds(*request.wait));
    if (request.grace) message.seconds("grace", seconds(*request.grace));
    if (request.wish.ttl) message.seconds("ttl", seconds(*request.wish.ttl));
    if (request.wish.max_age) message.seconds("max_age", seconds(*request.wish.max_age));
    if (request.wish.stale) message.seconds("stale", seconds(*request.wish.stale));
    if (request.wish.keep_failures) message.seconds("keep_failures", seconds(*request.wish.keep_failures));
    if (request.output != Request::Output::whole) message.text("output", name_of(request.output));
    if (!request.flight.empty()) message.text("flight", request.flight);
    if (request.signal != 0) message.number("signal", request.signal);
    return message.line();
}

}  // namespace coalesce
