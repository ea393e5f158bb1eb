// SPDX-License-Identifier: MIT
#include <coalesce/command/title.h>

#include <coalesce/command/command.h>
#include <coalesce/command/text.h>

namespace coalesce {

std::string title(std::string_view line) { return printable(line) ? std::string(line) : display_word(line); }

std::string title(const std::vector<std::string>& argv) { return display(argv); }

}  // namespace coalesce
