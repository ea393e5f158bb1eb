// SPDX-License-Identifier: MIT
// coalesce batch: commands from standard input or a file.

#include <coalesce/batch/batch.h>

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <array>

#include "commands.h"
#include "complain.h"
#include "options.h"

namespace coalesce {
namespace {

unsigned processors() {
    cpu_set_t set;
    return ::sched_getaffinity(0, sizeof set, &set) == 0 ? static_cast<unsigned>(CPU_COUNT(&set)) : 1;
}

Result<> open_input(const std::string& path, BatchOptions& options) {
    if (path == "-") return {};
    options.input_fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    options.input_name = path;
    if (options.input_fd < 0) return system_error_now("open " + path);
    return {};
}

// Each would overwrite what the other has written.
std::string named_twice(const std::array<std::string, 3>& paths) {
    for (std::size_t i = 0; i < paths.size(); ++i)
        for (std::size_t j = 0; j < i; ++j)
            if (!paths[i].empty() && paths[i] == paths[j]) return paths[i];
    return {};
}

}  // namespace

int batch_command(int argc, char** argv) {
    TypedBatch typed;
    BatchOptions& options = typed.options;
    options.executor.jobs = processors();
    if (const auto status = read_batch(argc, argv, typed)) return *status;
    if (typed.tag && typed.format == "json") return misuse("batch", "--tag and --format json exclude each other");
    options.format = typed.tag ? Format::tagged : typed.format == "json" ? Format::json : Format::text;
    if (const auto path = named_twice({options.joblog, options.report, options.html}); !path.empty())
        return misuse("batch", "'" + path + "' cannot be two of --joblog, --report and --html");
    if (auto opened = open_input(typed.input, options); !opened) return fail("cannot " + opened.error().message());
    if (options.read_ahead == 0) options.read_ahead = 1;
    options.executor.in_child = allow_many_descriptors();
    auto end = run_batch(std::move(options));
    if (!end) return fail("cannot " + end.error().message());
    if (end->die_of != 0) die_of(end->die_of);
    return end->status;
}

}  // namespace coalesce
