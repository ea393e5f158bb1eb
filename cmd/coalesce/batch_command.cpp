// SPDX-License-Identifier: MIT
// coalesce batch: commands from standard input or a file.

#include <coalesce/command/duration.h>
#include <coalesce/command/size.h>
#include <coalesce/batch/batch.h>

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <array>
#include <charconv>

#include "commands.h"
#include "option_values.h"
#include "parse.h"

namespace coalesce {
namespace {

unsigned processors() {
    cpu_set_t set;
    return ::sched_getaffinity(0, sizeof set, &set) == 0 ? static_cast<unsigned>(CPU_COUNT(&set)) : 1;
}

Result<BatchOptions::Halt> parse_halt(const std::string& text) {
    const Error wrong{{}, "'" + text + "' is not soon,fail=N or now,fail=N"};
    const std::size_t comma = text.find(",fail=");
    if (comma == std::string::npos) return wrong;
    BatchOptions::Halt halt;
    const std::string_view when = std::string_view(text).substr(0, comma);
    if (when != "now" && when != "soon") return wrong;
    halt.now = when == "now";
    const char* const end = text.data() + text.size();
    const auto [stopped, error] = std::from_chars(text.data() + comma + 6, end, halt.failures);
    if (error != std::errc() || stopped != end || halt.failures == 0) return wrong;
    return halt;
}

Result<> take_format(std::string_view value, BatchOptions& options) {
    if (value != "text" && value != "json")
        return Error{{}, "--format: '" + std::string(value) + "' is neither text nor json"};
    options.format = value == "json" ? Format::json : Format::text;
    return {};
}

// What is typed and becomes an option only together with others.
struct Typed {
    std::string input = "-";
    bool tag = false;
};

Result<> open_input(const std::string& path, BatchOptions& options) {
    if (path == "-") return {};
    options.input_fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    options.input_name = path;
    if (options.input_fd < 0) return system_error_now("open " + path);
    return {};
}

Result<> take_option(std::string_view name, const char* value, BatchOptions& options, Typed& typed) {
    CommandExecutor::Options& executor = options.executor;
    if (name == "--jobs") return take_number(name, value, executor.jobs);
    if (name == "--retries") return take_number(name, value, options.retries);
    if (name == "--read-ahead") return take_number(name, value, options.read_ahead);
    if (name == "--format") return take_format(value, options);
    if (name == "--timeout") return take_parsed(name, parse_duration(value), options.timeout);
    if (name == "--grace") return take_parsed(name, parse_duration(value), options.grace);
    if (name == "--halt") return take_parsed(name, parse_halt(value), options.halt);
    if (name == "--replay-limit") return take_parsed(name, parse_size(value), executor.spool.replay_bytes);
    if (name == "--null") options.delimiter = '\0';
    if (name == "--json") options.input = BatchOptions::Input::json;
    if (name == "--keep-order") options.keep_order = true;
    if (name == "--once") options.once = true;
    if (name == "--unique") options.unique = true;
    if (name == "--tag") typed.tag = true;
    if (name == "--arg-file") typed.input = value;
    if (name == "--shell") executor.shell = value;
    if (name == "--joblog") options.joblog = value;
    if (name == "--report") options.report = value;
    if (name == "--html") options.html = value;
    if (name == "--dry-run") options.dry_run = true;
    if (name == "--progress") options.progress = true;
    if (name == "--no-progress") options.progress = false;
    if (name == "--verbose") options.verbose = true;
    if (name == "--scope") options.rules.scope = value;
    if (name == "--key") {
        if (*value == '\0') return empty_key();
        options.rules.key = value;
    }
    if (name == "--ignore-env") options.rules.ignore_env.emplace_back(value);
    if (name == "--only-env") options.rules.only_env = split_list(value);
    if (name == "--ignore-cwd") options.rules.ignore_cwd = true;
    if (name == "--spool-dir") executor.spool.store.directory = value;
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
    BatchOptions options;
    options.executor.jobs = processors();
    Typed typed;
    int first = 0;
    const auto take = [&](std::string_view name, const char* value) {
        return take_option(name, value, options, typed);
    };
    if (const auto status = parse(batch_text, argc, argv, take, first)) return *status;
    if (const auto status = refuse_words(batch_text, argc, argv, first)) return *status;
    if (typed.tag && options.format == Format::json)
        return misuse(batch_text, "--tag and --format json exclude each other");
    if (typed.tag) options.format = Format::tagged;
    if (const auto path = named_twice({options.joblog, options.report, options.html}); !path.empty())
        return misuse(batch_text, "'" + path + "' cannot be two of --joblog, --report and --html");
    if (auto opened = open_input(typed.input, options); !opened) return fail("cannot " + opened.error().message());
    if (options.timeout && options.timeout->count() == 0) options.timeout.reset();  // none, as with timeout(1)
    if (options.read_ahead == 0) options.read_ahead = 1;
    options.executor.in_child = allow_many_descriptors();
    auto end = run_batch(std::move(options));
    if (!end) return fail("cannot " + end.error().message());
    if (end->die_of != 0) die_of(end->die_of);
    return end->status;
}

}  // namespace coalesce
