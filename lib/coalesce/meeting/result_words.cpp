// SPDX-License-Identifier: MIT
#include <coalesce/meeting/result_words.h>

#include <chrono>
#include <cstdint>
#include <string_view>

#include <coalesce/command/duration.h>
#include <coalesce/command/title.h>
#include <coalesce/protocol/base64.h>

namespace coalesce {
namespace {

std::string duration_in(const Fields& fields, std::string_view name) {
    return format_duration(std::chrono::milliseconds(static_cast<std::int64_t>(fields.seconds(name) * 1000)));
}

}  // namespace

std::string kept_words(const Fields& event, const std::string& own_title) {
    const auto kept = Fields::parse(event.raw("kept"));
    if (!kept) return {};
    const std::string made_in = kept->has("directory_base64") ? from_base64(kept->text("directory_base64")).value_or("")
                                                              : kept->text("directory");
    return "kept result of " + own_title + ", " + duration_in(*kept, "age") + " old, made in " +
           title(std::string_view(made_in)) + " (ran " + duration_in(event, "duration") + ")" +
           (kept->flag("refreshing") ? ", refreshing" : "");
}

std::string keeping_words(const Fields& event, bool verbose) {
    return verbose || event.flag("keeping_failed") ? event.text("keeping") : std::string();
}

std::string shared_words(const Fields& event) {
    const std::int64_t others = event.number("requesters") - 1;
    return "shared with " + std::to_string(others) + (others == 1 ? " other" : " others") + ", ran for " +
           duration_in(event, "duration");
}

}  // namespace coalesce
