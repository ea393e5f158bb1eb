// SPDX-License-Identifier: MIT
#include <coalesce/meeting/ask.h>

#include <poll.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include <coalesce/io/unix_socket.h>
#include <coalesce/meeting/attention.h>
#include <coalesce/meeting/connection.h>

namespace coalesce {
namespace {

using namespace std::chrono;

constexpr seconds patience{5};

std::optional<std::string> answer_to(const std::string& line, Descriptor connected) {
    const auto deadline = steady_clock::now() + patience;
    Connection connection(std::move(connected));
    connection.send(line);
    while (connection.receive()) {
        if (auto answer = connection.next_line()) return answer;
        const auto left = duration_cast<milliseconds>(deadline - steady_clock::now()).count();
        if (left <= 0 || Attention::told_to_end()) return std::nullopt;
        const short events = static_cast<short>(POLLIN | (connection.unsent() ? POLLOUT : 0));
        pollfd ready{.fd = connection.fd(), .events = events, .revents = 0};
        ::poll(&ready, 1, static_cast<int>(left));
        if ((ready.revents & POLLOUT) != 0) connection.flush();
    }
    return std::nullopt;
}

}  // namespace

std::optional<std::string> ask_flight(Result<Descriptor> connected, const std::string& line) {
    if (!connected || !*connected) return std::nullopt;
    return answer_to(line, std::move(*connected));
}

Result<std::string> ask_server(const std::string& path, const std::string& line) {
    auto connected = connect_to(path);
    if (!connected) return Error{connected.error().code, "reach the server at " + path};
    auto answer = answer_to(line, std::move(*connected));
    if (!answer) return Error{std::make_error_code(std::errc::connection_reset), "hear from the server at " + path};
    return std::move(*answer);
}

}  // namespace coalesce
