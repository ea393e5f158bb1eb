// SPDX-License-Identifier: MIT
#include <coalesce/command/terminal_size.h>

#include <algorithm>
#include <array>
#include <charconv>

#include <coalesce/command/command.h>

namespace coalesce {
namespace {

constexpr std::array variables =
    std::to_array<std::string_view>({"COLUMNS", "LINES", "PAGER", "GIT_PAGER", "MANPAGER", "SYSTEMD_PAGER"});

const char* read_side(const char* begin, const char* end, std::uint16_t& side) {
    const auto [stopped, error] = std::from_chars(begin, end, side);
    return error == std::errc() && side > 0 ? stopped : nullptr;
}

}  // namespace

Result<TerminalSize> parse_terminal_size(std::string_view text) {
    TerminalSize size;
    const char* const end = text.data() + text.size();
    const char* at = read_side(text.data(), end, size.columns);
    if (at != nullptr) at = at != end && *at == 'x' ? read_side(at + 1, end, size.lines) : nullptr;
    if (at != end)
        return Error{{}, display_word(text) + " is no size of a terminal: use COLUMNSxLINES, such as 120x24"};
    return size;
}

std::string text_of(TerminalSize size) { return std::to_string(size.columns) + "x" + std::to_string(size.lines); }

void set_terminal_variables(std::vector<std::string>& env, TerminalSize size) {
    for (const std::string_view name : variables) {
        const bool pages = name.ends_with("PAGER");
        const std::string value = name == "SYSTEMD_PAGER" ? ""
                                  : pages                 ? "cat"
                                                          : std::to_string(name == "LINES" ? size.lines : size.columns);
        set_env(env, name, value);
    }
}

bool is_terminal_variable(std::string_view name) {
    return std::find(variables.begin(), variables.end(), name) != variables.end();
}

}  // namespace coalesce
