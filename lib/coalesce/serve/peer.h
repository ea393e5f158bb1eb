// SPDX-License-Identifier: MIT
// Peer: a program that is connected to the server, and which kind of lines it sends.
//
// The first line decides. Who sends one kind is not to run what it meant as another: a page's
// HTTP request, the second line of a pretty-printed object. Who may come in at all is the
// server's, what a line asks for is whoever answers it.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include <coalesce/io/process_facts.h>
#include <coalesce/io/watch.h>
#include <coalesce/reception/requester.h>

namespace coalesce {

/// Which of two kinds of lines comes over a connection.
class Dialect {
  public:
    enum class Line : std::uint8_t {
        request,  ///< a JSON object
        command,  ///< for the shell
        foreign,  ///< of the other kind than the first
        http,     ///< a browser, or curl, was led here
    };
    /// What that line is. Blank ones are nobody's to ask about.
    [[nodiscard]] Line hear(std::string_view line);

  private:
    std::optional<Line> spoken_;
};

struct Peer final : Client {
    using Client::Client;
    std::optional<std::vector<ProcessFacts>> sessions;  ///< the leaders of those that it runs in
    std::optional<Timer> refused;                       ///< until it is closed
    Dialect dialect;
};

}  // namespace coalesce
