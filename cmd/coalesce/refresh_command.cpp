// SPDX-License-Identifier: MIT
// coalesce refresh-kept-result: starts the refresh that a batch or a server of ours has found to be due. Not for
// users: it stands in no help.

#include <coalesce/command/command.h>
#include <coalesce/meeting/refresh.h>
#include <coalesce/meeting/refresh_orders.h>

#include <unistd.h>

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
    start_refresh(task->orders, own->env, task->place);
    return 0;
}

}  // namespace coalesce
