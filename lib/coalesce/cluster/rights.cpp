// SPDX-License-Identifier: MIT
#include <coalesce/cluster/rights.h>

#include <algorithm>
#include <array>

namespace coalesce {
namespace {

// In the order of the line. HSET has no trial that changes nothing: its key goes a moment later.
constexpr std::array rights = std::to_array<Right>({
    {"auth", ""},  // every user may
    {"ping", "PING"},
    {"info", "INFO"},
    {"client|setname", "CLIENT SETNAME coalesce"},
    {"eval", "EVAL return(1) 1 KEY"},
    {"time", "TIME"},
    {"hmget", "HMGET KEY f"},
    {"del", "DEL KEY"},
    {"pexpire", "PEXPIRE KEY 1000"},
    {"hset", "HSET KEY f v"},
    {"exists", "EXISTS KEY"},
    {"pttl", "PTTL KEY"},
    {"zadd", "ZADD KEY XX 1 a"},
    {"zrem", "ZREM KEY a"},
    {"zremrangebyscore", "ZREMRANGEBYSCORE KEY 0 0"},
    {"zcard", "ZCARD KEY"},
    {"zrange", "ZRANGE KEY 0 0"},
    {"xadd", "XADD KEY NOMKSTREAM 1-0 a b"},
    {"xread", "XREAD COUNT 1 STREAMS KEY 0"},
    {"xrevrange", "XREVRANGE KEY + - COUNT 1"},
    {"publish", "PUBLISH KEY x"},
    {"scan", "SCAN 0 COUNT 1"},
    {"subscribe", "SUBSCRIBE KEY"},
    {"unsubscribe", "UNSUBSCRIBE KEY"},
});

}  // namespace

std::span<const Right> all_rights() { return rights; }

std::vector<std::string> words_of_trial(const Right& right, const std::string& key) {
    std::vector<std::string> words;
    std::string_view rest = right.trial;
    while (!rest.empty()) {
        const std::size_t end = std::min(rest.find(' '), rest.size());
        const std::string_view word = rest.substr(0, end);
        words.emplace_back(word == "KEY" ? std::string_view(key) : word);
        rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    return words;
}

std::string acl_line(const std::string& user, bool selects) {
    std::string line =
        "ACL SETUSER " + (user.empty() ? "coalesce" : user) + " on >PASSWORD ~coalesce:1:* &coalesce:1:* -@all";
    for (const Right& right : rights) line += " +" + std::string(right.command);
    if (selects) line += " +select";
    return line;
}

}  // namespace coalesce
