// SPDX-License-Identifier: MIT
// coalesce: finds the subcommand, runs it, exits.

#include <coalesce/flight/spare_blocks.h>
#include <coalesce/meeting/refresh_orders.h>
#include "versions.h"

#include <sys/time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <string>
#include <vector>

#include "commands.h"
#include "complain.h"
#include "options.h"
#include "usage.h"

namespace coalesce {
namespace {

constexpr Subcommand all_subcommands[] = {
    {"run", run_command},       {"batch", batch_command},     {"key", key_command},     {"status", status_command},
    {"cancel", cancel_command}, {"stats", stats_command},     {"cache", cache_command}, {"rules", rules_command},
    {"serve", serve_command},   {"cluster", cluster_command},
};

// The commonest slip is to leave out `run`.
int unknown_command(const std::string& word) {
    std::vector<std::string> names;
    for (const Subcommand& subcommand : all_subcommands) names.emplace_back(subcommand.name);
    const std::string near = nearest(word, names);
    return fail("there is no command '" + word + "'; " +
                (near.empty() ? "to run it: coalesce run " + word : "did you mean " + near + "?") +
                " (see coalesce --help)");
}

const Subcommand* subcommand_named(std::string_view name) {
    for (const Subcommand& subcommand : all_subcommands)
        if (name == subcommand.name) return &subcommand;
    return nullptr;
}

int print(const std::string& text) {
    std::fputs(text.c_str(), stdout);
    return flush_output();
}

int dispatch(int argc, char** argv) {
    const std::string first = argc > 1 ? argv[1] : "";
    if (argc > 0 && masquerades(argv[0]) && (subcommand_named(first) == nullptr || is_other_program(argv[0])))
        return masquerade(argc, argv);
    if (const Subcommand* const named = subcommand_named(first)) return named->run(argc - 1, argv + 1);
    if (const Subcommand* const named = argc == 3 && first == "help" ? subcommand_named(argv[2]) : nullptr) {
        char help[] = "--help";
        char* words[] = {argv[2], help, nullptr};
        return named->run(2, words);
    }
    if (argc == 2 && first == refresh_subcommand) return refresh_command(argc - 1, argv + 1);
    const bool nothing_asked = argc == 1 && ::isatty(STDIN_FILENO) != 0;
    if (first == "--help" || first == "-h" || first == "help" || nothing_asked)
        return print(general_help(command_texts()));
    if (first == "--version")
        return print("coalesce " COALESCE_VERSION "\nwith " + library_versions() +
                     "\nCopyright the coalesce authors. Licence: MIT. No warranty.\n");
    if (argc <= 1 || first.starts_with('-')) return batch_command(argc, argv);
    return unknown_command(first);
}

int status_of(int argc, char** argv) {
    try {
        return dispatch(argc, argv);
    } catch (const std::bad_alloc&) {
        return fail("out of memory");
    } catch (const std::exception& error) {
        return fail(error.what());
    }
}

// Without the libraries' cleaning up after themselves, which the kernel does anyway: it
// touches memory all over, a twentieth of the time of a wrapper. Whoever printed has
// flushed, and looked at how that went. A leak check is part of the cleaning up.
[[noreturn]] void end_process(int status) {
    if constexpr (detail::kAddressSanitizer) {
        // Which stops us to look, and begins anew at each tick of a timer that is left.
        const itimerval none{};
        ::setitimer(ITIMER_REAL, &none, nullptr);
        std::exit(status);
    }
    ::_exit(status);
}

}  // namespace

}  // namespace coalesce

int main(int argc, char** argv) {
    coalesce::prepare_process();
    coalesce::end_process(coalesce::status_of(argc, argv));
}
