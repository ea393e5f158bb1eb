// SPDX-License-Identifier: MIT
#include "usage.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

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

std::string help_of(const CommandText& command) {
    std::string help = "Usage: " + command.synopsis + "\n" + command.brief + "\n\n";
    for (const OptionText& option : command.options) {
        std::string line = option.names.front().starts_with("--") ? "      " : "  ";
        for (const std::string& name : option.names) {
            if (line.back() != ' ') line += ", ";
            line += name;
        }
        if (!option.argument.empty()) line += " " + option.argument;
        line.resize(std::max(line.size() + 1, text_column), ' ');
        help += line + option.brief + "\n";
    }
    help += "\nExamples:\n" + command.examples;
    return help;
}

std::string general_help(std::span<const CommandText> commands) {
    std::string help =
        "Usage: coalesce COMMAND [OPTION…]\n"
        "Runs each distinct command line once; whoever asks for the same meanwhile shares\n"
        "the one run: its stdout, its stderr and its exit status.\n\nCommands:\n";
    for (const CommandText& command : commands) {
        std::string line = "  " + command.name;
        line.resize(12, ' ');
        help += line + command.brief + "\n";
    }
    help +=
        "\nOptions without a command are batch's. `coalesce COMMAND --help` tells more,\n"
        "`man coalesce` everything, `coalesce --version` the versions.\n\nExample:\n"
        "  printf 'sleep 1; date\\n%.0s' 1 2 3 | coalesce    one run, three answers\n";
    return help;
}

std::string nearest(std::string_view word, std::span<const std::string> candidates) {
    std::string_view best;
    std::size_t best_distance = std::max<std::size_t>(1, word.size() / 3) + 1;
    for (const std::string& candidate : candidates) {
        const bool begun = word.size() > 2 && candidate.starts_with(word);  // --time, which getopt_long(3) would take
        const std::size_t distance = begun ? 0 : edit_distance(word, candidate);
        if (distance < best_distance) {
            best_distance = distance;
            best = candidate;
        }
    }
    return std::string(best);
}

}  // namespace coalesce
