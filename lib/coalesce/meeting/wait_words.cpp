// SPDX-License-Identifier: MIT
#include <coalesce/meeting/wait_words.h>

#include <coalesce/command/duration.h>
#include <coalesce/protocol/answer.h>

namespace coalesce {
namespace {

using namespace std::chrono;

constexpr seconds told_after{1};
constexpr seconds told_again_each{30};

system_clock::time_point time_of(double seconds) {
    return system_clock::time_point(duration_cast<system_clock::duration>(duration<double>(seconds)));
}

std::string counted(std::int64_t requesters) { return std::to_string(requesters) + " wait"; }

}  // namespace

// "make docs (pid 71), which has run for 42s, usually 1m 5s"
std::string WaitWords::about_run(const Now& now) const {
    const auto age = std::max(duration_cast<nanoseconds>(now.wall - started_), nanoseconds(0));
    const std::string where = pid_ > 0 || host_.empty() ? " (pid " + std::to_string(pid_) + ")" : " on " + host_;
    return title_ + where + ", which has run for " + format_duration(age) +
           (usually_ ? ", " + usually_->words(age) : "");
}

std::string WaitWords::about_queue(const Now& now) const {
    const bool ahead = turn_ && *turn_ > now.steady;
    return "waiting for " + (others_.empty() ? "an earlier run of " + title_ + " to end" : others_) +
           (ahead ? (others_.empty() ? ", probably in " : ", about ") + format_duration(*turn_ - now.steady) : "");
}

std::string WaitWords::started(const Fields& event, const std::string& title, const Now& now) {
    const bool joined = event.flag("joined");
    state_ = joined ? State::joined : State::started;
    title_ = event.has("command") ? event.text("command") : title;
    pid_ = event.number("pid");
    started_ = time_of(event.seconds("started"));
    usually_ = usually_in(event);
    host_ = event.text("host");
    if (verbose_ && pid_ <= 0 && !host_.empty()) return "joined " + title_ + ", which runs on " + host_;
    if (!verbose_ || pid_ <= 0) return {};
    if (joined) return "joined " + about_run(now) + "; " + counted(event.number("requesters"));
    return "started " + title_ + " (pid " + std::to_string(pid_) + ")" + (usually_ ? ", " + usually_->words() : "");
}

std::string WaitWords::waiting(const Fields& event, const std::string& title, const Now& now) {
    state_ = State::queued;
    title_ = title;
    others_.clear();
    if (const std::string run_class = event.text("class"); !run_class.empty()) {
        const std::int64_t others = event.number("others");
        others_ = (others > 0 ? std::to_string(others) + " " : "") + (others == 1 ? "other" : "others") + " of class " +
                  run_class;
    }
    turn_.reset();
    if (event.has("turn_in")) turn_ = now.steady + event.time("turn_in");
    return verbose_ ? about_queue(now) : std::string();
}

std::optional<steady_clock::time_point> WaitWords::due() const {
    if (state_ == State::unknown) return std::nullopt;
    if (verbose_) return begun_ + told_again_each * (told_ + 1);
    if (told_ > 0 || state_ == State::started) return std::nullopt;
    return begun_ + told_after;
}

std::string WaitWords::say_due(const Now& now) {
    const auto next = due();
    if (!next || now.steady < *next) return {};
    while (verbose_ && begun_ + told_again_each * (told_ + 1) <= now.steady) ++told_;
    if (!verbose_) ++told_;
    return state_ == State::queued ? about_queue(now) : "waiting for " + about_run(now);
}

}  // namespace coalesce
