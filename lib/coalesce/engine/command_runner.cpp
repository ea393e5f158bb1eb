// SPDX-License-Identifier: MIT
#include <coalesce/engine/command_runner.h>

#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <fstream>
#include <iterator>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>

#include <coalesce/command/identity.h>
#include <coalesce/command/shell_line.h>
#include <coalesce/command/title.h>
#include <coalesce/engine/job_count.h>

namespace coalesce {
namespace {

// Nothing where that is not to be had. To set the umask and set it back, as others do, would for a moment be seen by
// the other threads of a program that we are only a part of.
std::optional<mode_t> umask_shown_by_kernel() {
    constexpr std::string_view name = "\nUmask:\t";
    std::ifstream file("/proc/thread-self/status");
    const std::string status{std::istreambuf_iterator<char>(file), {}};
    const std::size_t found = status.find(name);
    if (found == std::string::npos) return std::nullopt;
    mode_t umask = 0;
    const char* const digits = status.data() + found + name.size();
    if (std::from_chars(digits, status.data() + status.size(), umask, 8).ec != std::errc()) return std::nullopt;
    return umask;
}

std::shared_ptr<const Surroundings> surroundings_here() {
    auto own = own_surroundings(umask_shown_by_kernel());
    if (!own) throw std::system_error(own.error().code, own.error().doing);
    own->identity = own_identity();
    return std::make_shared<const Surroundings>(std::move(*own));
}

// A directory that has no name any more can only be inherited.
CommandExecutor::Options inherits_directory(CommandExecutor::Options options, const Surroundings& surroundings) {
    options.directory = surroundings.cwd;
    options.directory_itself = surroundings.directory;
    return options;
}

// Appends what the extent's bytes are, in memory or in the spool's file.
void append_bytes(std::string& text, const Extent& extent) {
    if (extent.file < 0) {
        text += extent.bytes;
        return;
    }
    const std::size_t before = text.size();
    text.resize(before + extent.length);
    for (std::size_t done = 0; done < extent.length;) {
        const ssize_t got = ::pread(extent.file, text.data() + before + done, extent.length - done,
                                    static_cast<off_t>(extent.offset + done));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) throw std::system_error(got < 0 ? errno : EIO, std::system_category(), "read a run's output");
        done += static_cast<std::size_t>(got);
    }
}

}  // namespace

CommandRunner::CommandRunner(Loop& loop, KeyRules rules)
    : CommandRunner(loop, std::move(rules), {.jobs = available_processors()}) {}

CommandRunner::CommandRunner(Loop& loop, KeyRules rules, CommandExecutor::Options options)
    : rules_(std::move(rules)),
      surroundings_(surroundings_here()),
      canonical_(std::make_shared<const CanonicalSurroundings>(canonical_surroundings(*surroundings_, rules_))),
      executor_(loop, inherits_directory(std::move(options), *surroundings_)) {}

RunTicket CommandRunner::run(std::vector<std::string> argv, JoinOptions options) {
    Job job;
    job.title = title(argv);
    job.command.argv = std::move(argv);
    return submit(std::move(job), std::move(options));
}

RunTicket CommandRunner::run_line(std::string line, JoinOptions options) {
    Job job;
    job.title = title(line);
    job.command.argv = argv_of_line("/bin/sh", line);
    job.line = std::move(line);
    return submit(std::move(job), std::move(options));
}

RunTicket CommandRunner::submit(Job job, JoinOptions options) {
    const std::string words = words_of_key(job.command.argv, std::nullopt, rules_);
    job.command.surroundings = surroundings_;
    return executor_.submit(
        RequestKey{canonical_, words}, [job = std::move(job)]() mutable { return std::move(job); }, std::move(options));
}

std::string output_of(const RunResult& result, Stream stream) {
    std::string text;
    if (!result.spool || !result.spool->whole()) return text;
    SpoolReader reader(*result.spool);
    while (const auto piece = reader.next()) {
        if (piece->stream == stream) append_bytes(text, piece->extent);
        reader.advance(piece->extent.length);
    }
    return text;
}

}  // namespace coalesce
