// SPDX-License-Identifier: MIT
// coalesce batch: commands from standard input or a file.

#include <coalesce/batch/batch.h>
#include <coalesce/engine/job_count.h>
#include <coalesce/meeting/class_turns.h>

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <utility>

#include "cluster_terms.h"
#include "commands.h"
#include "complain.h"
#include "options.h"
#include "ruled_lines.h"
#include "wrapped_command.h"

namespace coalesce {
namespace {

Result<> open_input(const std::string& path, BatchOptions& options) {
    if (path == "-") return {};
    options.input_fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    options.input_name = path;
    if (options.input_fd < 0) return system_error_now("open " + path);
    return {};
}

}  // namespace

int batch_command(int argc, char** argv) {
    TypedBatch typed;
    BatchOptions& options = typed.options;
    options.executor.jobs = available_processors();
    if (const auto status = read_batch(argc, argv, typed)) return *status;
    if (typed.tag && typed.format == "json") return misuse("batch", "--tag and --format json exclude each other");
    options.terminal = terminal_of(typed.terminal);
    options.format = typed.tag ? Format::tagged : typed.format == "json" ? Format::json : Format::text;
    if (auto opened = open_input(typed.input, options); !opened) return fail("cannot " + opened.error().message());
    if (auto checked = check(options.wish); !checked) return misuse("batch", checked.error().message());
    if (options.rules.no_share) options.wish = {};  // nor with who comes later
    options.cache_bounds = store_bounds(typed.ruled.rules);
    options.executor.class_jobs = class_jobs_of(typed.ruled.rules);
    const char* const named = std::getenv("COALESCE_PLACE");
    const std::string place = named == nullptr ? "" : named;  // where it would meet, if it met anybody
    if (options.read_ahead == 0) options.read_ahead = 1;
    if (wants_to_share(typed.sharing) && !options.dry_run) {
        auto terms = cluster_terms(typed.sharing, options.rules.no_share);
        if (!terms) return misuse("batch", terms.error().message());
        if (options.verbose && !terms->stays_here.empty()) fail(terms->stays_here);
        options.circle = std::move(terms->circle);
        options.rules.cluster = std::move(terms->rules);
    }
    options.make_refresh_program = own_refresh_program(place, options.circle ? engine_text(typed.sharing) : "",
                                                       options.executor, options.remembers);
    RuledLines ruled_lines(std::move(typed.ruled.rules), options.rules.cluster, argc, argv);
    if (ruled_lines.any())
        options.options_for = [&ruled_lines](const std::string* line, const std::vector<std::string>& words,
                                             const std::string* directory) {
            return ruled_lines.options_for(line, words, directory);
        };
    options.executor.in_child = allow_many_descriptors();
    ClassTurns turns([place] { return own_place_of_classes(place); });
    options.executor.turnstile = &turns;
    auto end = run_batch(std::move(options));
    if (!end) return fail("cannot " + end.error().message());
    if (end->die_of != 0) die_of(end->die_of);
    return end->status;
}

}  // namespace coalesce
