// SPDX-License-Identifier: MIT
#include <coalesce/command/run_class.h>

#include <algorithm>

#include <coalesce/command/command.h>
#include <coalesce/command/number.h>

namespace coalesce {
namespace {

constexpr std::size_t name_bytes_max = 64;  // it is a file's name

bool is_name(std::string_view text) {
    return !text.empty() && text.size() <= name_bytes_max && text.front() != '.' &&
           std::all_of(text.begin(), text.end(), [](char byte) {
               return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') ||
                      byte == '.' || byte == '_' || byte == '-';
           });
}

}  // namespace

Result<RunClass> parse_run_class(std::string_view text) {
    const std::size_t colon = text.find(':');
    RunClass parsed{.name = std::string(text.substr(0, colon))};
    bool right = is_name(parsed.name);
    if (right && colon != std::string_view::npos)
        right = read_whole_number(text.substr(colon + 1), parsed.jobs) && parsed.jobs > 0;
    if (!right)
        return Error{{},
                     display_word(text) +
                         " is no class: use NAME or NAME:N, such as heavy:2; a name has letters, digits, . _ and -"};
    return parsed;
}

std::string text_of(const RunClass& run_class) {
    return run_class.jobs == 0 ? run_class.name : run_class.name + ":" + std::to_string(run_class.jobs);
}

unsigned jobs_of(const RunClass& run_class, const ClassJobs& set_up) {
    if (run_class.jobs > 0) return run_class.jobs;
    const auto found = set_up.find(run_class.name);
    return found != set_up.end() && found->second > 0 ? found->second : 1;
}

}  // namespace coalesce
