// SPDX-License-Identifier: MIT
#include <coalesce/cluster/engine_url.h>

#include <coalesce/command/duration.h>
#include <coalesce/command/number.h>
#include <coalesce/command/size.h>
#include <coalesce/command/text.h>

#include <optional>
#include <utility>

namespace coalesce {
namespace {

using namespace std::chrono_literals;

constexpr std::chrono::milliseconds lease_min = 2s;
constexpr std::chrono::milliseconds lease_max = 1h;

Error wrong(std::string sentence) { return {{}, std::move(sentence)}; }

int hex_digit(char digit) {
    if (digit >= '0' && digit <= '9') return digit - '0';
    if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
    if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
    return -1;
}

std::string decoded(std::string_view text) {
    std::string bytes;
    for (std::size_t at = 0; at < text.size(); ++at) {
        const int high = text[at] == '%' && at + 2 < text.size() ? hex_digit(text[at + 1]) : -1;
        const int low = high >= 0 ? hex_digit(text[at + 2]) : -1;
        if (low < 0) {
            bytes += text[at];
            continue;
        }
        bytes += static_cast<char>(high * 16 + low);
        at += 2;
    }
    return bytes;
}

// "user@" off the front. A password beside it stands in argv and in the environment for all to see.
Result<std::string> take_user(std::string_view& rest, std::size_t end) {
    const std::size_t at = rest.substr(0, end).rfind('@');
    if (at == std::string_view::npos) return std::string();
    const std::string_view user = rest.substr(0, at);
    if (user.find(':') != std::string_view::npos)
        return wrong("a password in the engine's URL can be seen by everybody; put it into a file: password=FILE");
    rest.remove_prefix(at + 1);
    return decoded(user);
}

Result<> take_host(std::string_view rest, EngineUrl& url) {
    if (const std::size_t slash = rest.find('/'); slash != std::string_view::npos) {
        const std::string_view database = rest.substr(slash + 1);
        if (!database.empty() && !read_whole_number(database, url.database))
            return wrong("'" + visible(database) + "' is no number of a database");
        rest = rest.substr(0, slash);
    }
    std::string_view port;
    if (rest.starts_with('[')) {
        const std::size_t end = rest.find(']');
        if (end == std::string_view::npos) return wrong("'" + visible(rest) + "' lacks a ]");
        url.host = rest.substr(1, end - 1);
        port = rest.substr(end + 1);
        if (!port.empty() && port.front() != ':') return wrong("'" + visible(port) + "' is no port");
    } else {
        const std::size_t colon = std::min(rest.find(':'), rest.size());
        url.host = rest.substr(0, colon);
        port = rest.substr(colon);
        if (port.find(':', 1) != std::string_view::npos)
            return wrong("an address with colons stands in brackets: [" + visible(rest) + "]");
    }
    if (url.host.empty()) return wrong("the engine's URL names no host");
    if (port.size() > 1 && (!read_whole_number(port.substr(1), url.port) || url.port == 0))
        return wrong("'" + visible(port.substr(1)) + "' is no port");
    return {};
}

Result<> take_duration(std::string_view name, const std::string& value, std::chrono::milliseconds& into) {
    auto parsed = parse_duration(value);
    if (!parsed) return wrong(std::string(name) + "=: " + parsed.error().message());
    into = *parsed;
    return {};
}

Result<> take_size(std::string_view name, const std::string& value, std::uint64_t& into) {
    auto parsed = parse_size(value);
    if (!parsed) return wrong(std::string(name) + "=: " + parsed.error().message());
    into = *parsed;
    return {};
}

Result<> take_parameter(std::string_view name, std::string value, EngineUrl& url) {
    if (value.empty()) return wrong("the engine's parameter '" + visible(name) + "' has no value");
    if (name == "secret") return url.secret_file = std::move(value), Result<>();
    if (name == "password") return url.password_file = std::move(value), Result<>();
    if (name == "proxy") return url.proxy = std::move(value), Result<>();
    if (name == "ns") return url.ns = std::move(value), Result<>();
    if (name == "keep") return take_duration(name, value, url.keep);
    if (name == "keepsize") return take_size(name, value, url.keep_bytes);
    if (name == "cap") return take_size(name, value, url.cap_bytes);
    if (name == "lease") {
        auto taken = take_duration(name, value, url.lease);
        if (taken && (url.lease < lease_min || url.lease > lease_max))
            return wrong("lease=" + value + " is not from 2s to 1h");
        return taken;
    }
    if (name == "down") {
        if (value != "fail" && value != "run") return wrong("down=" + visible(value) + " is neither fail nor run");
        url.down = value == "run" ? EngineUrl::Down::run : EngineUrl::Down::fail;
        return {};
    }
    return wrong("the engine's URL has an unknown parameter '" + visible(name) +
                 "'; there are secret, password, lease, down, ns, keep, keepsize, cap and proxy");
}

}  // namespace

Result<EngineUrl> EngineUrl::parse(std::string_view text) {
    EngineUrl url;
    const std::size_t scheme_end = text.find("://");
    const std::string_view scheme = text.substr(0, std::min(scheme_end, text.size()));
    if (scheme == "rediss")
        return wrong(
            "rediss: is had by a program that speaks TLS: "
            "redis://HOST:PORT?proxy=socat STDIO OPENSSL:%h:%p,cafile=FILE,commonname=HOST");
    if (scheme_end == std::string_view::npos || (scheme != "redis" && scheme != "redis+unix"))
        return wrong("'" + visible(text) + "' is no engine's URL: redis://HOST:PORT or redis+unix:///PATH");
    std::string_view rest = text.substr(scheme_end + 3);
    std::string_view parameters;
    if (const std::size_t question = rest.find('?'); question != std::string_view::npos) {
        parameters = rest.substr(question + 1);
        rest = rest.substr(0, question);
    }
    auto user = take_user(rest, rest.find('/'));
    if (!user) return user.error();
    url.user = std::move(*user);
    if (scheme == "redis") {
        if (auto taken = take_host(rest, url); !taken) return taken.error();
    } else {
        if (!rest.starts_with('/')) return wrong("redis+unix: takes an absolute path: redis+unix:///PATH");
        url.path = decoded(rest);
    }
    while (!parameters.empty()) {
        const std::size_t end = std::min(parameters.find('&'), parameters.size());
        const std::string_view parameter = parameters.substr(0, end);
        parameters.remove_prefix(std::min(end + 1, parameters.size()));
        if (parameter.empty()) continue;
        const std::size_t equals = std::min(parameter.find('='), parameter.size());
        const std::string_view value = parameter.substr(std::min(equals + 1, parameter.size()));
        if (auto taken = take_parameter(parameter.substr(0, equals), decoded(value), url); !taken) return taken.error();
    }
    if (!url.proxy.empty() && !url.path.empty()) return wrong("proxy= is for redis://, not for a unix socket");
    return url;
}

std::string EngineUrl::address() const {
    if (!path.empty()) return "redis+unix://" + path;
    const bool colons = host.find(':') != std::string::npos;
    return "redis://" + (colons ? "[" + host + "]" : host) + ":" + std::to_string(port) + "/" +
           std::to_string(database);
}

}  // namespace coalesce
