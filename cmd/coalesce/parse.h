// SPDX-License-Identifier: MIT
// Reading a subcommand's options by its table, and saying what is wrong with them.
//
// With getopt_long rather than CLI11: a wrapper is started thousands of times, and
// CLI11 with the iostreams it brings was measured at a quarter of a start (static
// objects, locales, page faults), whether a subcommand uses it or not.
#pragma once

#include <coalesce/command/result.h>

#include <functional>
#include <optional>
#include <string_view>

#include "complain.h"
#include "options.h"

namespace coalesce {

/// Takes one option that was given, by its long name ("--jobs"); `value` is empty
/// for a switch. A refusal is explained to the user.
using TakeOption = std::function<Result<>(std::string_view name, const char* value)>;

/// Reads options up to the first word that is none; the rest begins at `first`.
/// Returns an exit status when that is the end of it: --help, or a mistake that has
/// been explained on stderr (125).
[[nodiscard]] std::optional<int> parse(const CommandText& command, int argc, char** argv, const TakeOption& take,
                                       int& first);

/// Explains a mistake in the use of `command`, and returns 125.
int misuse(const CommandText& command, const std::string& sentence);

/// Refuses words that are left after the options of a command that takes none.
[[nodiscard]] std::optional<int> refuse_words(const CommandText& command, int argc, char** argv, int first);

/// Why --key '' is refused.
[[nodiscard]] inline Error empty_key() {
    return {{}, "--key is empty: with an unset variable in it, commands of all kinds would share one result"};
}

}  // namespace coalesce
