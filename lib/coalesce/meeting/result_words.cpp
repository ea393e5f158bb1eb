// SPDX-License-Identifier: MIT
#include <coalesce/meeting/result_words.h>

#include <cstdint>
#include <string_view>

#include <coalesce/command/duration.h>
#include <coalesce/command/title.h>

namespace coalesce {

std::string kept_words(const KeptFacts& kept) {
    return "kept result of " + kept.title + ", " + format_duration(kept.age) + " old, made in " +
           title(std::string_view(kept.directory)) + " (ran " + format_duration(kept.duration) + ")" +
           (kept.refreshing ? ", refreshing" : "");
}

std::string kept_words(const Fields& event, const std::string& own_title) {
    const auto kept = Fields::parse(event.raw("kept"));
    if (!kept) return {};
    const std::string directory = kept->bytes("directory").value_or("");
    return kept_words({.title = own_title,
                       .age = kept->time("age"),
                       .directory = directory,
                       .duration = event.time("duration"),
                       .refreshing = kept->flag("refreshing")});
}

std::string keeping_words(const Fields& event, bool verbose) {
    return verbose || event.flag("keeping_failed") ? event.text("keeping") : std::string();
}

std::string shared_words(const Fields& event) {
    const std::int64_t others = event.number("requesters") - 1;
    return "shared with " + std::to_string(others) + (others == 1 ? " other" : " others") + ", ran for " +
           format_duration(event.time("duration"));
}

}  // namespace coalesce
