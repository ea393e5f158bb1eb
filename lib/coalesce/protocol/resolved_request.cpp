// SPDX-License-Identifier: MIT
#include <coalesce/protocol/resolved_request.h>

#include <string_view>
#include <unordered_map>
#include <utility>

#include <coalesce/command/shell_line.h>
#include <coalesce/command/title.h>

namespace coalesce {
namespace {

// In one pass: there may be thousands of both.
void change_env(std::vector<std::string>& env, const Request& request) {
    std::unordered_map<std::string_view, const std::optional<std::string>*> changes;
    changes.reserve(request.env_changes.size());
    for (const auto& [name, value] : request.env_changes) changes.emplace(name, &value);
    std::erase_if(env, [&changes](const std::string& entry) { return changes.contains(env_name(entry)); });
    for (const auto& [name, value] : request.env_changes)
        if (value) env.push_back(name + "=" + *value);
}

// The same directory written with fewer bytes: without empty elements, "." and a slash at
// the end. What ".." leads to is the file system's to say.
std::string without_idle_elements(std::string_view path) {
    std::string out;
    while (!path.empty()) {
        const std::size_t slash = path.find('/');
        const std::string_view element = path.substr(0, slash);
        if (!element.empty() && element != ".") out.append(1, '/').append(element);
        path.remove_prefix(slash == std::string_view::npos ? path.size() : slash + 1);
    }
    return out.empty() ? "/" : out;
}

}  // namespace

ResolvedRequest resolve(Request& request, const std::shared_ptr<const Surroundings>& base, KeyRules rules,
                        const std::string& shell, Job defaults) {
    if (request.key) rules.key = request.key;
    if (!request.scope.empty()) rules.scope = request.scope;
    if (request.only_env) rules.only_env = request.only_env;
    rules.ignore_env.insert(rules.ignore_env.end(), request.ignore_env.begin(), request.ignore_env.end());
    rules.ignore_cwd = rules.ignore_cwd || request.ignore_cwd;
    rules.ignore_namespaces = rules.ignore_namespaces || request.ignore_namespaces;
    rules.no_share = rules.no_share || request.no_share;
    const bool own_cluster_rules = rules.cluster && (!request.cluster_scope.empty() || request.ignore_platform);
    if (rules.cluster && !request.cluster_scope.empty()) rules.cluster->scope = request.cluster_scope;
    if (rules.cluster && request.ignore_platform) rules.cluster->platform.clear();

    ResolvedRequest resolved{.job = std::move(defaults)};
    resolved.crosses_machines = rules.cluster && !rules.cluster->scope.empty();
    Command& command = resolved.job.command;
    command.surroundings = base;
    const auto terminal = request.terminal ? request.terminal : base->terminal;
    if (request.env || request.cwd || request.umask || !request.env_changes.empty() || terminal != base->terminal) {
        auto own = std::make_shared<Surroundings>(*base);
        if (request.env) own->env = std::move(*request.env);
        if (request.cwd) {
            own->cwd = without_idle_elements(*request.cwd);
            own->directory = identity_of_directory(own->cwd);
        }
        if (request.umask) own->umask = *request.umask;
        if (!request.env_changes.empty()) change_env(own->env, request);
        if (terminal) give_terminal(*own, *terminal);
        command.surroundings = std::move(own);
    }
    if (request.line) {
        command.argv = argv_of_line(shell, *request.line);
        resolved.job.title = title(*request.line);
        resolved.job.line = std::move(request.line);
    } else {
        command.argv = std::move(request.argv);
        resolved.job.title = title(command.argv);
    }
    if (request.stdin_bytes && !request.stdin_bytes->empty())  // else it gets /dev/null, which has as many bytes
        command.stdin_bytes = std::move(request.stdin_bytes);
    if (request.run_class) resolved.job.run_class = std::move(request.run_class);
    if (request.grace) resolved.job.grace = *request.grace;
    if (request.timeout) resolved.job.timeout = request.timeout;
    if (resolved.job.timeout && resolved.job.timeout->count() == 0)
        resolved.job.timeout.reset();  // none, as with timeout(1)
    const bool own_rules = request.key || !request.scope.empty() || request.only_env || !request.ignore_env.empty() ||
                           request.ignore_cwd || request.ignore_namespaces || own_cluster_rules;
    if (own_rules || command.surroundings != base)
        resolved.canonical_surroundings = canonical_surroundings(*command.surroundings, rules);
    resolved.canonical_words = words_of_key(command.argv, command.stdin_bytes, rules);
    return resolved;
}

}  // namespace coalesce
