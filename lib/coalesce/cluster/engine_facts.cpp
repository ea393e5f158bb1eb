// SPDX-License-Identifier: MIT
#include <coalesce/cluster/engine_facts.h>

#include <coalesce/command/text.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <utility>

namespace coalesce {
namespace {

constexpr unsigned major_min = 7;

std::string_view value_in(std::string_view info, std::string_view name) {
    while (!info.empty()) {
        const std::size_t end = std::min(info.find('\n'), info.size());
        std::string_view line = info.substr(0, end);
        info.remove_prefix(std::min(end + 1, info.size()));
        if (line.ends_with('\r')) line.remove_suffix(1);
        if (line.starts_with(name) && line.substr(name.size()).starts_with(':')) return line.substr(name.size() + 1);
    }
    return {};
}

template <class Number>
Number number_in(std::string_view text) {
    Number number{};
    std::from_chars(text.data(), text.data() + text.size(), number);
    return number;
}

}  // namespace

EngineFacts EngineFacts::of(std::string_view info) {
    EngineFacts facts;
    const std::string_view redis = value_in(info, "redis_version");
    const std::string_view valkey = value_in(info, "valkey_version");
    if (!valkey.empty()) facts.product = "Valkey";
    facts.version = visible(valkey.empty() ? redis : valkey);
    facts.protocol_major = number_in<unsigned>(redis);
    facts.role = visible(value_in(info, "role"));
    facts.policy = visible(value_in(info, "maxmemory_policy"));
    facts.uptime = std::chrono::seconds(number_in<std::int64_t>(value_in(info, "uptime_in_seconds")));
    facts.append_only = value_in(info, "aof_enabled") == "1";
    const std::string_view written = value_in(info, "aof_last_write_status");
    facts.log_failing = facts.append_only && !written.empty() && written != "ok";
    return facts;
}

Result<> EngineFacts::fit() const {
    const auto refused = [](std::string sentence) { return Error{{}, "use the engine: " + std::move(sentence)}; };
    if (version.empty()) return refused("it does not tell what it is; is it Redis?");
    if (protocol_major < major_min)
        return refused("it is " + product + " " + version + ", and 7.0 or later is needed; upgrade it");
    if (role != "master") return refused("it is a replica (role:" + role + "), which grants nothing; name its primary");
    if (policy != "noeviction")
        return refused("it throws keys away when its memory is full (maxmemory_policy:" + policy +
                       "), leases too; CONFIG SET maxmemory-policy noeviction, and in its configuration");
    return {};
}

std::chrono::milliseconds EngineFacts::too_young_for(std::chrono::milliseconds lease) const {
    // It counts in whole seconds from the one in which it was started, so it may say one too many.
    const auto at_least = std::max(uptime - std::chrono::seconds(1), std::chrono::seconds(0));
    if (append_only || at_least >= lease) return std::chrono::milliseconds(0);
    return lease - at_least;
}

}  // namespace coalesce
