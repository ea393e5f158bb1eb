// SPDX-License-Identifier: MIT
// Request: what one JSON request asks for (SPEC S3), parsed and checked.
//
// The same words serve `coalesce batch --json` and the socket. Parsing is strict:
// an unknown field is refused by name, a wrong type says what was expected, NUL
// in an argument is refused because no process could receive it, and so is more than
// an exec takes, before anybody sorts or compares it. Text that may be any bytes has a
// second field, in base64, for what is not UTF-8. Nothing here knows who asked.
#pragma once

#include <coalesce/command/result.h>
#include <coalesce/command/run_class.h>
#include <coalesce/command/terminal_size.h>
#include <coalesce/command/wish.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace coalesce {

// NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding): in the order of what they mean; there are few
struct Request {
    enum class Output { whole, stream, fd, none };
    /// Whether output is passed on while the command runs.
    [[nodiscard]] static constexpr bool as_it_comes(Output output) noexcept {
        return output == Output::stream || output == Output::fd;
    }

    std::string id;  ///< the client's id as JSON text, returned as it came; empty: none
    std::string op;  ///< empty: run a command
    std::vector<std::string> argv;
    std::optional<std::string> line;
    std::optional<std::string> cwd;
    /// "env" as an object: changes to the environment, an absent value removes.
    std::vector<std::pair<std::string, std::optional<std::string>>> env_changes;
    /// "env" as an array of "NAME=value": the whole environment.
    std::optional<std::vector<std::string>> env;
    std::optional<std::string> stdin_bytes;
    std::optional<std::string> key;
    std::string scope;
    std::string cluster_scope;  ///< what files the command sees on other machines; empty: none shares it
    bool ignore_platform = false;
    std::vector<std::string> ignore_env;
    std::optional<std::vector<std::string>> only_env;
    bool ignore_cwd = false;
    bool ignore_namespaces = false;
    bool no_share = false;
    std::optional<unsigned> umask;
    std::optional<TerminalSize> terminal;  ///< its outputs are one
    std::optional<RunClass> run_class;     ///< in which it waits for its turn
    bool fresh = false;
    Wish wish = {};         ///< of what is kept; `fresh` is for who asks the store to add
    bool own_wish = false;  ///< one of its fields was given, be it to say none
    std::optional<std::chrono::milliseconds> timeout;
    std::optional<std::chrono::milliseconds> wait;
    std::optional<std::chrono::milliseconds> grace;
    bool keep_running = false;  ///< when its requesters leave
    Output output = Output::whole;
    bool quiet = false;  ///< no word of the start, in the modes that have one
    std::string flight;  ///< of "cancel": which flight
    int signal = 0;      ///< of "signal": its number
};

/// Why a request was refused: a code from a fixed list, and a sentence.
struct RequestError {
    std::string id;  ///< of the request, where it could be read
    std::string code;
    std::string message;
};

/// Parses one JSON object, in time that grows with its length. A line longer than `request_bytes_max` is the reader's
/// to refuse.
std::variant<Request, RequestError> parse_request(std::string_view text);

inline constexpr std::size_t request_bytes_max = 8 << 20;  ///< of a line, without its newline

}  // namespace coalesce
