// SPDX-License-Identifier: MIT
#include <coalesce/engine/run_times.h>

#include <algorithm>

#include <coalesce/command/duration.h>

namespace coalesce {

using namespace std::chrono;

std::string Usually::words(nanoseconds age) const {
    const std::string_view when = runs == 1 ? "last time" : exceeded_by(age) ? "usual" : "usually";
    const std::string length = format_duration(time);
    return exceeded_by(age) ? "longer than " + std::string(when) + " (" + length + ")"
                            : std::string(when) + " " + length;
}

milliseconds Usually::left(nanoseconds age) const noexcept {
    return std::max(time - duration_cast<milliseconds>(age), milliseconds(0));
}

}  // namespace coalesce
