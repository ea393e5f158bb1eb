// SPDX-License-Identifier: MIT
#include <coalesce/kept/refreshes.h>

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include <coalesce/io/loop.h>
#include <coalesce/io/unnamed_file.h>

namespace coalesce {
namespace {

using namespace std::chrono;

constexpr std::size_t starting_max = 16;

// Whoever waits for one is a requester, of whom a door has only so many; but it may have gone meanwhile.
constexpr std::size_t awaited_max = 10'000;
constexpr std::size_t unawaited_max = 1024;

// Read from its beginning, by one program.
Result<Descriptor> file_of(const std::string& text) {
    auto file = make_unnamed_file("the orders of a refresh");
    if (!file) return file;
    for (std::size_t done = 0; done < text.size();) {
        const ssize_t wrote = ::write(file->get(), text.data() + done, text.size() - done);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) return system_error_now("write the orders of a refresh");
        done += static_cast<std::size_t>(wrote);
    }
    ::lseek(file->get(), 0, SEEK_SET);
    return file;
}

}  // namespace

// A run that a moment ago somebody was told to start is under way, has made another result, or counts as tried.
bool Refreshes::was_tried(const std::string& key_name, std::int64_t since, const Wish& wish) {
    const auto now = steady_clock::now();
    const auto stale = wish.stale.value_or(milliseconds(0));
    if (tried_.size() >= forget_at_) {
        std::erase_if(tried_, [now](const auto& entry) { return now - entry.second.at > entry.second.for_long; });
        forget_at_ = std::max<std::size_t>(1024, 2 * tried_.size());
    }
    const auto found = tried_.find(key_name);
    if (found != tried_.end() && found->second.since == since && now - found->second.at <= stale && !wish.fresh)
        return true;
    tried_[key_name] = {.since = since, .at = now, .for_long = stale};
    return false;
}

void Refreshes::start(const std::string& key_name, std::int64_t since, const RefreshOrders& orders, Told told) {
    if (closed_) {
        if (told) told(system_error_of(ECANCELED, "start a refresh"));
    } else if (!make_program_ || was_tried(key_name, since, orders.wish)) {
        if (told) told({});
    } else if (starting_.size() < starting_max) {
        begin(key_name, orders, std::move(told));
    } else if (waiting_.size() < (told ? awaited_max : unawaited_max)) {
        waiting_.push_back({.key_name = key_name, .orders = orders, .told = std::move(told)});
    } else {
        tried_.erase(key_name);
        if (told) told(system_error_of(EAGAIN, "start a refresh"));
    }
}

void Refreshes::start_no_more() {
    closed_ = true;
    loop_.post([waiting = std::exchange(waiting_, {})]() mutable {
        for (Waiting& one : waiting)
            if (one.told) one.told(system_error_of(ECANCELED, "start a refresh"));
    });
}

bool Refreshes::is_own(pid_t pid) const noexcept {
    return std::any_of(starting_.begin(), starting_.end(),
                       [pid](const auto& program) { return program && program->pid() == pid; });
}

void Refreshes::begin(const std::string& key_name, const RefreshOrders& orders, Told told) {
    const auto executed = execute(key_name, make_program_(orders));
    if (!executed) tried_.erase(key_name);
    if (told) told(executed);
}

Result<> Refreshes::execute(const std::string& key_name, const RefreshProgram& program) {
    const auto input = file_of(program.orders);
    if (!input) return input.error();
    const auto place = starting_.emplace(starting_.end());
    auto started =
        Child::start(loop_, {.argv = program.argv, .env = program.env, .path = program.path.c_str(), .hook = in_child_},
                     input.value(),
                     {[](Stream, std::span<const char>) {},
                      [this, place, key_name](const Outcome& outcome) {
                          if (!outcome.success()) tried_.erase(key_name);
                          starting_.erase(place);
                          while (!waiting_.empty() && starting_.size() < starting_max) {
                              Waiting next = std::move(waiting_.front());
                              waiting_.pop_front();
                              begin(next.key_name, next.orders, std::move(next.told));
                          }
                      }});
    if (!started.child) {
        starting_.erase(place);
        return system_error_of(started.error, "start a refresh");
    }
    *place = std::move(started.child);
    ++count_;
    return {};
}

}  // namespace coalesce
