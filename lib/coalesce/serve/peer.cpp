// SPDX-License-Identifier: MIT
#include <coalesce/serve/peer.h>

#include <algorithm>
#include <cstddef>

namespace coalesce {
namespace {

// "GET / HTTP/1.1", "Host: …"
bool looks_like_http(std::string_view line) {
    const auto same_letter = [](char a, char b) { return (a | 0x20) == b; };
    constexpr std::string_view host = "host:";
    if (line.size() >= host.size() && std::equal(host.begin(), host.end(), line.begin(), [&](char wanted, char byte) {
            return wanted == ':' ? byte == ':' : same_letter(byte, wanted);
        }))
        return true;
    const std::size_t method = line.find(' ');
    if (method == std::string_view::npos || method == 0 ||
        !std::all_of(line.begin(), line.begin() + static_cast<std::ptrdiff_t>(method),
                     [](char byte) { return (byte >= 'A' && byte <= 'Z') || (byte >= 'a' && byte <= 'z'); }))
        return false;
    const std::size_t target = line.find(' ', method + 1);
    return target != std::string_view::npos && target > method + 1 && line.substr(target).starts_with(" HTTP/");
}

}  // namespace

Dialect::Line Dialect::hear(std::string_view line) {
    const Line kind = line.starts_with('{') ? Line::request : Line::command;
    if (kind == Line::command && looks_like_http(line)) return Line::http;
    if (!spoken_) spoken_ = kind;
    return *spoken_ == kind ? kind : Line::foreign;
}

}  // namespace coalesce
