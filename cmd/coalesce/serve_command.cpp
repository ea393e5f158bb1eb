// SPDX-License-Identifier: MIT
// coalesce serve: requests on a unix socket.

#include <coalesce/meeting/class_turns.h>
#include <coalesce/serve/server.h>

#include <string>

#include "cluster_terms.h"
#include "commands.h"
#include "complain.h"
#include "options.h"
#include "wrapped_command.h"

namespace coalesce {
namespace {

// Where it was typed it is meant, and must do. A variable that is set for all may be meant for others: then only
// those are refused who ask for it.
Result<> find_circle(const TypedSharing& sharing, ServerOptions& options) {
    const std::string text = sharing.off ? std::string() : engine_text(sharing);
    if (text.empty()) return {};
    auto circle = circle_at(text);
    if (circle)
        options.circle = std::move(*circle);
    else if (!sharing.url.empty())
        return circle.error();
    else
        options.circle_fault = "COALESCE_CLUSTER of the server: " + circle.error().message();
    return {};
}

}  // namespace

int serve_command(int argc, char** argv) {
    TypedServe typed;
    ServerOptions& options = typed.options;
    options.executor.jobs = 0;
    if (const auto status = read_serve(argc, argv, typed)) return *status;
    options.cache_bounds = store_bounds(typed.ruled.rules);
    options.executor.class_jobs = class_jobs_of(typed.ruled.rules);
    if (auto found = find_circle(typed.sharing, options); !found) return misuse("serve", found.error().message());
    if (options.socket.empty()) {
        auto places = own_meeting_places(typed.place);
        if (!places) return fail("cannot " + places.error().message());
        options.socket = places->own().server_socket();
    }
    ClassTurns turns([place = typed.place] { return own_place_of_classes(place); });
    options.executor.turnstile = &turns;
    options.make_refresh_program = own_refresh_program(typed.place, options.circle ? engine_text(typed.sharing) : "",
                                                       options.executor, options.remembers);
    options.executor.in_child = allow_many_descriptors();
    auto ended = serve(std::move(options));
    return ended ? *ended : fail("cannot " + ended.error().message());
}

}  // namespace coalesce
