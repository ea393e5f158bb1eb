// SPDX-License-Identifier: MIT
#include <coalesce/serve/log.h>

#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <iterator>
#include <memory>
#include <string_view>
#include <utility>

// With Debian's own fmt, both header-only: no static archive of either exists.
#define SPDLOG_HEADER_ONLY
#define SPDLOG_FMT_EXTERNAL_HO
#define FMT_HEADER_ONLY
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

namespace coalesce {
namespace {

constexpr std::size_t shown_of_a_title = 200;
// With its time and level before it: a pipe that takes anything takes so much at once (pipe(7)).
constexpr std::size_t longest_sentence = PIPE_BUF - 64;

// journald keeps its own time, and takes the level from a <N> in front (sd-daemon(3)).
class JournalLevel final : public spdlog::custom_flag_formatter {
  public:
    void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
        static constexpr std::string_view prefixes[] = {"<7>", "<7>", "<6>", "<4>", "<3>", "<2>", "<6>"};
        const std::string_view prefix = prefixes[std::min<std::size_t>(message.level, std::size(prefixes) - 1)];
        out.append(prefix.data(), prefix.data() + prefix.size());
    }
    std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<JournalLevel>(); }
};

// The variable alone proves nothing: every shell below a unit inherits it.
bool stderr_is_the_journal() {
    const char* const named = std::getenv("JOURNAL_STREAM");
    struct stat info {};
    return named != nullptr && ::fstat(STDERR_FILENO, &info) == 0 &&
           std::to_string(info.st_dev) + ":" + std::to_string(info.st_ino) == named;
}

bool takes_a_line() {
    pollfd standard_error{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
    return ::poll(&standard_error, 1, 0) == 1 && (standard_error.revents & POLLOUT) != 0;
}

}  // namespace

Log::Log(const std::string& level)
    : logger_(std::make_unique<spdlog::logger>("coalesce", std::make_shared<spdlog::sinks::stderr_sink_st>())) {
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    if (stderr_is_the_journal())
        formatter->add_flag<JournalLevel>('*').set_pattern("%*%v");
    else
        formatter->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
    logger_->set_formatter(std::move(formatter));
    logger_->set_level(spdlog::level::from_str(level));
    logger_->flush_on(spdlog::level::trace);
}

Log::~Log() = default;

void Log::write(Level level, fmt::string_view sentence, fmt::format_args values) {
    static constexpr spdlog::level::level_enum levels[] = {spdlog::level::debug, spdlog::level::info,
                                                           spdlog::level::warn, spdlog::level::critical};
    const auto its_level = levels[static_cast<std::size_t>(level)];
    if (!logger_->should_log(its_level)) return;
    if (missing_ > 0 && takes_a_line())
        logger_->warn("{} lines are missing here: nobody took them", std::exchange(missing_, 0));
    if (missing_ > 0 || !takes_a_line()) return void(++missing_);
    logger_->log(its_level, formatted_values(sentence, values).substr(0, longest_sentence));
}

std::string for_the_log(const std::string& title) {
    return title.size() <= shown_of_a_title ? title : title.substr(0, shown_of_a_title) + "...";
}

}  // namespace coalesce
