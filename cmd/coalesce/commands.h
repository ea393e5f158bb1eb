// SPDX-License-Identifier: MIT
// The subcommands: each takes its own arguments and returns the exit status.
#pragma once

#include <string_view>

namespace coalesce {

struct Subcommand {
    std::string_view name;
    int (*run)(int argc, char** argv);  ///< argv[0] is the name
};

int batch_command(int argc, char** argv);
int run_command(int argc, char** argv);
int cache_command(int argc, char** argv);
int serve_command(int argc, char** argv);
int key_command(int argc, char** argv);
int status_command(int argc, char** argv);
int cluster_command(int argc, char** argv);
int cancel_command(int argc, char** argv);
int stats_command(int argc, char** argv);

}  // namespace coalesce
