// SPDX-License-Identifier: MIT
// ServerConnection: requests on one connection, told apart by their numbers.
//
// Splits what the server sends into messages and the raw bytes that follow some of them, and
// gives each to whoever waits for it. It keeps the loop running for as long as somebody
// does. A server that is told to end finishes what it has: such a connection takes no more
// requests, and still brings its answers. Each who waits hears exactly one end, never
// within a call of send(), and none after leave(). Who leaves before the server had room has
// asked it nothing.
#pragma once

#include <coalesce/client/client.h>
#include <coalesce/command/result.h>

#include <array>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include <coalesce/io/descriptor.h>
#include <coalesce/io/watch.h>

namespace coalesce {

class ServerConnection : public std::enable_shared_from_this<ServerConnection> {
  public:
    /// May leave, ask again, or close the connection.
    struct Waiter {
        UniqueFunction<void(Stream, std::string_view)> on_output;
        UniqueFunction<void(Answered, std::exception_ptr)> on_end;
    };

    /// Where the server's queue is full it connects later; who is refused is told as its end.
    ServerConnection(Loop& loop, std::string path) : loop_(loop), path_(std::move(path)), again_(loop) {}
    void connect();

    /// Throws RequestRefused for what is longer than a server takes.
    std::uint64_t send(Request request, Waiter waiter);
    void leave(std::uint64_t number);
    /// Whether it takes requests: not so, too, where its end has come and was not read yet.
    [[nodiscard]] bool usable() const noexcept;
    void pause();
    void resume();
    /// Leaves all that is waited for, as far as the server can still be told; all who wait are told `why`.
    void close(const std::exception_ptr& why);

  private:
    void ready();
    void flush();
    void watch_again();
    void take(std::string_view bytes);
    void take_message(std::string_view line);
    void end(std::uint64_t number, Answered answered, std::exception_ptr why);

    Loop& loop_;
    const std::string path_;
    Descriptor socket_;  // before the watch: it must stop watching first
    Watch watch_;
    Timer again_;
    std::map<std::uint64_t, Waiter> waiting_;
    std::uint64_t last_number_ = 0;
    std::map<std::uint64_t, std::string> unsent_;  // requests, until there is a connection
    std::string out_;
    std::string text_;             // up to no newline
    std::uint64_t raw_ = 0;        // bytes that are still to come after a message,
    Stream stream_ = Stream::out;  // of which stream,
    std::uint64_t owner_ = 0;      // and of which request
    bool blocked_ = false;         // what is to be sent was not taken
    bool paused_ = false;
    bool closing_ = false;  // takes no more requests
};

}  // namespace coalesce
