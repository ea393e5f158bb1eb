// SPDX-License-Identifier: MIT
#include <coalesce/kept/remembered_times.h>

#include <exception>

#include <coalesce/engine/run.h>
#include <coalesce/io/loop.h>

namespace coalesce {

using namespace std::chrono;

std::optional<Usually> RememberedTimes::usually(const Key& key) noexcept {
    try {
        return History::of_this_user().find(History::name_of(key));
    } catch (const std::exception&) {  // no memory: no estimate
        return std::nullopt;
    }
}

void RememberedTimes::ran(const Key& key, const RunResult& result) noexcept {
    const auto time = duration_cast<milliseconds>(result.duration);
    if (time < remembered_from) return;
    try {
        loop_.post([key, time, succeeded = result.outcome.success()] {
            History::of_this_user().add(History::name_of(key), time, succeeded);
        });
    } catch (const std::exception&) {  // no memory: a shorter one
    }
}

}  // namespace coalesce
