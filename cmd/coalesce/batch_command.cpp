// coalesce batch: commands from standard input or a file.

#include <coalesce/command/duration.h>
#include <coalesce/command/size.h>
#include <coalesce/service/batch.h>

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <charconv>
#include <cstring>

#include "commands.h"
#include "parse.h"

namespace coalesce {
namespace {

// What is typed, before it is understood.
struct Typed {
    std::string input;
    std::string format = "text";
    std::string timeout;
    std::string grace;
    std::string halt;
    std::string only_env;
    std::string key;
    std::string replay_limit;
    bool null = false;
    bool json = false;
    bool tag = false;
    bool progress = false;
};

unsigned processors() {
    cpu_set_t set;
    return ::sched_getaffinity(0, sizeof set, &set) == 0 ? static_cast<unsigned>(CPU_COUNT(&set)) : 1;
}

Result<BatchOptions::Halt> parse_halt(const std::string& text) {
    const Error wrong{{}, "--halt: '" + text + "' is not soon,fail=N or now,fail=N"};
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

Result<> understand(const CLI::App& app, const Typed& typed, BatchOptions& options) {
    if (typed.null) options.delimiter = '\0';
    if (typed.json) options.input = BatchOptions::Input::json;
    if (typed.format == "json")
        options.format = Format::json;
    else if (typed.format != "text")
        return Error{{}, "--format: '" + typed.format + "' is neither text nor json"};
    if (typed.tag) {
        if (options.format == Format::json) return Error{{}, "--tag and --format json exclude each other"};
        options.format = Format::tagged;
    }
    if (app.count("--progress") > 0) options.progress = typed.progress;
    if (!typed.timeout.empty()) {
        auto timeout = parse_duration(typed.timeout);
        if (!timeout) return Error{{}, "--timeout: " + timeout.error().message()};
        if (timeout->count() > 0) options.timeout = *timeout;  // 0: none, as with timeout(1)
    }
    if (!typed.grace.empty()) {
        auto grace = parse_duration(typed.grace);
        if (!grace) return Error{{}, "--grace: " + grace.error().message()};
        options.grace = *grace;
    }
    if (!typed.halt.empty()) {
        auto halt = parse_halt(typed.halt);
        if (!halt) return halt.error();
        options.halt = *halt;
    }
    if (!typed.replay_limit.empty()) {
        auto limit = parse_size(typed.replay_limit);
        if (!limit) return Error{{}, "--replay-limit: " + limit.error().message()};
        options.executor.spool.replay_bytes = *limit;
    }
    if (app.count("--only-env") > 0) options.rules.only_env = split_list(typed.only_env);
    if (app.count("--key") > 0) options.rules.key = typed.key;
    return {};
}

Result<> open_input(const Typed& typed, BatchOptions& options) {
    if (typed.input.empty() || typed.input == "-") return {};
    options.input_fd = ::open(typed.input.c_str(), O_RDONLY | O_CLOEXEC);
    options.input_name = typed.input;
    if (options.input_fd < 0) return system_error_now("open " + typed.input);
    return {};
}

// Children, pipes and their watches take some five descriptors each.
void allow_many_descriptors() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
}

}  // namespace

int batch_command(int argc, char** argv) {
    BatchOptions options;
    options.executor.jobs = processors();
    Typed typed;
    CLI::App app;
    const auto option = [&](std::string_view flag, auto& into) { add(app, batch_text, flag, into); };
    option("--arg-file", typed.input);
    option("--null", typed.null);
    option("--json", typed.json);
    option("--jobs", options.executor.jobs);
    option("--keep-order", options.keep_order);
    option("--once", options.once);
    option("--unique", options.unique);
    option("--tag", typed.tag);
    option("--format", typed.format);
    option("--shell", options.executor.shell);
    option("--timeout", typed.timeout);
    option("--grace", typed.grace);
    option("--retries", options.retries);
    option("--halt", typed.halt);
    option("--joblog", options.joblog);
    option("--report", options.report);
    option("--html", options.html);
    option("--dry-run", options.dry_run);
    option("--progress", typed.progress);
    option("--verbose", options.verbose);
    option("--scope", options.rules.scope);
    option("--key", typed.key);
    option("--ignore-env", options.rules.ignore_env);
    option("--only-env", typed.only_env);
    option("--ignore-cwd", options.rules.ignore_cwd);
    option("--read-ahead", options.read_ahead);
    option("--replay-limit", typed.replay_limit);
    option("--spool-dir", options.executor.spool.store.directory);

    if (const auto status = parse(app, batch_text, argc, argv)) return *status;
    if (auto understood = understand(app, typed, options); !understood) return fail(understood.error().message());
    if (auto opened = open_input(typed, options); !opened) return fail("cannot " + opened.error().message());
    if (options.read_ahead == 0) options.read_ahead = 1;
    allow_many_descriptors();
    auto end = run_batch(std::move(options));
    if (!end) return fail("cannot " + end.error().message());
    if (end->die_of != 0) die_of(end->die_of);
    return end->status;
}

}  // namespace coalesce
