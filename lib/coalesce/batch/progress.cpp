// SPDX-License-Identifier: MIT
#include <coalesce/batch/progress.h>

#include <coalesce/command/duration.h>
#include <coalesce/command/text.h>

#include <poll.h>
#include <unistd.h>

#include <algorithm>

#include <coalesce/io/terminal.h>
#include <coalesce/protocol/format.h>

namespace coalesce {
namespace {

using namespace std::chrono;

constexpr milliseconds redraw{100};
constexpr milliseconds plain_interval{10'000};
constexpr int bar_columns = 20;

void put(std::string_view text) {
    while (!text.empty()) {
        const ssize_t wrote = ::write(STDERR_FILENO, text.data(), text.size());
        if (wrote <= 0) return;  // nobody reads it: nothing is lost
        text.remove_prefix(static_cast<std::size_t>(wrote));
    }
}

// A terminal may be stopped, and whoever reads a pipe may be: what only shows how far we are must not wait for them.
bool would_wait() {
    pollfd state{.fd = STDERR_FILENO, .events = POLLOUT, .revents = 0};
    return ::poll(&state, 1, 0) == 0;
}

}  // namespace

std::string progress_line(const ProgressFacts& facts, nanoseconds elapsed, int columns) {
    const double seconds = std::max(duration<double>(elapsed).count(), 1e-3);
    const double rate = static_cast<double>(facts.done) / seconds;
    std::string line;
    if (facts.total_known && facts.read > 0) {
        const int filled = static_cast<int>(std::min(facts.done, facts.read) * bar_columns / facts.read);
        line = formatted("[{:#>{}}{:->{}}] {}/{}", "", filled, "", bar_columns - filled, facts.done, facts.read);
    } else {
        line = formatted("{}/{}+", facts.done, facts.read);
    }
    line +=
        formatted(" done, {} running, {} shared, {} failed, {:.1f}/s", facts.running, facts.shared, facts.failed, rate);
    if (facts.total_known && rate > 0) {
        const double left = static_cast<double>(facts.read - std::min(facts.read, facts.done)) / rate;
        line += ", ETA " + format_duration(milliseconds(static_cast<std::int64_t>(std::min(left, 1e9)) * 1000));
    }
    line.resize(std::min(line.size(), static_cast<std::size_t>(std::max(columns, 0))));
    return line;
}

Progress::Progress(Loop& loop, bool shown, UniqueFunction<ProgressFacts()> facts)
    : facts_(std::move(facts)), timer_(loop), terminal_(::isatty(STDERR_FILENO) != 0) {
    if (!shown) return;
    timer_.in_background();
    const milliseconds interval = terminal_ ? redraw : plain_interval;
    timer_.start(interval, interval, [this] { draw(); });
}

Progress::~Progress() { clear(); }

void Progress::draw() {
    if (would_wait()) return;
    const auto elapsed = steady_clock::now() - begun_;
    if (!terminal_) return put("coalesce: " + progress_line(facts_(), elapsed, 1000) + "\n");
    const int columns = static_cast<int>(terminal_columns(STDERR_FILENO).value_or(80));
    put("\r" + progress_line(facts_(), elapsed, columns - 1) + "\x1b[K");
    drawn_ = true;
}

void Progress::clear() noexcept {
    if (drawn_ && !would_wait()) put("\r\x1b[K");
    drawn_ = false;
}

void Progress::say(const std::string& text) {
    clear();
    put(text);
}

void Progress::complain(const std::string& sentence) { say("coalesce: " + visible(sentence) + "\n"); }

}  // namespace coalesce
