// SPDX-License-Identifier: MIT
// coalesce serve: requests on a unix socket.

#include <coalesce/command/duration.h>
#include <coalesce/command/size.h>
#include <coalesce/meeting/meeting_place.h>
#include <coalesce/serve/server.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "commands.h"
#include "option_values.h"
#include "parse.h"

namespace coalesce {
namespace {

// From /etc/passwd itself: a static program has no name service.
Result<uid_t> user_of(const std::string& text) {
    uid_t number = 0;
    if (take_number("", text, number)) return number;
    std::ifstream users("/etc/passwd");
    for (std::string line; std::getline(users, line);) {
        const std::size_t end_of_name = line.find(':');
        const std::size_t end_of_password = line.find(':', end_of_name + 1);
        if (end_of_password == std::string::npos || line.compare(0, end_of_name, text) != 0 ||
            end_of_name != text.size())
            continue;
        const std::size_t begin = end_of_password + 1;
        if (take_number("", std::string_view(line).substr(begin, line.find(':', begin) - begin), number)) return number;
    }
    return Error{{}, "'" + text + "' is no user"};
}

Result<> take_option(std::string_view name, const char* value, ServerOptions& options) {
    if (name == "--jobs") return take_number(name, value, options.executor.jobs);
    if (name == "--max-requesters") return take_number(name, value, options.requesters_max);
    if (name == "--max-queue") return take_number(name, value, options.queue_max);
    if (name == "--drain") return take_parsed(name, parse_duration(value), options.drain);
    if (name == "--grace") return take_parsed(name, parse_duration(value), options.grace);
    if (name == "--replay-limit") return take_parsed(name, parse_size(value), options.executor.spool.replay_bytes);
    if (name == "--allow-user") return take_parsed(name, user_of(value), options.allowed_users.emplace_back());
    if (name == "--socket") options.socket = value;
    if (name == "--shell") options.executor.shell = value;
    if (name == "--spool-dir") options.executor.spool.store.directory = value;
    if (name == "--log-level") {
        constexpr std::string_view levels[] = {"debug", "info", "warning", "error", "off"};
        if (std::find(std::begin(levels), std::end(levels), value) == std::end(levels))
            return Error{{},
                         "--log-level: '" + std::string(value) + "' is none of debug, info, warning, error and off"};
        options.log_level = value;
    }
    return {};
}

}  // namespace

int serve_command(int argc, char** argv) {
    ServerOptions options;
    options.executor.jobs = 0;
    int first = 0;
    const auto take = [&options](std::string_view name, const char* value) {
        return take_option(name, value, options);
    };
    if (const auto status = parse(serve_text, argc, argv, take, first)) return *status;
    if (const auto status = refuse_words(serve_text, argc, argv, first)) return *status;
    if (options.socket.empty()) {
        auto own = own_surroundings();
        if (!own) return fail("cannot " + own.error().message());
        auto place = MeetingPlace::open(own->env);
        if (!place) return fail("cannot " + place.error().message());
        options.socket = place->path() + "/" + MeetingPlace::socket_name(std::string(MeetingPlace::server_name));
    }
    options.executor.in_child = allow_many_descriptors();
    auto ended = serve(std::move(options));
    return ended ? *ended : fail("cannot " + ended.error().message());
}

}  // namespace coalesce
