// SPDX-License-Identifier: MIT
// The subcommands: each takes its own arguments and returns the exit status.
#pragma once

#include "options.h"

namespace coalesce {

struct Subcommand {
    const CommandText* text;
    int (*run)(int argc, char** argv);  ///< argv[0] is the subcommand's name
};

int batch_command(int argc, char** argv);
int run_command(int argc, char** argv);
int serve_command(int argc, char** argv);
int key_command(int argc, char** argv);
int status_command(int argc, char** argv);
int cancel_command(int argc, char** argv);
int stats_command(int argc, char** argv);

}  // namespace coalesce
