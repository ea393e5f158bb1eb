// SPDX-License-Identifier: MIT
// A name whose resolver takes its time. It does so here because this program's getaddrinfo is the
// one that libuv finds.
#include <coalesce/io/name_lookup.h>

#include <coalesce/io/loop.h>

#include <dlfcn.h>
#include <netdb.h>

#include <cstring>
#include <optional>
#include <semaphore>

#include "../catch.h"

using namespace coalesce;

namespace {

std::binary_semaphore asked{0};
std::binary_semaphore answers{0};
std::binary_semaphore answered{0};

}  // namespace

extern "C" int getaddrinfo(const char* host, const char* port, const addrinfo* hints, addrinfo** found) {
    if (host != nullptr && std::strcmp(host, "slow.invalid") == 0) {
        asked.release();
        answers.acquire();
        answered.release();
        return EAI_NONAME;
    }
    static const auto real = reinterpret_cast<decltype(&getaddrinfo)>(::dlsym(RTLD_NEXT, "getaddrinfo"));
    return real(host, port, hints, found);
}

TEST_CASE("a name that is being looked up keeps no loop from going", "[loop]") {
    bool told = false;
    {
        Loop loop;
        const NameLookup lookup(loop, "slow.invalid", 6379, [&](const auto&) { told = true; });
        asked.acquire();
    }
    answers.release();
    answered.acquire();
    CHECK_FALSE(told);
}
