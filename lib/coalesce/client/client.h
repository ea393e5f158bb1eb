// SPDX-License-Identifier: MIT
// Client: asks `coalesce serve` for commands, on a libuv loop.
//
// All that run() asks for shares one connection; each stream() has one of its own, so that
// who takes its output slowly holds up nobody else, and the server keeps what was not
// taken. What waits is a Ticket, as everywhere in the library: to destroy it is to leave,
// and the run ends with the last who leaves. A command that fails, or is ended, is an
// Outcome; a request that gets none throws a RequestRefused. When the server goes away
// those who wait are told by the code "disconnected", and the next request connects anew:
// none is ever sent twice, and what was told to be lost may have run.
#pragma once

#include <coalesce/command/outcome.h>
#include <coalesce/flight/group.h>
#include <coalesce/io/loop.h>
#include <coalesce/io/stream.h>
#include <coalesce/protocol/request.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace coalesce {

/// Why a request got no result. A server that cannot be reached is a std::system_error instead.
class RequestRefused : public std::runtime_error {
  public:
    RequestRefused(std::string code, const std::string& message)
        : std::runtime_error(message), code_(std::move(code)) {}

    /// A word of coalesce-protocol(7), or "disconnected".
    [[nodiscard]] const std::string& code() const noexcept { return code_; }

  private:
    std::string code_;
};

/// Of a result that had been kept.
struct AnsweredKept {
    std::chrono::microseconds age{0};   ///< since its run ended
    std::chrono::microseconds left{0};  ///< until it may be removed
    bool refreshing = false;            ///< it is stale, and a run is on its way to replace it
};

/// What a command that was asked for came to.
struct Answered {
    Outcome outcome;
    std::string out;  ///< what it wrote; empty of a stream, which has handed it over
    std::string err;
    bool joined = false;         ///< its run was under way already
    std::size_t requesters = 0;  ///< how many the run has answered
    std::chrono::microseconds duration{0};
    std::string host;                  ///< where it ran; empty: at the server
    std::optional<AnsweredKept> kept;  ///< nothing was run for it
};

/// A command whose output comes as it is written. Destroying it leaves.
class AnswerStream {
  public:
    struct Events {
        /// Some of the command's output. May destroy the stream.
        UniqueFunction<void(Stream, std::string_view)> on_output;
        /// Once, last. May destroy the stream.
        UniqueFunction<void(const Landing<Answered>&)> on_end;
    };

    virtual ~AnswerStream() = default;
    /// Takes no more; what has been read already, less than 64 KiB, still comes.
    virtual void pause() = 0;
    /// Goes on.
    virtual void resume() = 0;
};

class Client {
  public:
    /// Of the server at `path`; empty: where `coalesce run` would find one.
    explicit Client(Loop& loop, std::string path = {});
    /// Leaves all that run() waits for; who holds a ticket gets operation_canceled. A stream goes on.
    ~Client();
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    /// Runs a command, or joins its run. Without a `cwd`, and without an `env` or changes to
    /// it, those of this process are meant; `id`, `op`, `output` and `quiet` are the client's.
    Ticket<Answered> run(Request request);

    /// Removes what is kept under the request's key; what is under way is not kept either. Of the
    /// request only what makes a key is meant, anything else is refused.
    Ticket<void> forget(Request request);

    /// A run with its output as it comes. Nothing is called before this has returned. Throws a
    /// RequestRefused, "too_long", where no server would read the request, and a std::system_error where
    /// this process' directory is meant and cannot be read; a ticket of run() does.
    [[nodiscard]] std::unique_ptr<AnswerStream> stream(Request request, AnswerStream::Events events);

  private:
    class Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace coalesce
