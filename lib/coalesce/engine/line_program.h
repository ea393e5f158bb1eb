// SPDX-License-Identifier: MIT
// LinePrograms: which program a shell line amounts to, if it amounts to one.
//
// A line without shell syntax is executed directly, at half the cost, where
// nobody can tell the difference (SPEC B1). The decisions are the command room's;
// here they are put together and what is the same for all lines of one
// environment is computed once.
#pragma once

#include <coalesce/command/command.h>

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace coalesce {

/// A line that needs no shell.
struct LineProgram {
    std::vector<std::string> argv;
    std::string path;                     ///< what to execute
    const std::vector<std::string>* env;  ///< as a child of the shell would see it
};

class LinePrograms {
  public:
    explicit LinePrograms(const std::string& shell);

    /// The program that `line` amounts to; nothing: ask the shell. `env` in the
    /// answer is valid until the next call.
    std::optional<LineProgram> find(std::string_view line, const std::shared_ptr<const Surroundings>& surroundings);

  private:
    const std::string shell_;
    std::optional<bool> shell_understood_;              // looked at when first asked
    std::shared_ptr<const Surroundings> surroundings_;  // what the two below were computed for
    std::optional<std::vector<std::string>> env_;
    std::string path_;
};

}  // namespace coalesce
