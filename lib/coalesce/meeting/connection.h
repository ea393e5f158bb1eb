// SPDX-License-Identifier: MIT
// Connection: a requester's side of the socket, by lines.
//
// Nothing here blocks, so that its owner hears of other things too: what the other side
// does not take now waits here, and its owner waits for both directions. Keeps the
// descriptor that comes with a line.
#pragma once

#include <coalesce/command/result.h>

#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include <coalesce/io/descriptor.h>
#include <coalesce/io/line_splitter.h>

namespace coalesce {

class Connection {
  public:
    explicit Connection(Descriptor socket) : socket_(std::move(socket)) {}

    [[nodiscard]] int fd() const noexcept { return socket_.get(); }

    /// Sends what is taken now; the rest with flush().
    void send(std::string_view text);
    void flush();
    /// Some of what was to be sent is still here.
    [[nodiscard]] bool unsent() const noexcept { return !out_.empty(); }
    /// The other side has not read all that was sent.
    [[nodiscard]] bool unread() const noexcept;

    /// Reads what is there; false at the end.
    bool receive();
    std::optional<std::string> next_line();

    [[nodiscard]] int file() const noexcept { return file_.get(); }
    /// The other side ended without having read all that was sent to it.
    [[nodiscard]] bool reset() const noexcept { return reset_; }

  private:
    Descriptor socket_;
    Descriptor file_;
    bool reset_ = false;
    std::string out_;
    LineSplitter incoming_{'\n', std::numeric_limits<std::size_t>::max()};
};

}  // namespace coalesce
