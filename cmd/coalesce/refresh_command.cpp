// SPDX-License-Identifier: MIT
// coalesce refresh-kept-result: starts the refresh that a batch or a server of ours has found to be due. Not for
// users: it stands in no help.

#include <coalesce/command/command.h>
#include <coalesce/io/boot_time.h>
#include <coalesce/meeting/refresh.h>
#include <coalesce/meeting/refresh_orders.h>

#include <unistd.h>

#include <utility>

#include "cluster_terms.h"
#include "commands.h"
#include "complain.h"
#include "wrapped_command.h"

namespace coalesce {

int refresh_command(int /*argc*/, char** /*argv*/) {
    auto text = read_to_end(STDIN_FILENO);
    if (!text) return fail("cannot " + text.error().message());
    auto task = refresh_task(*text);
    if (!task) return fail("cannot " + task.error().message());
    auto own = own_surroundings();
    if (!own) return fail("cannot " + own.error().message());
    if (!task->engine.empty()) {
        auto circle = circle_at(task->engine);
        if (!circle) return fail(circle.error().message());
        task->orders.circle = std::move(*circle);
        task->orders.asked = since_boot();
    }
    auto started = start_refresh(task->orders, own->env, task->place);
    return started ? 0 : fail("cannot " + started.error().message());
}

}  // namespace coalesce
