// SPDX-License-Identifier: MIT
// coalesce run: a command, or the run of the same command that is under way.

#include <coalesce/command/ancestry.h>
#include <coalesce/meeting/requester.h>

#include "commands.h"
#include "complain.h"
#include "wrapped_command.h"

namespace coalesce {

int run_command(int argc, char** argv) {
    TypedCommand typed;
    if (const auto status = read_run(argc, argv, typed)) return *status;
    auto wrapped = wrapped_command("run", std::move(typed));
    if (const int* status = std::get_if<int>(&wrapped)) return *status;
    RunOptions& run = std::get<RunOptions>(wrapped);
    if (run.socket.empty() && runs_under(run.orders.ancestry, run.orders.key))  // it asks for itself (SPEC F11)
        return fail(run.orders.title + " would wait for itself");
    const bool looks_like_a_line = !run.orders.line && run.orders.command.argv.size() == 1 &&
                                   run.orders.command.argv.front().find(' ') != std::string::npos;
    auto end = request_run(std::move(run));
    if (!end) return fail("cannot " + end.error().message());
    if (end->status == 127 && looks_like_a_line) fail("to run a shell line: coalesce run -c LINE");
    if (end->die_of != 0) die_of(end->die_of);
    return end->status;
}

}  // namespace coalesce
