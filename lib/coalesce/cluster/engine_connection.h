// SPDX-License-Identifier: MIT
// EngineConnection: one way to the engine, for requests and what comes back.
//
// It reaches the engine by a unix socket, by TCP or through a command that is spoken to
// (SPEC M5), sends what it is given in order, and hands out replies in order; which reply
// is to what is for its owner to know. It ends once, with the reason: refused, lost, or
// something that is no RESP. It has no time limits, for only its owner knows what it waits
// for, but goes on to the next address of a name when one is silent; and it does not keep the loop running. A socket of
// ours rather than hiredis' contexts, which block, or its libuv adapter, where a refused connection never calls back.
#pragma once

#include <coalesce/command/result.h>
#include <coalesce/flight/unique_function.h>

#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <coalesce/cluster/engine_url.h>
#include <coalesce/cluster/resp.h>
#include <coalesce/io/descriptor.h>
#include <coalesce/io/name_lookup.h>
#include <coalesce/io/watch.h>

namespace coalesce {

class Loop;

class EngineConnection {
  public:
    /// On turns of their own. Each may destroy the connection.
    struct Events {
        UniqueFunction<void()> on_bytes;  ///< something has come, be it a part of a reply
        UniqueFunction<void(RespValue)> on_reply;
        UniqueFunction<void(Error)> on_ended;  ///< once, last
    };
    /// Begins to connect. The loop and `url` must outlive it.
    EngineConnection(Loop& loop, const EngineUrl& url, Events events);
    ~EngineConnection();
    EngineConnection(const EngineConnection&) = delete;
    EngineConnection& operator=(const EngineConnection&) = delete;

    /// Sends a request, as soon as there is a connection.
    void send(std::span<const std::string> words);
    void send(std::span<const std::string_view> words);
    /// No event comes any more. For who cannot destroy it now, being called by it.
    void close() noexcept;
    /// How many bytes of requests the other side has taken so far, and how many it has yet to take. Costs a system
    /// call.
    struct Progress {
        std::uint64_t delivered;
        std::uint64_t left;
    };
    [[nodiscard]] Progress progress() const noexcept;

  private:
    struct Proxy;
    [[nodiscard]] std::size_t unsent() const noexcept { return unsent_.size() - sent_; }
    void begin();
    void try_next();
    void pass_over_later(const SocketAddress& address);
    void use(Descriptor socket, bool connected);
    void on_ready();
    bool finish_connecting();
    bool write();
    bool read();
    [[nodiscard]] Error broken(int error) const;
    template <class Word>
    void add(std::span<const Word> words);
    void flush();
    void fail(Error error);
    void fail_later(Error error);

    Loop& loop_;
    const EngineUrl& url_;
    Events events_;
    std::optional<NameLookup> lookup_;
    std::vector<SocketAddress> addresses_;  // to be tried yet, the next last
    std::size_t to_pass_over_ = 0;          // that many are given a moment only
    std::unique_ptr<Proxy> proxy_;
    Descriptor socket_;
    Timer try_next_;
    Watch watch_;  // declared after the descriptor: it must stop watching first
    RespReader reader_;
    std::string unsent_;
    std::size_t sent_ = 0;
    std::uint64_t asked_ = 0;  // bytes of all requests
    bool connecting_ = false;
    bool ended_ = false;
    std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for what was posted
};

}  // namespace coalesce
