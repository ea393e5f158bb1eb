// SPDX-License-Identifier: MIT
// EngineUrl: where machines meet, as a user writes it (SPEC M3, M5).
//
//     redis://[user@]host[:port][/db]?secret=FILE&lease=60s
//     redis+unix://[user@]/run/redis/redis.sock
//
// Everything about the engine is in this one text, so that one variable sets it. What it
// says is checked whole and refused by name: an unknown parameter, a password (which would
// be seen in argv), a TLS scheme (which is `proxy=`'s). %XX is a byte in a parameter's value,
// any other % is itself. It opens nothing: files are secret.h's, the way there connection.h's.
#pragma once

#include <coalesce/command/result.h>

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace coalesce {

struct EngineUrl {
    enum class Down : std::uint8_t { fail, run };  ///< what becomes of a request when the engine is not reachable

    std::string user;           ///< empty: the engine's default user
    std::string host;           ///< a name or a numeric address; empty with `path`
    std::uint16_t port = 6379;  ///< with `host`
    unsigned database = 0;      ///< with `host`
    std::string path;           ///< of a unix socket

    std::string secret_file;    ///< empty: the usual places
    std::string password_file;  ///< empty: none is sent
    std::string proxy;          ///< a shell line that is spoken to instead; %h and %p are filled in; empty: none
    std::string ns = "default";
    std::chrono::milliseconds lease{60'000};
    std::chrono::milliseconds keep{60'000};  ///< how long an ended run is there for who asked before its end
    std::uint64_t keep_bytes = 1 << 20;      ///< so long may its output be for that
    std::uint64_t cap_bytes = 64 << 20;      ///< past that a run takes nobody else
    Down down = Down::fail;

    /// Refused, with a sentence that names the culprit.
    static Result<EngineUrl> parse(std::string_view text);

    /// Where it is, as a person is told: "redis://host:6379/0", "redis+unix:///path".
    [[nodiscard]] std::string address() const;
};

}  // namespace coalesce
