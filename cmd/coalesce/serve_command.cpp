// SPDX-License-Identifier: MIT
// coalesce serve: requests on a unix socket.

#include <coalesce/meeting/meeting_place.h>
#include <coalesce/serve/server.h>

#include <string>

#include "commands.h"
#include "complain.h"
#include "options.h"

namespace coalesce {
int serve_command(int argc, char** argv) {
    ServerOptions options;
    options.executor.jobs = 0;
    if (const auto status = read_serve(argc, argv, options)) return *status;
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
