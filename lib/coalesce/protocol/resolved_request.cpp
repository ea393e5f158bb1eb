// SPDX-License-Identifier: MIT
#include <coalesce/protocol/resolved_request.h>

#include <utility>

#include <coalesce/command/title.h>

namespace coalesce {
namespace {

void change_env(std::vector<std::string>& env, const Request& request) {
    for (const auto& [name, value] : request.env_changes) {
        if (value)
            set_env(env, name, *value);
        else
            std::erase_if(env, [&name = name](const std::string& entry) { return env_name(entry) == name; });
    }
}

}  // namespace

ResolvedRequest resolve(Request& request, const std::shared_ptr<const Surroundings>& base, KeyRules rules,
                        const std::string& shell, Job defaults) {
    if (request.key) rules.key = request.key;
    if (!request.scope.empty()) rules.scope = request.scope;
    if (request.only_env) rules.only_env = request.only_env;
    rules.ignore_env.insert(rules.ignore_env.end(), request.ignore_env.begin(), request.ignore_env.end());
    rules.ignore_cwd = rules.ignore_cwd || request.ignore_cwd;

    ResolvedRequest resolved{.job = std::move(defaults)};
    Command& command = resolved.job.command;
    command.surroundings = base;
    if (request.env || request.cwd || request.umask || !request.env_changes.empty()) {
        auto own = std::make_shared<Surroundings>(*base);
        if (request.env) own->env = std::move(*request.env);
        if (request.cwd) own->cwd = std::move(*request.cwd);
        if (request.umask) own->umask = *request.umask;
        change_env(own->env, request);
        command.surroundings = std::move(own);
    }
    if (request.line) {
        command.argv = {shell, "-c", *request.line};
        resolved.job.title = title(*request.line);
        resolved.job.line = std::move(request.line);
    } else {
        command.argv = std::move(request.argv);
        resolved.job.title = title(command.argv);
    }
    command.stdin_bytes = std::move(request.stdin_bytes);
    if (request.grace) resolved.job.grace = *request.grace;
    if (request.timeout) resolved.job.timeout = request.timeout;
    if (resolved.job.timeout && resolved.job.timeout->count() == 0)
        resolved.job.timeout.reset();  // none, as with timeout(1)
    const bool own_rules =
        request.key || !request.scope.empty() || request.only_env || !request.ignore_env.empty() || request.ignore_cwd;
    if (own_rules || command.surroundings != base)
        resolved.canonical_surroundings = canonical_surroundings(*command.surroundings, rules);
    resolved.canonical_words = canonical_words(command.argv, command.stdin_bytes, rules);
    return resolved;
}

}  // namespace coalesce
