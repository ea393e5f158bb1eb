// SPDX-License-Identifier: MIT
// What several subcommands do alike: complain, and prepare or end the process.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <coalesce/io/spawn.h>

namespace coalesce {

/// Says "coalesce: SENTENCE" on stderr, on one line that no terminal obeys, and returns our
/// own failure, 125.
int fail(const std::string& sentence);

/// Explains a mistake in the use of a subcommand, says where to read on, and returns 125.
int misuse(std::string_view subcommand, const std::string& sentence);

/// Writes out what was printed. Returns the exit status: 0, or 125 after saying why not;
/// when nobody reads it any more (`| head`) it ends this process by SIGPIPE.
int flush_output();

/// Lifts the limit of open descriptors as far as it goes: children, pipes and
/// their watches take some five each. The hook gives a child the old limit back.
[[nodiscard]] ChildHook allow_many_descriptors();

/// How this process takes signals, and that descriptors 0, 1 and 2 are there.
void prepare_process();

/// Becomes the command, which takes signals as if we had never been: for one that is not to be shared. Returns why
/// not, 126 or 127, after saying so; `absent` is said behind "there is no program NAME". A link of its name to this
/// program is passed over.
int become(const std::vector<std::string>& argv, const std::string& absent = {});

/// Ends this process by the signal, as if it had never been caught.
[[noreturn]] void die_of(int signal);

}  // namespace coalesce
