// Reading a subcommand's options with CLI11, and saying what is wrong with them.
#pragma once

#include <coalesce/command/result.h>

#include <CLI/CLI.hpp>

#include <optional>
#include <string>

#include "complain.h"
#include "options.h"

namespace coalesce {

/// The table's entry for this flag. Aborts if there is none: an option without
/// words would be in no help and no manual.
[[nodiscard]] const OptionText& text_of(const CommandText& command, std::string_view flag);

/// Adds the option or switch that the table knows by `flag`.
template <class T>
CLI::Option* add(CLI::App& app, const CommandText& command, std::string_view flag, T& into) {
    const OptionText& text = text_of(command, flag);
    if (text.argument.empty()) return app.add_flag(std::string(text.flags), into);
    return app.add_option(std::string(text.flags), into);
}

/// Parses; an exit status when that is the end of it (--help, or a mistake that
/// has been explained on stderr: 125).
[[nodiscard]] std::optional<int> parse(CLI::App& app, const CommandText& command, int argc, char** argv);

}  // namespace coalesce
