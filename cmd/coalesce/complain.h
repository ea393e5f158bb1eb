// Our own failures, and small readings that several subcommands share.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace coalesce {

/// Says "coalesce: SENTENCE" on stderr and returns our own failure, 125.
int fail(const std::string& sentence);

/// The parts of "A,B,C"; empty ones are left out.
[[nodiscard]] std::vector<std::string> split_list(std::string_view text);

/// Ends this process by the signal, as if it had never been caught.
[[noreturn]] void die_of(int signal);

}  // namespace coalesce
