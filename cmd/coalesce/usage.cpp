// SPDX-License-Identifier: MIT
#include "usage.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace coalesce {
namespace {

constexpr std::size_t text_column = 27;

// Letters changed, left out, put in too many, or swapped with their neighbour.
std::size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> before_last(b.size() + 1);
    std::vector<std::size_t> last(b.size() + 1);
    std::vector<std::size_t> row(b.size() + 1);
    std::iota(row.begin(), row.end(), std::size_t{0});
    for (std::size_t i = 1; i <= a.size(); ++i) {
        before_last.swap(last);
        last.swap(row);
        row[0] = i;
        for (std::size_t j = 1; j <= b.size(); ++j) {
            row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = std::min(row[j], before_last[j - 2] + 1);
        }
    }
    return row.back();
}

}  // namespace

std::vector<std::string_view> names_of(const OptionText& option) {
    std::vector<std::string_view> names;
    for (std::string_view rest = option.flags; !rest.empty();) {
        const std::size_t comma = std::min(rest.find(','), rest.size());
        names.push_back(rest.substr(0, comma));
        rest.remove_prefix(std::min(comma + 1, rest.size()));
    }
    return names;
}

std::string help_of(const CommandText& command) {
    std::string help = "Usage: " + std::string(command.synopsis) + "\n" + std::string(command.brief) + "\n\n";
    for (const OptionText& option : command.options) {
        std::string line = option.flags.starts_with("--") ? "      " : "  ";
        for (const std::string_view name : names_of(option)) {
            if (line.back() != ' ') line += ", ";
            line += name;
        }
        if (!option.argument.empty()) line += " " + std::string(option.argument);
        line.resize(std::max(line.size() + 1, text_column), ' ');
        help += line + std::string(option.brief) + "\n";
    }
    help += "\nExamples:\n" + std::string(command.examples);
    return help;
}

std::string general_help() {
    std::string help =
        "Usage: coalesce COMMAND [OPTION…]\n"
        "Runs each distinct command line once; whoever asks for the same meanwhile shares\n"
        "the one run: its stdout, its stderr and its exit status.\n\nCommands:\n";
    for (const CommandText* command : command_texts) {
        std::string line = "  " + std::string(command->name);
        line.resize(12, ' ');
        help += line + std::string(command->brief) + "\n";
    }
    help +=
        "\nOptions without a command are batch's. `coalesce COMMAND --help` tells more,\n"
        "`man coalesce` everything, `coalesce --version` the versions.\n\nExample:\n"
        "  printf 'sleep 1; date\\n%.0s' 1 2 3 | coalesce    one run, three answers\n";
    return help;
}

std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates) {
    std::string_view best;
    std::size_t best_distance = std::max<std::size_t>(1, word.size() / 3) + 1;
    for (const std::string_view candidate : candidates) {
        const std::size_t distance = edit_distance(word, candidate);
        if (distance < best_distance) {
            best_distance = distance;
            best = candidate;
        }
    }
    return best;
}

}  // namespace coalesce
