// SPDX-License-Identifier: MIT
// NameLookup: the addresses of a host, without holding up the loop.
//
// Who has an address in numbers needs none. A name may take the resolver seconds, so it is
// asked on libuv's pool thread, which is the only thread that this program ever has, and
// only then. An answer is given on a turn of its own, unless the lookup has been destroyed:
// what is on its way then is dropped when it comes, for which the loop waits, unless that goes, too.
#pragma once

#include <coalesce/command/result.h>
#include <coalesce/flight/unique_function.h>

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <vector>

namespace coalesce {

class Loop;

/// Of a TCP port; addresses are tried in their order.
struct SocketAddress {
    sockaddr_storage address{};
    socklen_t length = 0;
};

class NameLookup {
  public:
    using Answer = UniqueFunction<void(Result<std::vector<SocketAddress>>)>;

    /// Answers once.
    NameLookup(Loop& loop, const std::string& host, std::uint16_t port, Answer answer);
    ~NameLookup();
    NameLookup(const NameLookup&) = delete;
    NameLookup& operator=(const NameLookup&) = delete;

  private:
    struct State;
    State* state_;  // frees itself when its answer has come
};

}  // namespace coalesce
