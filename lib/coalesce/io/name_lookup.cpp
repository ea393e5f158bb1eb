// SPDX-License-Identifier: MIT
#include <coalesce/io/name_lookup.h>

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>

#include <cstring>
#include <memory>
#include <utility>

#include <coalesce/io/loop.h>

namespace coalesce {

struct NameLookup::State : uv_getaddrinfo_t {
    NameLookup* owner = nullptr;  // null: it is gone
    std::string host;
    Answer answer;

    void tell(Result<std::vector<SocketAddress>> result) {
        if (owner == nullptr) return;
        owner->state_ = nullptr;
        auto told = std::move(answer);
        told(std::move(result));  // may destroy the owner
    }
};

namespace {

// In numbers: "192.0.2.1", "2001:db8::1".
std::vector<SocketAddress> numeric(const std::string& host, std::uint16_t port) {
    SocketAddress found;
    auto& v4 = reinterpret_cast<sockaddr_in&>(found.address);
    auto& v6 = reinterpret_cast<sockaddr_in6&>(found.address);
    if (::inet_pton(AF_INET, host.c_str(), &v4.sin_addr) == 1) {
        v4.sin_family = AF_INET;
        v4.sin_port = htons(port);
        found.length = sizeof v4;
    } else if (::inet_pton(AF_INET6, host.c_str(), &v6.sin6_addr) == 1) {
        v6.sin6_family = AF_INET6;
        v6.sin6_port = htons(port);
        found.length = sizeof v6;
    } else {
        return {};
    }
    return {found};
}

std::vector<SocketAddress> all_of(const addrinfo* list) {
    std::vector<SocketAddress> found;
    for (; list != nullptr; list = list->ai_next) {
        SocketAddress& address = found.emplace_back();
        std::memcpy(&address.address, list->ai_addr, list->ai_addrlen);
        address.length = list->ai_addrlen;
    }
    return found;
}

Error no_address(const std::string& host, int status) {
    return {{}, "find the host " + host + ": " + uv_strerror(status)};
}

}  // namespace

NameLookup::NameLookup(Loop& loop, const std::string& host, std::uint16_t port, Answer answer) : state_(new State{}) {
    state_->owner = this;
    state_->host = host;
    state_->answer = std::move(answer);
    if (auto found = numeric(host, port); !found.empty()) {
        loop.post([state = state_, found = std::move(found)]() mutable {
            std::unique_ptr<State>(state)->tell(std::move(found));
        });
        return;
    }
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    const int refused = uv_getaddrinfo(
        loop.raw(), state_,
        [](uv_getaddrinfo_t* request, int status, addrinfo* list) {
            std::unique_ptr<State> state(static_cast<State*>(request));
            auto found = all_of(list);
            uv_freeaddrinfo(list);
            if (status == 0 && !found.empty()) return state->tell(std::move(found));
            const std::string name = state->host;
            state->tell(no_address(name, status));
        },
        host.c_str(), std::to_string(port).c_str(), &hints);
    if (refused != 0)
        loop.post([state = state_, refused] {
            const std::unique_ptr<State> owned(state);
            const std::string name = owned->host;
            owned->tell(no_address(name, refused));
        });
}

NameLookup::~NameLookup() {
    if (state_ == nullptr) return;
    state_->owner = nullptr;
    uv_cancel(reinterpret_cast<uv_req_t*>(state_));
}

}  // namespace coalesce
