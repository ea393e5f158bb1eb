// SPDX-License-Identifier: MIT
// The subcommands: each takes its own arguments and returns the exit status.
#pragma once

#include <string_view>

namespace coalesce {

struct Subcommand {
    std::string_view name;
    int (*run)(int argc, char** argv);  ///< argv[0] is the name
};

/// Whether this program was called by a link that has another's name (SPEC A2).
[[nodiscard]] bool masquerades(const char* called_as);

/// Whether there is a program of that name besides us: a link may also be nothing but a shorter name.
[[nodiscard]] bool is_other_program(const char* called_as);

/// What the program of that name is to do then: `run` where a rule concerns it, else nothing but that.
int masquerade(int argc, char** argv);

int batch_command(int argc, char** argv);
int run_command(int argc, char** argv);
int cache_command(int argc, char** argv);
int rules_command(int argc, char** argv);
int refresh_command(int argc, char** argv);
int serve_command(int argc, char** argv);
int key_command(int argc, char** argv);
int status_command(int argc, char** argv);
int cluster_command(int argc, char** argv);
int cancel_command(int argc, char** argv);
int stats_command(int argc, char** argv);

}  // namespace coalesce
